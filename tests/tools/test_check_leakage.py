"""The leakage check as users call it."""

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmreid_text.datasets import CUHKPEDES, write_caption_table

pytestmark = pytest.mark.filterwarnings("ignore::mmreid_text.datasets.published.DataWarning")
ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools/check_leakage.py"


@pytest.fixture
def check(monkeypatch, capsys):
    """Calls the tool in this process; returns its exit code and what it printed."""
    spec = importlib.util.spec_from_file_location("check_leakage", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["check_leakage.py", *map(str, args), "--jobs", "1"])
        code = tool.main()
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture
def data(cuhk_root):
    """CUHK-PEDES with its table, and a training folder with a smaller copy of one of its test images in it."""
    root = cuhk_root / "CUHK-PEDES"
    table = root.with_name("CUHK-PEDES.arrow")
    tree = CUHKPEDES.read(root)
    write_caption_table(table, tree.chunks, CUHKPEDES.name, str(tree.image_root))
    test = sorted(set(CUHKPEDES(root, "test").table.images()))
    rng = np.random.default_rng(5)
    train = cuhk_root / "web"
    train.mkdir()
    for i in range(6):
        coarse = rng.integers(0, 256, (6, 3, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((48, 120), Image.Resampling.BICUBIC).save(train / f"{i}.jpg")
    with Image.open(root / "imgs" / test[1]) as image:
        image.resize((image.width * 2, image.height * 2)).save(train / "copy.jpg", quality=80)
    return train, table, test


def test_matches_are_reported(data, tmp_path, check):
    train, table, test = data
    out = tmp_path / "out"
    code, printed, _ = check(train, table, "--out", out)
    assert code == 0
    assert "web: 7 training images, hashes within 4 of 64 bits" in printed
    assert "cuhk_pedes test: 1 of 4 images match, 1 pairs" in printed
    assert "WARNING: 1 benchmark images are near-duplicates" in printed
    with open(out / "pairs.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["benchmark"], row["split"], row["benchmark_image"]) == ("cuhk_pedes", "test", test[1])
    assert row["train_image"] == "copy.jpg"
    assert 0 <= int(row["distance"]) <= 4
    content = json.loads((out / "report.json").read_text())
    assert content["train"]["images"] == 7
    (benchmark,) = content["benchmarks"]
    assert (benchmark["split"], benchmark["matched_images"], benchmark["pairs"]) == ("test", 1, 1)
    assert benchmark["pairs_by_distance"] == {row["distance"]: 1}
    sheet = np.asarray(Image.open(out / "pairs.png"))
    assert (sheet == (205, 45, 40)).all(-1).sum() > 400  # the frame of the training image
    code, again, _ = check(train, table, "--out", out, "--fail")
    assert code == 1
    assert again == printed
    assert (train.parent / "web.hashes").exists()
    assert (train.parent / "CUHK-PEDES.arrow.test.hashes").exists()


def test_splits_and_a_table_as_training_set(data, tmp_path, check):
    _, table, _ = data
    hashes = tmp_path / "hashes"
    code, printed, _ = check(
        table, table, "--splits", "val", "test", "--fail", "--out", tmp_path / "out", "--hash-dir", hashes
    )
    assert code == 0
    assert "cuhk_pedes train: 16 training images" in printed
    assert "cuhk_pedes val: 0 of 4" in printed
    assert "cuhk_pedes test: 0 of 4" in printed
    assert "No match." in printed
    assert not (tmp_path / "out/pairs.png").exists()
    assert len(list(hashes.iterdir())) == 3
    code, printed, _ = check(table, table, "--splits", "train", "--out", tmp_path / "out", "--hash-dir", hashes)
    assert "cuhk_pedes train: 16 of 16 images match" in printed


def test_unreadable_images_are_named(data, tmp_path, check):
    train, table, _ = data
    (train / "2.jpg").write_bytes((train / "2.jpg").read_bytes()[:100])
    (train / "copy.jpg").unlink()
    code, printed, _ = check(train, table, "--out", tmp_path / "out", "--fail")
    assert code == 1
    assert "unreadable: web: 2.jpg: " in printed
    assert "WARNING: 1 images cannot be read" in printed
    assert list(json.loads((tmp_path / "out/report.json").read_text())["train"]["unreadable"]) == ["2.jpg"]


def test_bad_input_is_named(data, tmp_path, check):
    train, table, _ = data
    (tmp_path / "empty").mkdir()
    cases = [
        ((tmp_path / "nowhere", table), "nowhere is no caption table, folder"),
        ((tmp_path / "empty", table), "empty holds no images"),
        ((train, table, "--splits", "dev"), "has none of the splits dev; it has train, val, test"),
        ((train, train / "0.jpg"), "0.jpg is not a complete caption table"),
    ]
    for args, message in cases:
        code, _, error = check(*args, "--out", tmp_path / "out")
        assert code == 2
        assert message in error
    (table.parent / "CUHK-PEDES").rename(table.parent / "elsewhere")
    code, _, error = check(train, table, "--out", tmp_path / "out")
    assert code == 2
    assert "imgs of" in error
    assert "does not exist. Prepare the table again" in error


def test_the_command(data, tmp_path):
    train, _, _ = data
    command = [sys.executable, str(TOOL), str(train), str(train), "--out", str(tmp_path / "out"), "--fail"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr[-2000:]
    assert "web: 7 of 7 images match" in done.stdout
