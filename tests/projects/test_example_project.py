"""The example project: a user's own loss and data set, plugged in by name."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import scripts
import torch
from PIL import Image
from small_flagship import SMALL

ROOT = Path(__file__).parents[2]
PROJECT = ROOT / "projects/example_project"


def test_own_loss_trains_from_a_config(tmp_path):
    done = scripts.run(
        "tools/train.py", PROJECT / "configs/tiny_triplet.py", "--work-dir", tmp_path / "run",
        "--cfg-options", "train_dataloader.dataset.num_ids=32", f"train_dataloader.dataset.cache_dir={tmp_path}",
        "train_cfg.max_epochs=1", "train_cfg.val_interval=5", "default_hooks.logger.interval=1",
        "default_hooks.checkpoint.save_best=None",
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
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


def test_own_dataset_is_tested(tmp_path):
    (snippet,) = re.findall(r"```python\n(.*?)```", (PROJECT / "README.md").read_text(), re.DOTALL)
    (tmp_path / "data/my_images").mkdir(parents=True)
    for name in ("0001_a.jpg", "0002_a.jpg"):
        Image.new("RGB", (40, 100), "red").save(tmp_path / "data/my_images" / name)
    (tmp_path / "write.py").write_text(snippet.replace('"data/', f'"{tmp_path}/data/'))
    assert scripts.run(tmp_path / "write.py").returncode == 0
    done = scripts.run(
        "tools/test.py", PROJECT / "configs/my_dataset.py", "", "--work-dir", tmp_path / "run", "--cfg-options", *SMALL,
        env={**os.environ, "DATA_ROOT": str(tmp_path / "data")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    results = json.loads((tmp_path / "run/results.json").read_text())
    assert results["my_dataset/R5"] == 100  # of two images
    assert 0 <= results["my_dataset/mAP"] <= 100
    assert (tmp_path / "run/rank_strips/my_dataset.png").exists()


def test_own_dataset_takes_at_most_fifteen_lines():
    lines = (PROJECT / "configs/my_dataset.py").read_text().strip().splitlines()
    assert len(lines) <= 15
