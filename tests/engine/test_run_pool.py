"""Runs in processes of their own (failures: tests/tools/test_study.py; kills: tests/tools/test_transfer_matrix.py)."""

import numpy as np
import pytest
from mmengine.config import Config
from small_procedural import small_procedural

from mmreid_text.engine import run_pool
from mmreid_text.engine.run_pool import Run, config_text, execute
from mmreid_text.engine.training_run import train_and_test
from mmreid_text.evaluation.feature_dumps import read_dump


def test_two_processes_measure_and_dump_what_one_does(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(run_pool, "_SILENCE", 1.0)
    cfg = small_procedural(tmp_path, num_test_ids=5)
    alone = train_and_test(cfg, tmp_path / "one", checkpoint="", features=True)
    run = Run("pretrained", tmp_path / "two", cfg, checkpoint="", features=True)
    execute([run], jobs=1, nproc=2)
    assert run.metrics() == pytest.approx(alone, abs=1e-4)
    for name in ("procedural_street", "procedural_mall", "procedural_station"):
        (one, notes), (two, same) = (read_dump(tmp_path / f"{n}/features/{name}.npz") for n in ("one", "two"))
        assert notes == same
        for key, value in one.items():
            np.testing.assert_allclose(two[key], value, atol=1e-5)
    assert "at work: pretrained (testing)" in capfd.readouterr().out
    execute([run], jobs=1, nproc=2)
    assert "done before" in capfd.readouterr().out


def test_a_long_silence_ends_with_the_epochs_of_the_runs_at_work(tmp_path, capsys, monkeypatch):
    cfg = small_procedural(tmp_path)
    runs = [Run(name, tmp_path / name, cfg) for name in ("first", "second")]
    (tmp_path / "first").mkdir()
    (tmp_path / "first/last_checkpoint").write_text(str(tmp_path / "first/epoch_3.pth"))
    progress = run_pool._Progress(2)
    progress.wait(runs)
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(run_pool, "_SILENCE", 0.0)
    progress.wait(runs)
    epochs = cfg.train_cfg.max_epochs
    assert capsys.readouterr().out == f"at work: first (epoch 3 of {epochs}), second (epoch 0 of {epochs})\n"


def test_a_config_reads_as_it_was_written(tmp_path):
    cfg = small_procedural(tmp_path)
    (tmp_path / "written.py").write_text(config_text(cfg))
    assert Config.fromfile(str(tmp_path / "written.py")).to_dict() == cfg.to_dict()
