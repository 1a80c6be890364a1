"""Runs that go on where they were, with any number of processes."""

import logging
from itertools import chain
from pathlib import Path
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, Runner, find_latest_checkpoint

from mmreid_text.datasets.samplers import ArraySampler, IdentitySampler
from mmreid_text.registry import HOOKS


@HOOKS.register_module()
class ResumeHook(Hook):
    """Lets a resumed run go on as if it had not stopped.

    - The sampler takes the checkpoint's seed, as masking and augmentation do: mmengine builds it before it reads that.
    - The last epoch is validated once more: checkpoints are written before validation, so a kill between the two would
      lose it. The best epoch stays the best where it was counted already.
    - A global batch that differs from before is noticed, for the losses and the schedule depend on it.

    A run may go on with any number of processes. With ``train_dataloader.batch_size`` changed so that the product
    stays, losses see the same batches as before. Where the product changes, a warning says so; a schedule that counts
    iterations would then end too early or too late, which is refused.

    Use in configs::

        default_hooks = dict(resume=dict(type='ResumeHook'))
    """

    priority = "LOWEST"  # after the hooks that restore their own state

    def before_train(self, runner: Runner) -> None:
        """Set the sampler's seed, and validate the epoch that the run goes on from."""
        if not runner._resume or not runner.epoch:
            return
        if isinstance(runner.train_dataloader.sampler, (ArraySampler, IdentitySampler)):
            runner.train_dataloader.sampler.seed = runner.seed
        loop = runner.train_loop
        if runner.val_loop is None or not isinstance(loop, EpochBasedTrainLoop) or runner.epoch < loop.val_begin:
            return
        if runner.epoch % loop.val_interval == 0 or runner.epoch == loop.max_epochs:
            runner.val_loop.run()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note the global batch."""
        checkpoint["meta"]["global_batch"] = _global_batch(runner)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare it where a run is resumed.

        Raises:
            ValueError: It differs, and the schedule counts iterations.
        """
        before = checkpoint.get("meta", {}).get("global_batch")
        if not runner._resume or before is None:
            return
        now = _global_batch(runner)
        if now is None or before == now:
            return
        world = get_world_size()
        change = f"the checkpoint's run took {before} samples per step, this one {now // world} x {world} = {now}"
        remedy = (
            f"set train_dataloader.batch_size={before // world}"
            if before % world == 0
            else f"take a number of processes that divides {before}"
        )
        schedulers: Any = runner.param_schedulers or []
        if isinstance(schedulers, dict):
            schedulers = list(chain.from_iterable(schedulers.values()))
        if any(not scheduler.by_epoch for scheduler in schedulers):
            raise ValueError(f"{change}, and its learning rate is scheduled by iterations: {remedy}.")
        print_log(
            f"{change}: losses over the whole batch change with it. To keep them, {remedy}.", "current", logging.WARNING
        )


def resumed_checkpoint(runner: Runner) -> Path | None:
    """The checkpoint that a run goes on from; None where it starts anew."""
    if not runner._resume:
        return None
    found = runner._load_from or find_latest_checkpoint(runner.work_dir)
    return None if found is None else Path(found)


def _global_batch(runner: Runner) -> int | None:
    """Samples per iteration over all processes; None where a batch sampler decides."""
    size = runner.train_dataloader.batch_size
    return None if size is None else size * get_world_size()
