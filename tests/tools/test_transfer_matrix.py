"""The transfer matrix by real runs: killed, gone on with, evaluated again from the dumps alone."""

import importlib.util
import json
import sys
import time
from pathlib import Path

import pytest
import scripts
from small_procedural import small_procedural

from mmreid_text.engine.run_pool import config_text

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools/transfer_matrix.py"
TARGETS = ("procedural_street", "procedural_mall", "procedural_station")
MATRIX = """
_nam = dict(config='nam.py')
rows = [
    dict(name='tuned', source='procedural_street', config='street.py'),
    dict(name='NAM, then tuned', source='procedural_street', config='street.py', start=_nam),
]
"""


@pytest.fixture
def folder(tmp_path):
    """A matrix of three runs of seconds."""
    cache = {"num_test_ids": 8, "log_level": "WARNING"}
    (tmp_path / "nam.py").write_text(config_text(small_procedural(tmp_path, **cache)))
    street = small_procedural(tmp_path, **cache, **{"train_dataloader.dataset.domain": "street"})
    street.custom_hooks, street.model.token_noise = [], None
    (tmp_path / "street.py").write_text(config_text(street))
    (tmp_path / "matrix.py").write_text(MATRIX)
    return tmp_path


@pytest.fixture
def call(folder, monkeypatch, capsys):
    """The tool's main function, which forks its runs and spares imports of other processes; returns what it printed."""
    spec = importlib.util.spec_from_file_location("transfer_matrix", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    scripts.fork_runs(monkeypatch)

    def main(*options):
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["transfer_matrix.py", "matrix.py", "--work-dir", "out", *options])
        tool.main()
        return capsys.readouterr().out

    return main


def states(folder):
    return {p.parent.parent.name: json.loads(p.read_text()) for p in folder.glob("out/runs/*/*/run.json")}


def children(pid):
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid):
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")
def test_a_killed_matrix_goes_on_and_its_dumps_are_enough(folder, call):
    matrix = scripts.Script(TOOL, "matrix.py", "--work-dir", "out", "--seeds", "1", "--jobs", "2", cwd=folder)
    end = time.monotonic() + 240
    while not any("metrics" in state for state in states(folder).values()):
        assert matrix.poll() is None, matrix.output("stderr")
        assert time.monotonic() < end
        time.sleep(0.02)
    runs = children(matrix.pid)
    matrix.kill()
    matrix.wait()
    while any(alive(pid) for pid in runs):  # they die with the tool
        assert time.monotonic() < end
        time.sleep(0.02)
    done = {name for name, state in states(folder).items() if "metrics" in state}
    assert done
    assert len(done) < 3
    before = {p: p.stat().st_mtime_ns for name in done for p in folder.glob(f"out/runs/{name}/*/*")}

    printed = call("--seeds", "1", "--jobs", "2")
    assert printed.count("done before") == len(done)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    first = json.loads((folder / "out/matrix.json").read_text())
    check_figures(folder, first)
    assert (folder / "out/matrix.png").read_bytes().startswith(b"\x89PNG")
    assert "| tuned | NAM, then tuned | all" in " ".join(printed.split()).replace("  ", " ")

    markdown = (folder / "out/matrix.md").read_text()
    assert call("--seeds", "1").count("done before") == 3
    assert (folder / "out/matrix.md").read_text() == markdown
    tuned = next(name for name in states(folder) if name.endswith("-street"))
    (folder / "out/runs" / tuned / "seed_0/features/procedural_mall.npz").rename(folder / "elsewhere.npz")
    printed = call("--seeds", "1", "--offline")
    assert "missing: " in printed
    last = json.loads((folder / "out/matrix.json").read_text())
    assert last["cells"] != first["cells"]
    # What is left of that run is no longer called its result.
    assert {(e["run"] != "") for e in last["evaluations"]} == {True, False}


def check_figures(folder, matrix):
    """Offline figures are those that the runs measured online."""
    measured = states(folder)
    runs = {
        "tuned": next(name for name in measured if name.endswith("-street")),
        "NAM, then tuned": next(name for name in measured if "-street--" in name),
    }
    assert len(measured) == 3
    assert len(matrix["cells"]) == 6
    for cell in matrix["cells"]:
        for metric, figure in cell["metrics"].items():
            online = measured[runs[cell["method"]]]["metrics"][f"{cell['target']}/{metric}"]
            assert figure["per_seed"] == pytest.approx({"0": online}, abs=1e-6)
        assert cell["in_domain"] == (cell["target"] == "procedural_street")
    stated = {(e["method"], e["target"]): e for e in matrix["evaluations"]}
    assert len({e["weights"] for e in stated.values()}) == 2
    assert len({e["data"] for e in stated.values()}) == 3
    assert stated["tuned", "procedural_mall"]["checkpoint"].endswith("-street/seed_0/best_mean_R1_epoch_1.pth")
    assert {e["protocol"] for e in stated.values()} == {"val"}
    config = next(folder.glob("out/runs/*-street--*/seed_0/config.py")).read_text()
    start = next(folder.glob("out/runs/*-nam/seed_0/best_mean_R1_epoch_1.pth"))
    assert f"'checkpoint': '{start}'" in config


def test_mistakes_stop_at_once(folder, call):
    with pytest.raises(SystemExit, match=r"error: there is no evaluation .* without --offline"):
        call("--offline")
    (folder / "matrix.py").write_text(MATRIX.replace("source='procedural_street'", "source='street'"))
    with pytest.raises(SystemExit, match=r"row 0 \(tuned\): the source is 'street', but .*trains on"):
        call()
    with pytest.raises(SystemExit):
        call("--seeds", "0")
