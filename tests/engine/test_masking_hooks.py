"""Masking hooks in a real Runner on procedural people."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from small_procedural import small_procedural

from mmreid_text.engine.noise_table import NoiseTable, load_noise_table
from mmreid_text.models.token_noise import masking_probability

MASK, EOT = 49405, 49407
COUNTER = itertools.count()


class Recorder(Hook):
    """Keeps what reached the model: ids, unmasked and masked text of every iteration."""

    priority = "LOWEST"

    def __init__(self):
        self.batches = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        masked = data_batch.get("masked_text")
        self.batches.append(
            (
                runner.epoch,
                data_batch["caption_id"].clone(),
                data_batch["text"].clone(),
                None if masked is None else masked,
            )
        )


def build(tmp_path, epochs=2, hook="NoiseAwareMaskingHook", workers=0, **options):
    cfg = small_procedural(
        tmp_path,
        **{
            "train_dataloader.batch_size": 16,
            "train_dataloader.num_workers": workers,
            "train_dataloader.persistent_workers": workers > 0,
            "train_cfg.max_epochs": epochs,
            "val_dataloader": None,
            "val_cfg": None,
            "val_evaluator": None,
            "test_dataloader": None,
            "test_cfg": None,
            "test_evaluator": None,
            "default_hooks.checkpoint.save_best": None,
            "default_hooks.logger.interval": 1000,
            **options,
        },
    )
    if hook:
        cfg.custom_hooks[0]["type"] = hook
    else:
        cfg.custom_hooks = []
    cfg.work_dir = str(tmp_path / options.pop("work_dir", "run"))
    cfg.experiment_name = f"{tmp_path.name}_{next(COUNTER)}"
    cfg.visualizer.vis_backends = []
    return Runner.from_cfg(cfg)


def run(runner):
    recorder = Recorder()
    runner.register_hook(recorder)
    runner.train()
    return recorder.batches


def reals(text):
    position = torch.arange(text.shape[1])
    return (position > 0) & (position < text.argmax(1, keepdim=True))


def test_first_epoch_is_uniform_and_leaves_the_captions_alone(tmp_path):
    batches = run(build(tmp_path, epochs=1))
    drawn = total = 0
    for _, _, text, masked in batches:
        assert masked.data_ptr() != text.data_ptr()
        assert (masked[~reals(text)] == text[~reals(text)]).all()
        drawn += int((masked == MASK).sum())
        total += int(reals(text).sum())
    rate = 0.15 * 0.8
    assert abs(drawn - rate * total) < 5 * np.sqrt(total * rate * (1 - rate))


def test_table_holds_the_noise_of_the_unmasked_caption_and_drives_the_next_epoch(tmp_path):
    runner = build(tmp_path, epochs=2, **{"optim_wrapper.optimizer.lr": 0.0})  # nothing learns: noise is known
    batches = run(runner)
    hook = next(h for h in runner.hooks if type(h).__name__ == "NoiseAwareMaskingHook")
    dataset = runner.train_dataloader.dataset
    model = runner.model.eval()
    saved, stamp = load_noise_table(Path(runner.work_dir) / "noise_epoch_1.npz")
    assert stamp == {"epoch": 1, "fingerprint": dataset.fingerprint}

    # Epoch 1's table, again: from the model's public token features, in float64 loops.
    dataset.set_epoch(0)
    for index in range(0, len(dataset), 7):
        batch = torch.utils.data.default_collate([dataset[index]])
        data = model.data_preprocessor(batch)
        with torch.no_grad():
            image, text = model.token_features(data["image"], data["text"], layer=3)
        image, text = image[0, 1:].double().numpy(), text[0].double().numpy()
        for k in range(1, text.shape[0] - 1):
            r = 1 - max(text[k] @ v / np.linalg.norm(text[k]) / np.linalg.norm(v) for v in image)
            assert abs(saved[index, k] / 127.5 - r) <= 1 / 255 + 1e-3

    # Epoch 2 masks by it: where the probability is 0 nothing is drawn, elsewhere at its rate.
    expected = drawn = variance = 0.0
    for epoch, ids, text, masked in batches:
        if epoch == 0:
            continue
        r = torch.from_numpy(saved[ids.numpy(), : text.shape[1]]) / 127.5
        probability = masking_probability(r, text, 0.15)
        assert (masked[probability == 0] == text[probability == 0]).all()
        assert probability[reals(text)].std() > 0.01
        drawn += float((masked == MASK).sum())
        expected += float(0.8 * probability.sum())
        variance += float((0.8 * probability * (1 - 0.8 * probability)).sum())
    assert abs(drawn - expected) < 5 * np.sqrt(variance)
    assert (hook.table.rows[:, 1] > 0).all()


def test_uniform_hook_masks_every_epoch_alike(tmp_path):
    runner = build(tmp_path, epochs=2, hook="UniformMaskingHook", **{"model.token_noise": None})
    drawn, total = 0, 0
    for _, _, text, masked in run(runner):
        drawn += int((masked == MASK).sum())
        total += int(reals(text).sum())
    assert abs(drawn / total - 0.12) < 5 * np.sqrt(0.12 * 0.88 / total)
    assert not list(Path(runner.work_dir).glob("noise_epoch_*"))


def test_without_a_hook_nothing_is_masked(tmp_path):
    assert all(masked is None for *_, masked in run(build(tmp_path, 1, hook=None, **{"model.token_noise": None})))


def test_hook_without_estimator_says_so(tmp_path):
    with pytest.raises(AttributeError, match=r"model\.token_noise=dict"):
        run(build(tmp_path, 1, **{"model.token_noise": None}))


def state(runner):
    hook = next(h for h in runner.hooks if type(h).__name__ == "NoiseAwareMaskingHook")
    optimizer = runner.optim_wrapper.optimizer.state_dict()["state"]
    return (
        {k: v.clone() for k, v in runner.model.state_dict().items()},
        {(i, k): v for i, s in optimizer.items() for k, v in s.items()},
        np.array(hook.table.rows),
    )


def test_resuming_at_an_epoch_boundary_equals_the_straight_run_bit_for_bit(tmp_path):
    straight = build(tmp_path, epochs=3, work_dir="straight", workers=2)
    seen = run(straight)
    first = build(tmp_path, epochs=3, work_dir="halves")
    first.register_hook(StopAfter(epochs=1))
    with pytest.raises(KeyboardInterrupt):
        first.train()
    second = build(tmp_path, epochs=3, work_dir="halves", resume=True)
    again = run(second)

    assert len(again) == len(seen) * 2 // 3
    for (_, ids, _, masked), (_, ids2, _, masked2) in zip(seen[-len(again) :], again):
        assert torch.equal(ids, ids2)
        assert torch.equal(masked, masked2)
    (model, optimizer, table), (model2, optimizer2, table2) = state(straight), state(second)
    assert all(torch.equal(model[k], model2[k]) for k in model)
    assert optimizer.keys() == optimizer2.keys()
    assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(optimizer2[k])) for k, v in optimizer.items())
    assert (table == table2).all()


class StopAfter(Hook):
    """Kills the run in the middle of the epoch that follows."""

    def __init__(self, epochs):
        self.epochs = epochs

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.epoch == self.epochs and batch_idx == 1:
            raise KeyboardInterrupt


def test_resume_refuses_the_table_of_other_data(tmp_path):
    run(build(tmp_path, epochs=1))
    with pytest.raises(ValueError, match="made from other data"):
        build(tmp_path, epochs=2, resume=True, **{"train_dataloader.dataset.noise_rate": 0.5}).train()


def test_resume_without_its_table_stops(tmp_path):
    run(build(tmp_path, epochs=1))
    (tmp_path / "run/noise_epoch_1.npz").unlink()
    with pytest.raises(FileNotFoundError, match="noise table of this checkpoint is missing"):
        build(tmp_path, epochs=2, resume=True).train()


def test_load_from_starts_with_an_empty_table(tmp_path):
    run(build(tmp_path, epochs=1))
    runner = build(tmp_path, epochs=1, work_dir="second", load_from=str(tmp_path / "run/epoch_1.pth"))
    tables = []

    class First(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            hook = next(h for h in runner.hooks if type(h).__name__ == "NoiseAwareMaskingHook")
            tables.append(int(hook.table.rows.max()) if batch_idx == 0 else 0)

    runner.register_hook(First())
    runner.train()
    assert tables[0] == 0


def test_tables_are_pruned_with_their_checkpoints(tmp_path):
    runner = build(tmp_path, epochs=4, **{"default_hooks.checkpoint.max_keep_ckpts": 2})
    run(runner)
    folder = Path(runner.work_dir)
    assert sorted(p.name for p in folder.glob("epoch_*.pth")) == ["epoch_3.pth", "epoch_4.pth"]
    assert sorted(p.name for p in folder.glob("noise_epoch_*")) == ["noise_epoch_3.npz", "noise_epoch_4.npz"]


def test_a_stale_table_of_an_earlier_run_is_overwritten(tmp_path):
    (tmp_path / "run").mkdir()
    NoiseTable(3, "stale").save(tmp_path / "run/noise_epoch_1.npz", 1)
    runner = build(tmp_path, epochs=1)
    run(runner)
    assert load_noise_table(tmp_path / "run/noise_epoch_1.npz")[1]["fingerprint"] != "stale"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"default_hooks.checkpoint.out_dir": "elsewhere"}, r"checkpoint\.out_dir is 'elsewhere'.*work_dir"),
        ({"default_hooks.checkpoint.filename_tmpl": "{}.pth"}, r"checkpoint\.filename_tmpl is '{}\.pth': leave it out"),
        ({"default_hooks.checkpoint.by_epoch": False}, r"checkpoint\.by_epoch is False"),
        ({"train_cfg": dict(type="IterBasedTrainLoop", max_iters=1)}, "train_cfg is of type IterBasedTrainLoop"),
    ],
)
def test_what_parts_table_and_checkpoint_is_refused(tmp_path, options, message):
    cfg = dict(options)
    loop = cfg.pop("train_cfg", None)
    runner = build(tmp_path, epochs=1, **cfg)
    if loop:
        runner._train_loop = runner.build_train_loop(loop)
    with pytest.raises(ValueError, match=message):
        runner.train()


def test_a_training_set_of_another_kind_is_named(tmp_path):
    runner = build(tmp_path, epochs=1, hook=None)
    runner.train_loop.dataloader.dataset.__class__ = type("Plain", (torch.utils.data.Dataset,), {})
    with pytest.raises(TypeError, match=r"dataset is Plain, which has no `set_seed`, `set_epoch`, `fingerprint`"):
        runner.train()


@pytest.mark.parametrize("p", [-0.1, 1.5])
def test_p_must_be_a_share(p):
    from mmreid_text.engine.hooks import NoiseAwareMaskingHook

    with pytest.raises(ValueError, match="p must lie in"):
        NoiseAwareMaskingHook(p=p)
