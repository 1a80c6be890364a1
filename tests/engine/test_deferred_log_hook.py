"""Losses reach the log as with mmengine's own hook, and leave the device once per logged interval."""

import json

import pytest
import torch
from mmengine.runner import Runner
from small_procedural import small_procedural


def logged(folder, hook, monkeypatch):
    reads = []
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
    cfg.optim_wrapper.clip_grad = None
    runner = Runner.from_cfg(cfg)
    original = torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda self: reads.append(self) or original(self))
    runner.train()
    monkeypatch.undo()
    (scalars,) = (folder / hook).glob("*/vis_data/scalars.json")
    rows = [json.loads(line) for line in scalars.read_text().splitlines()]
    return [{key: row[key] for key in row if key.startswith("loss") or key == "step"} for row in rows], len(reads)


def test_the_log_is_that_of_the_stock_hook_with_fewer_reads(tmp_path, monkeypatch):
    stock, stock_reads = logged(tmp_path, "RuntimeInfoHook", monkeypatch)
    ours, our_reads = logged(tmp_path, "DeferredLogHook", monkeypatch)
    assert [row["step"] for row in ours] == [row["step"] for row in stock] == [3, 6, 10, 13]
    for mine, theirs in zip(ours, stock):
        assert mine == pytest.approx(theirs, rel=1e-6)
    assert stock_reads - our_reads >= 14 * 4  # 14 iterations, a total and three losses
