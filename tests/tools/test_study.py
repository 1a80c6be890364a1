"""The study over arms and seeds, as users run it."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from small_procedural import small_procedural

from mmreid_text.file_lock import alone

ROOT = Path(__file__).parents[2]


def test_study_trains_every_arm_compares_them_and_does_not_repeat_what_is_done(tmp_path):
    cfg = small_procedural(tmp_path)
    cfg.dump(str(tmp_path / "small.py"))
    command = [sys.executable, str(ROOT / "tools/study.py"), "--config", "small.py", "--seeds", "1", "--jobs", "2"]
    command += ["--vary", "noise_rate=0.4", "--work-dir", "study"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert first.returncode == 0, first.stderr[-3000:]
    assert "nam - em:" in first.stdout
    assert "ROC AUC of the noise table, attribute words" in first.stdout

    rows = json.loads((tmp_path / "study/study_noise_rate.json").read_text())
    assert [row["arm"] for row in rows] == ["none", "em", "nam"]
    folders = [tmp_path / f"study/noise_rate=0.4/{arm}_0" for arm in ("none", "em", "nam")]
    assert [bool(list(folder.glob("noise_epoch_*.npz"))) for folder in folders] == [False, False, True]
    trained = [(folder / "epoch_1.pth").stat().st_mtime_ns for folder in folders]
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert again.stdout.split("###")[1] == first.stdout.split("###")[1]
    assert [(folder / "epoch_1.pth").stat().st_mtime_ns for folder in folders] == trained


def test_study_names_the_run_that_failed(tmp_path):
    cfg = small_procedural(tmp_path, **{"model.init_cfg.checkpoint": "missing.pt"})
    cfg.dump(str(tmp_path / "small.py"))
    command = [sys.executable, str(ROOT / "tools/study.py"), "--config", "small.py", "--seeds", "1", "--jobs", "1"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode != 0
    assert result.stderr.splitlines()[-1].startswith("  ")  # the log's end, with no traceback of the tool behind it
    assert "error: base none seed 0 ended with exit code 1" in result.stderr


def test_study_refuses_a_second_one_in_its_folder_and_no_processes(tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("study", ROOT / "tools/study.py")
    study = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "study", study)  # dataclasses look for their module there
    spec.loader.exec_module(study)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["study.py", "--work-dir", "out", "--config", "missing.py"])
    with (
        alone(tmp_path / "out/in_use.lock"),
        pytest.raises(SystemExit, match=r"error: another tools/study\.py works"),
    ):
        study.main()
    with pytest.raises(SystemExit, match=r"error: config missing\.py does not exist"):
        study.main()
    monkeypatch.setattr(sys, "argv", ["study.py", "--jobs", "0"])
    with pytest.raises(SystemExit, match="2"):
        study.main()
