"""The command-line tools as a user calls them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import scripts
import torch
from small_flagship import SMALL

ROOT = Path(__file__).parents[2]
FLAGSHIP = "configs/nam/clip_b16_luperson.py"
TINY = "configs/nam/tiny_procedural.py"


def call(*args, env=None):
    return scripts.run(*args, env={**os.environ, **(env or {})})


def test_training_without_data_names_folder_and_page(tmp_path):
    done = call("tools/train.py", FLAGSHIP, env={"DATA_ROOT": str(tmp_path)})
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert f"{tmp_path}/LUPerson-MLLM" in last
    assert "docs/data.md" in last
    assert "Traceback" not in done.stderr


def test_misspelt_option_stops_at_once():
    done = call("tools/train.py", TINY, "--cfg-options", "train_dataloader.batchsize=4")
    assert done.returncode != 0
    assert "'batch_size'" in done.stderr.strip().splitlines()[-1]


def test_missing_checkpoint_stops_at_once():
    done = call("tools/test.py", TINY, "nowhere.pth")
    assert done.returncode != 0
    assert "nowhere.pth does not exist" in done.stderr


def test_missing_start_stops_at_once(tmp_path):
    done = call("tools/train.py", TINY, "--resume", tmp_path / "epoch_9.pth")
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1] == f"error: checkpoint {tmp_path}/epoch_9.pth does not exist"
    done = call("tools/train.py", TINY, "--cfg-options", f"model.init_cfg.checkpoint={tmp_path}/clip.pt")
    assert done.returncode != 0
    assert "clip.pt do not exist. Train the config whose run writes them" in done.stderr.strip().splitlines()[-1]


@pytest.fixture
def published(tmp_path, luperson_root, cuhk_root, icfg_root, rstp_root):
    """One data root with all four published layouts in it."""
    for root in (luperson_root, cuhk_root, icfg_root, rstp_root):
        for folder in Path(root).iterdir():
            if folder.is_dir() and not (tmp_path / "data" / folder.name).exists():
                shutil.copytree(folder, tmp_path / "data" / folder.name)
    return tmp_path / "data"


def test_flagship_trains_and_evaluates_on_cpu_from_the_published_layout(published, tmp_path):
    done = call(
        "tools/train.py", FLAGSHIP, "--work-dir", tmp_path / "run", "--cfg-options", *SMALL,
        env={"DATA_ROOT": str(published)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run/epoch_1.pth").exists()
    assert (tmp_path / "run/noise_epoch_1.npz").exists()
    done = call(
        "tools/test.py", FLAGSHIP, tmp_path / "run/epoch_1.pth", "--work-dir", tmp_path / "run",
        "--cfg-options", *SMALL,
        env={"DATA_ROOT": str(published)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list((tmp_path / "run/rank_strips").glob("*.png"))) == 3
    done = call(
        "tools/noise_report.py", FLAGSHIP, tmp_path / "run/noise_epoch_1.npz",
        "--cfg-options", "train_dataloader.dataset.sources=None",
        env={"DATA_ROOT": str(published)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "noun" in done.stdout
    results = json.loads((tmp_path / "run/results.json").read_text())
    for dataset in ("cuhk_pedes", "icfg_pedes", "rstpreid", "mean"):
        assert 0 <= results[f"{dataset}/R1"] <= 100
        assert {f"{dataset}/{m}" for m in ("R5", "R10", "mAP", "mINP", "i2t_R1")} <= results.keys()


def tiny_options(tmp_path, **more):
    options = {
        "train_dataloader.dataset.num_ids": 64,
        "train_dataloader.dataset.cache_dir": tmp_path / "cache",
        "train_dataloader.batch_size": 32,
        "train_cfg.max_epochs": 2,
        "train_cfg.val_interval": 10,
        "default_hooks.checkpoint.save_best": "None",
        **more,
    }
    return [f"{key}={value}" for key, value in options.items()]


def test_dist_train_runs_two_processes_and_resumes(tmp_path):
    command, two = ["tools/train.py", TINY, "--work-dir", str(tmp_path / "run")], {"train_dataloader.batch_size": 64}
    done = call(*command, "--cfg-options", *tiny_options(tmp_path, **two, **{"train_cfg.max_epochs": 1}))
    assert done.returncode == 0, done.stderr[-3000:]
    command[:1] = ["bash", "tools/dist_train.sh"]
    done = subprocess.run(
        [*command[:3], "2", *command[3:], "--resume", "--cfg-options", *tiny_options(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "MASTER_PORT": "29611"},
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    last = torch.load(tmp_path / "run/epoch_2.pth", weights_only=True)
    assert last["meta"]["epoch"] == 2
    assert last["meta"]["global_batch"] == 2 * 32
    assert (tmp_path / "run/noise_epoch_2.npz").exists()


def test_a_killed_run_goes_on_from_its_last_epoch(tmp_path):
    options = tiny_options(tmp_path, **{"train_cfg.max_epochs": 3})
    command = ["tools/train.py", TINY, "--work-dir", tmp_path / "run"]
    training = scripts.Script(*command, "--cfg-options", *options)
    end = time.monotonic() + 200
    while not (tmp_path / "run/last_checkpoint").exists() and training.poll() is None and time.monotonic() < end:
        time.sleep(0.02)
    training.kill()
    assert training.wait() == -signal.SIGKILL
    done = call(*command, "--resume", "--cfg-options", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "resumed epoch" in done.stdout + done.stderr
    assert (tmp_path / "run/epoch_3.pth").exists()


def test_amp_runs_in_bfloat16_on_cpu(tmp_path):
    done = call(
        "tools/train.py", TINY, "--amp", "--work-dir", tmp_path / "run",
        "--cfg-options", *tiny_options(tmp_path, **{"train_cfg.max_epochs": 1}),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    weights = torch.load(tmp_path / "run/epoch_1.pth", weights_only=True)["state_dict"]
    assert all(v.dtype == torch.float32 for v in weights.values() if v.is_floating_point())
