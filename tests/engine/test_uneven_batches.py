"""Captions that do not divide among ranks and batches: padded, and the loss is still that of one process."""

import scripts
import torch
from two_process_step import global_batch, step, tiny_model


def test_every_step_equals_one_process_on_the_joined_batch(tmp_path):
    done = scripts.run("tests/engine/uneven_steps.py", tmp_path / "steps")
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [torch.load(tmp_path / f"steps.{rank}", weights_only=True) for rank in range(3)]
    rows = [[step["rows"] for step in steps] for steps in ranks]
    assert rows == [[[0, 3], [6]], [[1, 4], [0]], [[2, 5], [1]]]  # seven, and two once more
    batch = global_batch(torch.float64)
    for number in range(2):
        joined = [row for steps in rows for row in steps[number]]
        one = step(tiny_model(torch.float64), {key: value[joined] for key, value in batch.items()})
        for name, loss in one["losses"].items():
            for steps in ranks:
                assert abs(float(loss - steps[number]["losses"][name])) <= 1e-9 * abs(float(loss))
        largest = max(float(grad.abs().max()) for grad in one["grads"].values())
        for name, grad in one["grads"].items():
            assert float((grad - ranks[0][number]["grads"][name]).abs().max()) <= 1e-9 * largest, name
