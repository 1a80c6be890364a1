"""The study over arms and seeds, as users run it."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import scripts
from small_procedural import small_procedural

from mmreid_text.engine.run_pool import config_text
from mmreid_text.file_lock import alone

ROOT = Path(__file__).parents[2]


@pytest.fixture
def study(tmp_path, monkeypatch):
    """The tool, its runs forked, in a folder with a small config."""
    spec = importlib.util.spec_from_file_location("study", ROOT / "tools/study.py")
    study = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "study", study)  # dataclasses look for their module there
    spec.loader.exec_module(study)
    monkeypatch.chdir(tmp_path)
    scripts.fork_runs(monkeypatch)

    def call(*options):
        monkeypatch.setattr(sys, "argv", ["study.py", *options])
        study.main()

    return call


def test_study_trains_every_arm_compares_them_and_does_not_repeat_what_is_done(study, tmp_path, capsys):
    (tmp_path / "small.py").write_text(config_text(small_procedural(tmp_path)))
    command = ["--config", "small.py", "--seeds", "1", "--jobs", "2", "--vary", "noise_rate=0.4", "--work-dir", "study"]
    study(*command)
    first = capsys.readouterr().out
    assert "nam - em:" in first
    assert "ROC AUC of the noise table, attribute words" in first

    rows = json.loads((tmp_path / "study/study_noise_rate.json").read_text())
    assert [row["arm"] for row in rows] == ["none", "em", "nam"]
    folders = [tmp_path / f"study/noise_rate=0.4/{arm}_0" for arm in ("none", "em", "nam")]
    assert [bool(list(folder.glob("noise_epoch_*.npz"))) for folder in folders] == [False, False, True]
    trained = [(folder / "epoch_1.pth").stat().st_mtime_ns for folder in folders]
    study(*command)
    assert capsys.readouterr().out.split("###")[1] == first.split("###")[1]
    assert [(folder / "epoch_1.pth").stat().st_mtime_ns for folder in folders] == trained


def test_study_names_the_run_that_failed(study, tmp_path):
    cfg = small_procedural(tmp_path, **{"model.init_cfg.checkpoint": "missing.pt"})
    (tmp_path / "small.py").write_text(config_text(cfg))
    with pytest.raises(SystemExit, match="error: base none seed 0 ended with exit code 1") as failed:
        study("--config", "small.py", "--seeds", "1", "--jobs", "1")
    assert str(failed.value).splitlines()[-1].startswith("  ")  # the log's end


def test_study_refuses_a_second_one_in_its_folder_and_no_processes(study, tmp_path):
    with (
        alone(tmp_path / "out/in_use.lock"),
        pytest.raises(SystemExit, match=r"error: another tools/study\.py works"),
    ):
        study("--work-dir", "out", "--config", "missing.py")
    with pytest.raises(SystemExit, match=r"error: config missing\.py does not exist"):
        study("--work-dir", "out", "--config", "missing.py")
    with pytest.raises(SystemExit, match="2"):
        study("--jobs", "0")
