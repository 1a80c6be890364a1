"""IRRA in real runs: identities of any numbering, the classifier's size, the identity sampler, and resuming."""

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from small_irra import small_irra

from mmreid_text.engine.config import set_num_ids
from mmreid_text.engine.hooks import IdentityLabelHook
from mmreid_text.engine.training_run import train_and_test


class Recorder(Hook):
    """Keeps what reached the model."""

    priority = "LOWEST"

    def __init__(self):
        self.batches = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.batches.append({key: value.clone() for key, value in data_batch.items()})


class StopAfter(Hook):
    """Kills the run in the middle of the epoch that follows."""

    def __init__(self, epochs):
        self.epochs = epochs

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.epoch == self.epochs and batch_idx == 1:
            raise KeyboardInterrupt


def train(cfg, *hooks):
    set_num_ids(cfg)
    runner = Runner.from_cfg(cfg)
    recorder = Recorder()
    for hook in (recorder, *hooks):
        runner.register_hook(hook)
    runner.train()
    return runner, recorder.batches


@pytest.mark.parametrize(
    "pids",
    [[3, 3, 4, 4, 5, 5], [0, 0, 7, 7, 40, 40, 41], [12], [2, 99_999_999, 5, 5]],
    ids=["not from 0", "gaps", "one image", "an image each, out of order"],
)
def test_labels_count_the_identities_whatever_their_numbers(pids, tmp_path):
    cfg = small_irra(tmp_path, pids)
    runner, batches = train(cfg)
    identities = sorted(set(pids))
    assert cfg.model.num_ids == len(identities)
    assert runner.model.classifier.weight.shape == (len(identities), 8)
    assert sum(len(batch["label"]) for batch in batches) == 2 * len(pids)
    for batch in batches:
        for image, label in zip(batch["image_id"].tolist(), batch["label"].tolist()):
            assert identities[label] == pids[image]
        assert batch["label"].dtype == torch.int64


def test_number_of_identities_is_filled_in_where_labels_are_wanted(tmp_path):
    cfg = small_irra(tmp_path, [4, 8, 8])
    shared = cfg.copy()
    set_num_ids(shared)
    assert shared.model.num_ids == 2
    assert cfg.model.num_ids is None  # a copy's is its own
    cfg.model.num_ids = 5
    set_num_ids(cfg)
    assert cfg.model.num_ids == 5
    cfg.model.num_ids, cfg.custom_hooks = None, []
    set_num_ids(cfg)
    assert cfg.model.num_ids is None


@pytest.mark.parametrize("stated", [5, None])
def test_another_number_of_classes_is_refused(stated, tmp_path):
    cfg = small_irra(tmp_path, [4, 8, 8])
    cfg.model.num_ids = stated
    with pytest.raises(
        ValueError, match=rf"has 2 identities, but the model's num_ids is {stated}\. Set model\.num_ids=2"
    ):
        Runner.from_cfg(cfg).train()


def test_an_unknown_identity_is_refused():
    hook = IdentityLabelHook()
    hook.identities = np.array([3, 8, 20])
    batch = {"pid": torch.tensor([20, 3, 3, 8])}
    hook.before_train_iter(None, 0, batch)
    assert batch["label"].tolist() == [2, 0, 0, 1]
    for stranger in (0, 9, 21):
        with pytest.raises(ValueError, match=rf"identity {stranger} of a batch is none of .*, 3 to 20"):
            hook.before_train_iter(None, 0, {"pid": torch.tensor([3, stranger])})


def test_noise_aware_masking_with_the_masked_language_loss(tmp_path):
    cfg = small_irra(tmp_path, [4, 8, 8, 9], epochs=2)
    cfg.model.update(sdm_on_masked=True, token_noise=dict(type="PatchSimilarityNoise", layer=1))
    cfg.custom_hooks = [dict(type="NoiseAwareMaskingHook", p=0.4)]
    runner, batches = train(cfg)
    assert runner.model.classifier is None
    assert (tmp_path / "run/noise_epoch_2.npz").exists()
    assert set(runner.message_hub.log_scalars) >= {"train/loss_sdm", "train/loss_mlm"}
    assert "train/loss_id" not in runner.message_hub.log_scalars
    drawn = [batch["mlm_labels"] != 0 for batch in batches]
    assert all((batch["masked_text"] == batch["text"])[~own].all() for batch, own in zip(batches, drawn))
    assert sum(int(own.sum()) for own in drawn) > 0


def test_identity_sampler_in_a_run(tmp_path):
    sampler = dict(type="IdentitySampler", num_identities=3, num_instances=2)
    pids = [7, 7, 9, 30, 30, 31]
    _, batches = train(small_irra(tmp_path, pids, batch_size=6, sampler=sampler))
    assert len(batches) == 2
    for batch in batches:
        assert sorted(torch.unique(batch["pid"], return_counts=True)[1].tolist()) == [2, 2, 2]
    with pytest.raises(ValueError, match=r"3 identities x 2 captions, but train_dataloader\.batch_size=4"):
        train(small_irra(tmp_path, pids, "other", batch_size=4, sampler=sampler))


def test_train_and_test_fills_in_the_number_and_leaves_its_config(tmp_path):
    cfg = small_irra(tmp_path, [7, 7, 9, 30])
    metrics = train_and_test(cfg, tmp_path / "run")
    assert cfg.model.num_ids is None
    assert {"tiny/R1", "mean/R1"} <= metrics.keys()
    state = torch.load(tmp_path / "run/epoch_1.pth", weights_only=True)["state_dict"]
    assert state["classifier.bias"].shape == (3,)


@pytest.mark.parametrize("sampler", ["ArraySampler", "IdentitySampler"])
def test_a_killed_run_goes_on_bit_for_bit(sampler, tmp_path):
    pids = [7, 7, 9, 9, 30, 31]
    options = {"ArraySampler": {}, "IdentitySampler": dict(num_identities=2, num_instances=2)}[sampler]

    def cfg(work_dir, **more):
        cfg = small_irra(tmp_path, pids, work_dir, epochs=2, sampler=dict(type=sampler, **options))
        cfg.merge_from_dict(more)
        return cfg

    straight, seen = train(cfg("straight"))
    with pytest.raises(KeyboardInterrupt):
        train(cfg("halves"), StopAfter(epochs=1))
    resumed, again = train(cfg("halves", resume=True))
    assert len(again) == len(seen) // 2
    for batch, other in zip(seen[-len(again) :], again):
        for key in ("caption_id", "masked_text", "mlm_labels", "label"):
            assert torch.equal(batch[key], other[key])
    model, other = straight.model.state_dict(), resumed.model.state_dict()
    assert all(torch.equal(model[key], other[key]) for key in model)
    states = [runner.optim_wrapper.optimizer.state_dict()["state"] for runner in (straight, resumed)]
    assert states[0].keys() == states[1].keys()
    for i, state in states[0].items():
        assert all(torch.equal(torch.as_tensor(v), torch.as_tensor(states[1][i][k])) for k, v in state.items())
