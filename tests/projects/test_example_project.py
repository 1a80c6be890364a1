"""The example project: a user's own loss and data set, plugged in by name."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "projects/example_project"


def test_own_loss_trains_from_a_config(tmp_path):
    done = subprocess.run(
        [
            sys.executable, "tools/train.py", str(PROJECT / "configs/tiny_triplet.py"),
            "--work-dir", str(tmp_path / "run"),
            "--cfg-options", "train_dataloader.dataset.num_ids=32", f"train_dataloader.dataset.cache_dir={tmp_path}",
            "train_cfg.max_epochs=1", "train_cfg.val_interval=5", "default_hooks.logger.interval=1",
            "default_hooks.checkpoint.save_best=None",
        ],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(PROJECT)}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "loss_hardesttriplet" in done.stdout + done.stderr
    assert (tmp_path / "run/epoch_1.pth").exists()


def test_own_loss_equals_a_loop(monkeypatch):
    monkeypatch.syspath_prepend(str(PROJECT))
    from triplet_loss import HardestTripletLoss

    rng = np.random.default_rng(0)
    image, text, pid = rng.normal(size=(6, 4)), rng.normal(size=(6, 4)), np.array([0, 0, 1, 2, 3, 3])
    cosine = (image / np.linalg.norm(image, axis=1)[:, None]) @ (text / np.linalg.norm(text, axis=1)[:, None]).T
    expected = 0.0
    for i in range(6):
        rivals = [j for j in range(6) if pid[j] != pid[i]]
        expected += max(0, 0.2 + max(cosine[i, j] for j in rivals) - cosine[i, i]) / 6
        expected += max(0, 0.2 + max(cosine[j, i] for j in rivals) - cosine[i, i]) / 6
    got = HardestTripletLoss(0.2)(*(torch.from_numpy(x) for x in (image, text, pid)))
    assert float(got) == pytest.approx(expected, rel=1e-9)


def test_own_dataset_takes_at_most_fifteen_lines():
    lines = (PROJECT / "configs/my_dataset.py").read_text().strip().splitlines()
    assert len(lines) <= 15
