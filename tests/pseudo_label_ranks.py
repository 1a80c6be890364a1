"""Runs of CMMT with pseudo labels on several processes, killed and resumed: ``pseudo_label_ranks.py FOLDER``.

``FOLDER/<run>/labels_<epoch>_<rank>.pt`` holds what each epoch handed to the model.
"""

import os
import signal
import sys
from importlib import import_module
from pathlib import Path

import torch
from fork_ranks import fork_ranks
from mmengine.hooks import Hook
from mmengine.runner import Runner
from small_cmmt import small_cmmt

from mmreid_text.engine.config import load_config, set_start
from mmreid_text.engine.distributed import first_failure_speaks, prepare_distributed
from mmreid_text.models.retrievers import CMMT
from mmreid_text.registry import HOOKS

RESNET = str(Path(__file__).parents[1] / "configs/_base_/models/cmmt_resnet50.py")
SIDES = ("image_labels", "text_labels", "image_centroids", "text_centroids")
RUNS = {
    "two ranks": dict(world=2, epochs=1),
    "whole": dict(epochs=2),
    "killed": dict(epochs=2, kill=1),
    # Networks whose BatchNorm has other statistics on each rank.
    "statistics": dict(world=2, epochs=2, statistics=True),
    "statistics killed": dict(world=2, epochs=2, kill=1, statistics=True),
}


@HOOKS.register_module()
class DieAmid(Hook):
    """Kills the process in an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if (runner.epoch, batch_idx) == (self.epoch, 1):
            os.kill(os.getpid(), signal.SIGKILL)


def train(rank: int, folder: Path, name: str, run: dict, kill: int | None) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    world = run.get("world", 1)
    cfg = small_cmmt(folder, run["epochs"], work_dir=name)
    if run.get("statistics"):
        cfg.model.image_encoder = dict(type="ResNetEncoder", num_layers=18, embed_dim=64)
        cfg.model.init_cfg = None
        hooks = load_config(RESNET).custom_hooks
        cfg.custom_hooks.append(next(hook for hook in hooks if hook.type == "SyncBuffersHook"))
    cfg.launcher = "pytorch" if world > 1 else "none"
    cfg.train_dataloader.batch_size = 16 // world
    if kill is not None:
        cfg.custom_hooks.append(dict(type="DieAmid", epoch=kill))
    set_start(cfg, "auto")
    prepare_distributed(cfg, cfg.launcher)
    set_pseudo_labels = CMMT.set_pseudo_labels

    def noted(model: CMMT, *given: torch.Tensor) -> None:
        torch.save(dict(zip(SIDES, given)), folder / name / f"labels_{runner.epoch}_{rank}.pt")
        set_pseudo_labels(model, *given)

    CMMT.set_pseudo_labels = noted
    with first_failure_speaks():
        runner = Runner.from_cfg(cfg)
        runner.train()


def main(folder: Path) -> None:
    for name in ("sklearn.cluster", "sklearn.metrics", "mmreid_text.datasets.transforms", "mmreid_text.engine.hooks"):
        import_module(name)  # once for all processes
    for name, run in RUNS.items():
        world, kill = run.get("world", 1), run.get("kill")
        args = (folder, name, run)
        codes = fork_ranks(world, lambda rank, args=args, kill=kill: train(rank, *args, kill))
        if kill is not None:
            assert -9 in codes
            codes = fork_ranks(world, lambda rank, args=args: train(rank, *args, None))
        assert codes == [0] * world, name


if __name__ == "__main__":
    main(Path(sys.argv[1]))
