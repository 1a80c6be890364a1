"""Runs that go on with another number of processes."""

import logging
from itertools import chain
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from mmreid_text.registry import HOOKS


@HOOKS.register_module()
class ResumeHook(Hook):
    """Notices where a resumed run's global batch is another than before: the losses and the schedule depend on it.

    A run may go on with any number of processes. With ``train_dataloader.batch_size`` changed so that the product
    stays, losses see the same batches as before. Where the product changes, a warning says so; a schedule that counts
    iterations would then end too early or too late, which is refused.

    Use in configs::

        default_hooks = dict(resume=dict(type='ResumeHook'))
    """

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


def _global_batch(runner: Runner) -> int | None:
    """Samples per iteration over all processes; None where a batch sampler decides."""
    size = runner.train_dataloader.batch_size
    return None if size is None else size * get_world_size()
