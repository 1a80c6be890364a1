"""Training that ranks leave and join, killed amid an epoch and amid writing: it ends as one process does."""

import json

import numpy as np
import pytest
import scripts
import torch

PHASES = {
    "rank 1 of 2 dies": dict(world=2, epochs=4, kill=[1, 1]),
    "checkpoint cut": dict(world=1, epochs=2, kill_writing="epoch_2.pth"),
    "pointer cut": dict(world=1, epochs=2, kill_writing="last_checkpoint"),
    "2 -> 1": dict(world=1, epochs=2),
    "1 -> 2": dict(world=2, epochs=3),
    "2 -> 3": dict(world=3, epochs=4),
}


def run(folder, phases):
    done = scripts.run("tests/engine/elastic_run.py", folder, json.dumps(phases))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads((folder / "report.json").read_text())


@pytest.fixture(scope="module")
def chequered(tmp_path_factory):
    """Folder and reports of a run through all phases."""
    folder = tmp_path_factory.mktemp("chequered")
    return folder, dict(zip(PHASES, run(folder, list(PHASES.values()))))


def test_a_dead_rank_ends_the_others_and_leaves_the_epoch_before(chequered):
    report = chequered[1]["rank 1 of 2 dies"]
    assert report["codes"][1] == -9
    assert report["codes"][0] != 0
    assert report["epoch"] == 1
    assert "noise_epoch_1.npz" in report["files"]


@pytest.mark.parametrize("phase", ["checkpoint cut", "pointer cut"])
def test_a_kill_amid_writing_leaves_the_checkpoint_before(chequered, phase):
    report = chequered[1][phase]
    assert report["codes"] == [-9]
    assert report["epoch"] == 1
    # The old checkpoint, of which one is kept, goes only when the new one stands and is pointed to.
    assert {"epoch_1.pth", "noise_epoch_1.npz"} <= set(report["files"])
    assert ("epoch_2.pth" in report["files"]) == (phase == "pointer cut")


@pytest.mark.parametrize("phase", ["2 -> 1", "1 -> 2", "2 -> 3"])
def test_another_number_of_processes_goes_on(chequered, phase):
    report, epochs = chequered[1][phase], PHASES[phase]["epochs"]
    assert report["codes"] == [0] * PHASES[phase]["world"]
    assert report["epoch"] == epochs
    assert report["seen"] == list(range(18))  # every caption once
    own = [name for name in report["files"] if name.startswith((".", "epoch_", "noise_"))]
    assert own == [f"epoch_{epochs}.pth", f"noise_epoch_{epochs}.npz"]  # no leftovers


def test_weights_optimiser_and_noise_equal_a_run_of_one_process(chequered, tmp_path):
    run(tmp_path, [dict(world=1, epochs=4)])
    one, many = (torch.load(f / "work/epoch_4.pth", weights_only=True) for f in (tmp_path, chequered[0]))
    for name, weight in one["state_dict"].items():
        torch.testing.assert_close(many["state_dict"][name], weight, rtol=0, atol=2e-5, msg=name)
    assert one["optimizer"]["state"].keys() == many["optimizer"]["state"].keys()
    for key, state in one["optimizer"]["state"].items():
        other = many["optimizer"]["state"][key]
        assert float(state["step"]) == float(other["step"]) == 12
        scale = float(state["exp_avg"].abs().max())
        assert float((state["exp_avg"] - other["exp_avg"]).abs().max()) < 1e-3 * scale + 1e-5
    noise = [np.load(f / "work/noise_epoch_4.npz")["noise"].astype(int) for f in (tmp_path, chequered[0])]
    # Behind the words stands what padding happened to give, which depends on the rank's longest caption.
    words = np.minimum(*((n[:, 1:] > 0).cumprod(axis=1).sum(axis=1) for n in noise)) - 1
    within = np.arange(77) <= words[:, None]
    assert within.sum() > 60
    assert np.abs(noise[0] - noise[1])[within].max() <= 1
