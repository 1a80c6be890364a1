"""Pseudo labels in real runs of CMMT: what reaches the model, and what does not; ranks, kills, and useless labels."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image
from pseudo_label_ranks import SIDES
from small_cmmt import PEOPLE, STEPS, small_cmmt

from mmreid_text.clustering import cluster, refine, rows_config
from mmreid_text.datasets import ProceduralPedestrians
from mmreid_text.engine.hooks import PseudoLabelHook
from mmreid_text.models.retrievers import CMMT
from mmreid_text.registry import DATASETS

TESTS = Path(__file__).parents[1]


class Watch(Hook):
    """Keeps what the model was given, with the weights of that moment, and every iteration's losses."""

    def __init__(self, patch):
        self.given, self.losses = [], []
        given, set_pseudo_labels = self.given, CMMT.set_pseudo_labels

        def noted(model, *tensors):
            weights = {key: value.clone() for key, value in model.state_dict().items()}
            given.append((dict(zip(SIDES, tensors)), weights))
            set_pseudo_labels(model, *tensors)

        patch.setattr(CMMT, "set_pseudo_labels", noted)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append({"epoch": runner.epoch, **{key: float(value.detach()) for key, value in outputs.items()}})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("people")  # with the drawn people, which all runs share


def train(folder, monkeypatch, name, change=None, **options):
    cfg = small_cmmt(folder, work_dir=name, **options)
    if change is not None:
        change(cfg)
    with monkeypatch.context() as patch:
        watch = Watch(patch)
        torch.manual_seed(0)
        runner = Runner.from_cfg(cfg)
        runner.register_hook(watch)
        runner.train()
    return runner, watch


def records(runner):
    return [json.loads(line) for line in (Path(runner.work_dir) / "pseudo_labels.jsonl").read_text().splitlines()]


def log_of(runner):
    (path,) = Path(runner.work_dir).glob("*/*.log")
    return path.read_text()


def same(one, other):
    return all(torch.equal(one[key], other[key]) for key in one)


@pytest.fixture(scope="module")
def plain(folder):
    """A run of two epochs without data workers."""
    with pytest.MonkeyPatch.context() as patch:
        return train(folder, patch, "plain", epochs=2)


def test_the_model_gets_the_clusters_of_its_own_features(plain):
    runner, watch = plain
    assert len(watch.given) == 2
    rows = DATASETS.build(rows_config(runner.cfg.train_dataloader.dataset, STEPS))
    model = runner.model
    for given, weights in watch.given:
        model.load_state_dict(weights)
        results = [model.test_step({key: [value] for key, value in rows[i].items()})[0] for i in range(len(rows))]
        image = torch.stack([result["image_feat"] for result in results]).numpy()
        text = torch.cat([result["text_feats"] for result in results]).numpy()
        owner = np.repeat(np.arange(len(rows)), [len(result["text_feats"]) for result in results])
        found = [cluster(feats, k1=6, k2=2, min_samples=2).labels for feats in (image, text)]
        assert (found[1] < 0).any()
        labels = refine(image, text, *found, owner)
        assert (labels[1] != found[1]).any()
        for side, feats, expected in zip(("image", "text"), (image, text), labels):
            np.testing.assert_array_equal(given[f"{side}_labels"].numpy(), expected)
            unit = feats / np.linalg.norm(feats, axis=1, keepdims=True)
            means = np.stack([unit[expected == c].mean(axis=0) for c in range(expected.max() + 1)])
            means /= np.linalg.norm(means, axis=1, keepdims=True)
            np.testing.assert_allclose(given[f"{side}_centroids"].numpy(), means, atol=1e-5)
    assert not same(*(given for given, _ in watch.given))
    assert model.training


def test_labels_make_losses_and_nothing_else_does(plain, folder, monkeypatch):
    clusters = ("loss_image_cluster", "loss_text_cluster")
    assert all(min(losses[key] for key in clusters) > 0 for losses in plain[1].losses)
    runner, watch = train(folder, monkeypatch, "late", epochs=3, labels=dict(start=1, interval=2, refine=False))
    assert len(watch.given) == 1
    for losses in watch.losses:
        assert [losses[key] > 0 for key in clusters] == [losses["epoch"] >= 1] * 2
    (record,) = records(runner)
    assert record["epoch"] == 2
    assert record["text"]["outliers"] > record["text"]["rescued"] == 0
    assert [path.name for path in (Path(runner.work_dir) / "clusters").iterdir()] == ["epoch_2.png"]


def test_neither_workers_nor_identities_change_anything(plain, folder, monkeypatch):
    generator = np.random.default_rng(0)
    monkeypatch.setattr(
        ProceduralPedestrians, "caption_pids", lambda self: generator.integers(0, PEOPLE, self.num_captions)
    )
    runner, watch = train(folder, monkeypatch, "other", epochs=2, workers=2)
    assert all(same(a, b) for (a, _), (b, _) in zip(watch.given, plain[1].given, strict=True))
    ends = [torch.load(Path(r.work_dir) / "epoch_2.pth", weights_only=True) for r in (runner, plain[0])]
    assert same(ends[0]["state_dict"], ends[1]["state_dict"])
    told = [records(r)[0]["image"] for r in (runner, plain[0])]
    assert told[0]["clusters"] == told[1]["clusters"]
    assert told[0]["after"]["ari"] < 0.3 < told[1]["after"]["ari"]


def test_what_is_written_of_each_epoch(plain):
    runner, watch = plain
    first, second = records(runner)
    assert (first["epoch"], second["epoch"]) == (1, 2)
    given = watch.given[0][0]
    for side, size in (("image", 4 * PEOPLE), ("text", len(given["text_labels"]))):
        facts, labels = first[side], given[f"{side}_labels"].numpy()
        assert facts["clusters"] == labels.max() + 1 == len(given[f"{side}_centroids"])
        assert facts["outliers"] - facts["rescued"] == (labels < 0).sum()
        assert 0 < facts["largest"] < size
        assert facts["before"].keys() == facts["after"].keys() == {"precision", "recall", "ari", "nmi"}
    assert first["text"]["rescued"] > 0
    assert first["text"]["after"]["recall"] > first["text"]["before"]["recall"]
    assert first["seconds"].keys() == {"features", "labels"}
    with Image.open(Path(runner.work_dir) / "clusters/epoch_2.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 500
    assert not (Path(runner.work_dir) / "clusters/epoch_1.png").exists()


def test_a_run_that_finds_nothing_goes_on(folder, monkeypatch):
    runner, watch = train(folder, monkeypatch, "outliers", labels=dict(min_samples=49, diagnose=False, draw_interval=1))
    assert (watch.given[0][0]["image_labels"] == -1).all()
    assert watch.given[0][0]["image_centroids"].shape == (0, 64)
    assert all(losses["loss_image_cluster"] == 0 < losses["loss_itc"] for losses in watch.losses)
    assert "no cluster was found, all 48 image features are outliers" in log_of(runner)
    assert "after" not in records(runner)[0]["image"]


def test_a_run_that_starts_anew_forgets_the_records_of_the_last(folder, monkeypatch):
    labels = dict(diagnose=False)
    train(folder, monkeypatch, "again", epochs=2, labels=labels)
    runner, _ = train(folder, monkeypatch, "again", epochs=2, labels=labels | dict(start=1))
    assert [record["epoch"] for record in records(runner)] == [2]


def test_features_that_are_not_finite_stop_training(folder, monkeypatch):
    encode = CMMT.encode_text
    monkeypatch.setattr(CMMT, "encode_text", lambda self, *args: encode(self, *args) / 0)
    with pytest.raises(ValueError, match=r"of 96 text features are not finite before epoch 1: training has diverged"):
        train(folder, monkeypatch, "diverged")


def test_copies_of_one_image_and_captions_of_one_cluster_go_on(folder, monkeypatch):
    monkeypatch.setattr(
        ProceduralPedestrians, "image_fields", lambda self, row: {"img": np.full((64, 32, 3), 90, np.uint8)}
    )
    runner, watch = train(folder, monkeypatch, "copies")
    assert (watch.given[0][0]["image_labels"] == 0).all()
    log = log_of(runner)
    assert "one cluster holds 48 of 48 image features" in log
    assert "48 of 48 images have the features of another image" in log
    assert all(np.isfinite(list(losses.values())).all() for losses in watch.losses)


def test_ranks_kills_and_resumes(tmp_path):
    done = subprocess.run(
        [sys.executable, TESTS / "pseudo_label_ranks.py", tmp_path],
        env={**os.environ, "PYTHONPATH": str(TESTS), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    def labels(run, epoch, rank=0):
        return torch.load(tmp_path / run / f"labels_{epoch}_{rank}.pt", weights_only=True)

    # All ranks get the same, to the bit.
    assert same(labels("two ranks", 0, 0), labels("two ranks", 0, 1))
    one, two = labels("whole", 0), labels("two ranks", 0)  # and what one process gets
    for key in SIDES:
        torch.testing.assert_close(two[key], one[key], rtol=0, atol=0 if "labels" in key else 1e-6)

    assert not same(labels("whole", 1), labels("whole", 0))
    for epoch in range(2):  # a run killed in the second epoch makes the same labels again
        assert same(labels("killed", epoch), labels("whole", epoch))
        for rank in range(2):
            assert same(labels("statistics killed", epoch, rank), labels("statistics", epoch, 0))
    whole, killed = (torch.load(tmp_path / run / "epoch_2.pth", weights_only=True) for run in ("whole", "killed"))
    assert same(whole["state_dict"], killed["state_dict"])
    epochs = [json.loads(line)["epoch"] for line in (tmp_path / "killed/pseudo_labels.jsonl").read_text().splitlines()]
    assert epochs == [1, 2]


@pytest.fixture(scope="module")
def held(folder):
    """A run of two epochs by the labels of the first."""
    with pytest.MonkeyPatch.context() as patch:
        return train(folder, patch, "held", epochs=2, labels=dict(interval=2))


class OnGPU:
    """A tensor of a checkpoint as mmengine reads it where there is a GPU."""

    def __init__(self, tensor):
        self.cpu = lambda: tensor


class ReadOntoGPU(Hook):
    priority = "VERY_HIGH"

    def after_load_checkpoint(self, runner, checkpoint):
        kept = checkpoint["pseudo_labels"]
        kept.update({side: OnGPU(kept[side]) for side in ("image", "text")})


def test_labels_and_memories_hold_over_a_resume(held, plain, folder, monkeypatch):
    def resume(cfg):
        cfg.resume, cfg.load_from = True, str(Path(held[0].work_dir) / "epoch_1.pth")
        cfg.custom_hooks.append(dict(type=ReadOntoGPU))

    runner, watch = train(folder, monkeypatch, "resumed", epochs=2, labels=dict(interval=2), change=resume)
    (given, _), (before, _) = watch.given[0], held[1].given[0]
    assert len(watch.given) == len(held[1].given) == 1
    assert same({key: before[key] for key in SIDES[:2]}, given)
    assert not torch.equal(before["text_centroids"], given["text_centroids"])  # the first epoch moved them
    ends = [torch.load(Path(r.work_dir) / "epoch_2.pth", weights_only=True) for r in (runner, held[0], plain[0])]
    assert same(ends[0]["state_dict"], ends[1]["state_dict"])
    assert not same(ends[0]["state_dict"], ends[2]["state_dict"])
    assert "pseudo_labels" not in ends[2]  # every epoch has its own


def test_labels_of_other_data_are_refused(held, folder):
    cfg = small_cmmt(folder, epochs=3, labels=dict(interval=2), work_dir="other_data")
    cfg.resume, cfg.load_from = True, str(Path(held[0].work_dir) / "epoch_2.pth")
    cfg.train_dataloader.dataset.num_ids = PEOPLE - 2
    with pytest.raises(ValueError, match="pseudo labels are of other data than 'procedural_street'"):
        Runner.from_cfg(cfg).train()


def test_what_is_missing_is_named(folder):
    cfg = small_cmmt(folder, work_dir="no_pipeline")
    cfg.pop("test_pipeline")
    with pytest.raises(ValueError, match="define test_pipeline in the config"):
        Runner.from_cfg(cfg).train()
    cfg = small_cmmt(folder, work_dir="no_labels")
    cfg.model.type = "DualEncoder"
    for key in ("iou_losses", "cluster_memory"):
        cfg.model.pop(key)
    with pytest.raises(TypeError, match="the model is DualEncoder, which has no `set_pseudo_labels`"):
        Runner.from_cfg(cfg).train()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"k1": 0}, "k1=0"),
        ({"draw_interval": 0}, "draw_interval=0"),
        ({"eps": 1.0}, r"eps=1.0 must lie in \(0, 1\)"),
        ({"start": -1}, "start=-1"),
    ],
)
def test_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        PseudoLabelHook(**kwargs)
