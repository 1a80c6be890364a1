"""CMMT in real runs: phrases and epochs reach the model, identities do not."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from small_irra import small_irra

from mmreid_text.text_iou import LexiconPhrases


class Recorder(Hook):
    """Keeps what reached the model, and the names of its losses."""

    priority = "LOWEST"

    def __init__(self):
        self.batches, self.losses = [], []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.batches.append({key: value.clone() for key, value in data_batch.items()})

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({name.removeprefix("loss_") for name in outputs if name != "loss"})


def small_cmmt(folder, pids, **options):
    """Two epochs of CMMT; mining begins with the second, so do clusters. Validates nothing."""
    cfg = small_irra(folder, pids, epochs=2)
    cfg.model = dict(
        type="CMMT",
        image_encoder=cfg.model.image_encoder,
        text_encoder=cfg.model.text_encoder,
        losses=[dict(type="CMPMLoss", tau=0.05)],
        iou_losses=[dict(type="TextIoUCMPMLoss", tau=0.05), dict(type="HardMiningLoss", start=1)],
        cluster_memory=dict(type="ClusterMemory"),
    )
    pipeline = cfg.train_dataloader.dataset.pipeline
    cfg.train_dataloader.dataset.pipeline = [pipeline[0], dict(type="HideIdentity"), *pipeline[1:]]
    cfg.test_pipeline = cfg.test_dataloader.dataset.pipeline
    cfg.optim_wrapper = dict(optimizer=dict(type="Adam", lr=1e-3))
    cfg.custom_hooks = [
        dict(type="TextIoUHook"),
        dict(type="PseudoLabelHook", start=1, k1=4, k2=2, min_samples=2, eps=0.9),
    ]
    cfg.merge_from_dict(options)
    return cfg


def train(cfg):
    runner, recorder = Runner.from_cfg(cfg), Recorder()
    runner.register_hook(recorder)
    runner.train()
    return runner, recorder


def log_of(cfg):
    (path,) = Path(cfg.work_dir).glob("*/*.log")
    return path.read_text()


def test_no_identity_reaches_training(tmp_path):
    """The same data under other identities: the same batches, losses and weights, bit for bit."""
    outcomes = []
    for name, pids in (("pairs", [0, 0, 1, 1, 2, 2]), ("strangers", [7, 3, 40, 3, 7, 41])):
        (tmp_path / name).mkdir()
        runner, recorder = train(small_cmmt(tmp_path / name, pids))
        assert all(torch.equal(batch["pid"], batch["image_id"]) for batch in recorder.batches)
        model = runner.model
        state = {**model.state_dict(), **{side: memory.centroids for side, memory in model.memories.items()}}
        outcomes.append((recorder, state))
    (recorder, state), (other, other_state) = outcomes
    assert (
        recorder.losses
        == [{"cmpm", "textioucmpm", "image_cluster", "text_cluster"}] * 3
        + [{"cmpm", "textioucmpm", "hardmining", "image_cluster", "text_cluster"}] * 3
    )
    assert len(state["text"]) > 0  # clusters were found and read
    for batch, other_batch in zip(recorder.batches, other.batches, strict=True):
        assert all(torch.equal(batch[key], other_batch[key]) for key in batch)
    assert all(torch.equal(state[key], other_state[key]) for key in state)


def test_phrases_are_those_of_the_captions_by_row(tmp_path):
    cfg = small_cmmt(tmp_path, [0, 0, 1, 1], custom_hooks=[dict(type="TextIoUHook")], log_level="INFO")
    cfg.train_cfg.max_epochs = 1
    runner, recorder = train(cfg)
    dataset, read = runner.train_dataloader.dataset, LexiconPhrases()
    rows = recorder.batches[0]["caption_id"]
    got = runner.model._affinity(recorder.batches[0]["image_id"], rows)
    sets = [read(dataset.caption(row)) for row in rows.tolist()]
    images = recorder.batches[0]["image_id"].tolist()
    for i, one in enumerate(sets):
        for j, other in enumerate(sets):
            expected = 1 if images[i] == images[j] else len(one & other) / max(1, len(one | other))
            assert float(got[i, j]) == pytest.approx(expected, rel=1e-6)
    counts = np.array([len(read(dataset.caption(row))) for row in range(dataset.num_captions)])
    assert f"Text-IoU: {len(counts)} captions with {counts.mean():.1f} phrases each" in log_of(cfg)


def test_wordless_captions_warn_and_train(tmp_path, monkeypatch):
    monkeypatch.setattr("small_irra.WORDS", ["walks", "stands"])
    cfg = small_cmmt(tmp_path, [0, 1, 2], log_level="WARNING")
    train(cfg)
    assert "6 captions name nothing that LexiconPhrases knows, such as" in log_of(cfg)


def test_other_models_are_refused(tmp_path):
    cfg = small_irra(tmp_path, [0, 1])
    cfg.custom_hooks.append(dict(type="TextIoUHook"))
    cfg.model.num_ids = 2
    with pytest.raises(TypeError, match="the model is IRRA, which has no `set_phrases`, `set_epoch`"):
        train(cfg)
