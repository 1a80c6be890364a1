"""Runs: what is done stays done, what is another config's goes (real ones: tests/procedural, tests/tools)."""

import json
import textwrap

import pytest
import scripts
from small_procedural import small_procedural

from mmreid_text.engine import training_run
from mmreid_text.engine.config import result_names
from mmreid_text.engine.training_run import begin_run, best_checkpoint, run_stamp, train_and_test

TARGETS = ("procedural_street", "procedural_mall", "procedural_station")


@pytest.fixture
def calls(monkeypatch):
    """Training and testing replaced by a record of their calls."""
    made = []

    def train(cfg, work_dir, hooks):
        made.append("train")
        (work_dir / "epoch_1.pth").touch()
        (work_dir / "last_checkpoint").write_text("/where/it/was/trained/epoch_1.pth")

    def test(cfg, work_dir, checkpoint, hooks=()):
        names = result_names(cfg.test_dataloader)
        made.append((None if checkpoint is None else checkpoint.name, names))
        if checkpoint is not None and not checkpoint.exists():
            raise FileNotFoundError(checkpoint)
        values = {f"{name}/R1": float(10 * len(made) + TARGETS.index(name)) for name in names}
        return values | {"mean/R1": sum(values.values()) / len(values)}

    monkeypatch.setattr(training_run, "_train", train)
    monkeypatch.setattr(training_run, "run_test", test)
    return made


def test_what_was_trained_is_tested_only_where_the_test_was_cut_off(calls, tmp_path, monkeypatch):
    cfg = small_procedural(tmp_path)
    with monkeypatch.context() as cut:
        cut.setattr(training_run, "run_test", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train_and_test(cfg, tmp_path / "run")
    assert calls == ["train"]
    first = train_and_test(cfg, tmp_path / "run")
    assert calls == ["train", ("epoch_1.pth", list(TARGETS))]
    assert train_and_test(cfg, tmp_path / "run") == first
    assert len(calls) == 2
    train_and_test(cfg, tmp_path / "run", features=True)  # no dump is there: tests again
    assert calls[2:] == [("epoch_1.pth", list(TARGETS))]
    cfg.train_cfg.max_epochs = 2
    train_and_test(cfg, tmp_path / "run")
    assert calls[3:] == ["train", ("epoch_1.pth", list(TARGETS))]


def test_ranks_test_the_same_epoch(tmp_path):
    """Rank 0 still writes the best epoch when the other one has ended its training."""
    script = """
        import sys, time
        from pathlib import Path
        from types import SimpleNamespace
        from fork_ranks import fork_ranks
        from small_procedural import small_procedural
        from mmreid_text.engine import training_run
        folder, cfg = Path(sys.argv[1]), small_procedural(Path(sys.argv[1]))

        def work(rank):
            def train():
                if rank == 0:
                    time.sleep(1)
                    (folder / "run/best_mean_R1_epoch_1.pth").touch()

            def test(cfg, work_dir, checkpoint, hooks):
                (folder / f"tested_{rank}").write_text(checkpoint.name)
                return {}

            training_run.Runner = SimpleNamespace(from_cfg=lambda cfg: SimpleNamespace(train=train))
            training_run.run_test = test
            training_run.train_and_test(cfg, folder / "run")

        sys.exit(any(fork_ranks(2, work)))
    """
    (tmp_path / "run").mkdir()
    (tmp_path / "ranks.py").write_text(textwrap.dedent(script))
    done = scripts.run(tmp_path / "ranks.py", tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [(tmp_path / f"tested_{rank}").read_text() for rank in range(2)] == ["best_mean_R1_epoch_1.pth"] * 2


def test_without_training_the_weights_are_tested_as_they_are(calls, tmp_path):
    cfg = small_procedural(tmp_path)
    train_and_test(cfg, tmp_path / "run", checkpoint="")
    assert calls == [(None, list(TARGETS))]
    (tmp_path / "own.pth").touch()
    train_and_test(cfg, tmp_path / "run", checkpoint=str(tmp_path / "own.pth"))
    assert calls[1:] == [("own.pth", list(TARGETS))]


def test_each_benchmark_is_tested_at_its_own_best_epoch(calls, tmp_path):
    cfg = small_procedural(tmp_path, protocol="test-selected")
    begin_run(tmp_path / "run", run_stamp(cfg))
    for name in ("best_procedural_street_R1_epoch_3.pth", "best_procedural_mall_R1_epoch_1.pth"):
        (tmp_path / "run" / name).touch()
    (tmp_path / "run/best_procedural_station_R1_epoch_3.pth").touch()
    metrics = train_and_test(cfg, tmp_path / "run")
    assert calls[1:] == [(f"best_{name}_R1_epoch_{epoch}.pth", [name]) for name, epoch in zip(TARGETS, (3, 1, 3))]
    assert metrics == {
        "procedural_street/R1": 20.0,
        "procedural_mall/R1": 31.0,
        "procedural_station/R1": 42.0,
        "mean/R1": 31.0,
    }
    assert json.loads((tmp_path / "run/run.json").read_text())["metrics"] == metrics
    assert result_names(cfg.test_dataloader) == list(TARGETS)  # the caller's config is as it was


@pytest.mark.parametrize(
    ("loader", "key"),
    [
        ("CLIPPretrained", "checkpoint"),
        ("EncoderWeights", "checkpoint"),
        ("EncoderWeights", "image"),
        ("EncoderWeights", "text"),
    ],
)
def test_stamps_follow_what_weight_files_hold(tmp_path, loader, key):
    cfg = small_procedural(tmp_path)
    (tmp_path / "start.pth").write_bytes(b"one")
    (tmp_path / "moved.pth").write_bytes(b"one")
    cfg.model.init_cfg = {"type": loader, key: str(tmp_path / "start.pth")}
    stamp = run_stamp(cfg)
    cfg.model.init_cfg[key] = str(tmp_path / "moved.pth")
    assert run_stamp(cfg) == stamp
    (tmp_path / "moved.pth").write_bytes(b"two, longer")
    assert run_stamp(cfg) != stamp
    assert len({run_stamp(cfg), run_stamp(cfg, ""), run_stamp(cfg, str(tmp_path / "start.pth"))}) == 3
    begun = run_stamp(cfg, start="of the run before")  # whose weights take the place of these
    (tmp_path / "moved.pth").write_bytes(b"three")
    assert run_stamp(cfg, start="of the run before") == begun


def test_another_stamp_removes_what_was_left(tmp_path):
    for name in ("epoch_1.pth", "best_mean_R1_epoch_1.pth", "last_checkpoint", "features/a.npz", "keep.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    begin_run(tmp_path, "a")
    left = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"keep.txt", "run.json"}
    (tmp_path / "epoch_1.pth").touch()
    begin_run(tmp_path, "a")
    assert (tmp_path / "epoch_1.pth").exists()


def test_a_benchmark_has_its_own_best_epoch_where_there_is_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        best_checkpoint(tmp_path)
    for name in ("best_a_R1_epoch_3.pth", "best_b_R1_epoch_2.pth"):
        (tmp_path / name).touch()
    assert best_checkpoint(tmp_path, "a").name == "best_a_R1_epoch_3.pth"
    assert best_checkpoint(tmp_path, "b").name == "best_b_R1_epoch_2.pth"
    assert best_checkpoint(tmp_path, "c") == best_checkpoint(tmp_path)
