"""Losses and gradient norms reach the log as mmengine's own, and leave the device once per logged interval."""

import json

import pytest
import torch
from mmengine.runner import Runner
from small_procedural import small_procedural

from mmreid_text.engine.optim_wrapper import DeferredOptimWrapper


def logged(folder, hook, wrapper, monkeypatch):
    reads = []

    def counted(name, original):
        return lambda self: reads.append(name) or original(self)

    cfg = small_procedural(
        folder,
        **{
            "train_dataloader.batch_size": 10,  # 64 captions: 7 iterations, logged after 3, 6 and the last
            "train_cfg.max_epochs": 2,
            "default_hooks.runtime_info.type": hook,
            "default_hooks.logger.interval": 3,
            "default_hooks.checkpoint.save_best": None,
            "val_dataloader": None,
            "val_cfg": None,
            "val_evaluator": None,
            "work_dir": str(folder / hook),
            "experiment_name": f"{folder.name}_{hook}",
        },
    )
    cfg.optim_wrapper.type = wrapper
    cfg.optim_wrapper.accumulative_counts = 2  # every other iteration steps, and the last of all
    runner = Runner.from_cfg(cfg)
    for name in ("item", "__float__"):
        monkeypatch.setattr(torch.Tensor, name, counted(name, getattr(torch.Tensor, name)))
    runner.train()
    monkeypatch.undo()
    (scalars,) = (folder / hook).glob("*/vis_data/scalars.json")
    rows = [json.loads(line) for line in scalars.read_text().splitlines()]
    kept = [{key: row[key] for key in row if key.startswith(("loss", "grad")) or key == "step"} for row in rows]
    return kept, [reads.count(name) for name in ("item", "__float__")]


def test_the_log_is_that_of_the_stock_hook_and_wrapper_with_fewer_reads(tmp_path, monkeypatch):
    stock, (items, floats) = logged(tmp_path, "RuntimeInfoHook", "OptimWrapper", monkeypatch)
    ours, (our_items, our_floats) = logged(tmp_path, "DeferredLogHook", "DeferredOptimWrapper", monkeypatch)
    assert [row["step"] for row in ours] == [row["step"] for row in stock] == [3, 6, 10, 13]
    assert all("grad_norm" in row and "loss" in row for row in stock)
    for mine, theirs in zip(ours, stock):
        assert mine == pytest.approx(theirs, rel=1e-6)
    assert items - our_items >= 14 * 4  # 14 iterations, a total and three losses
    assert floats - our_floats == 7  # a norm per step
    # A wrapper that reads its norm itself is logged as ever.
    mixed, _ = logged(tmp_path / "mixed", "DeferredLogHook", "OptimWrapper", monkeypatch)
    assert [row["grad_norm"] for row in mixed] == pytest.approx([row["grad_norm"] for row in stock], rel=1e-6)


def test_clipping_by_value_has_no_norm():
    weight = torch.nn.Parameter(torch.zeros(2))
    optim = DeferredOptimWrapper(torch.optim.SGD([weight], lr=1.0), clip_grad={"type": "value", "clip_value": 0.5})
    optim.update_params((weight * torch.tensor([3.0, -0.25])).sum())
    assert optim.take_norm() is None
    assert weight.tolist() == [-0.5, 0.25]
    optim = DeferredOptimWrapper(torch.optim.SGD([weight], lr=1.0), clip_grad={"max_norm": 1.0})
    optim.update_params((weight * torch.tensor([3.0, -4.0])).sum())
    assert optim.take_norm().item() == pytest.approx(5.0)
    assert optim.take_norm() is None
