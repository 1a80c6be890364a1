"""Logging that does not make the host wait for the device in every step."""

from typing import Any

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner

from mmreid_text.registry import HOOKS


@HOOKS.register_module()
class DeferredLogHook(RuntimeInfoHook):
    """mmengine's RuntimeInfoHook, which reads losses off the device only when the logger is about to print them.

    The stock hook reads every loss after every iteration, and a GPU then idles until the host has issued the next
    step. Here the losses stay on the device until the iteration that ``LoggerHook`` logs, or the epoch's last; what is
    logged is the same.

    Use in configs::

        default_hooks = dict(runtime_info=dict(type='DeferredLogHook'))
    """

    def before_train(self, runner: Runner) -> None:
        """Take over the loggers' intervals."""
        super().before_train(runner)
        self._intervals = {hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)}
        self._pending: list[dict[str, torch.Tensor]] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Keep the losses, scalars on any device; hand over all that are kept when they are to be logged."""
        if outputs:
            # Detached: a loss of mmengine's log holds on to its graph.
            self._pending.append({key: torch.as_tensor(value).detach() for key, value in outputs.items()})
        logged = any(self.every_n_inner_iters(batch_idx, interval) for interval in self._intervals)
        if self._pending and (logged or self.end_of_epoch(runner.train_dataloader, batch_idx)):
            for key in self._pending[0]:
                for value in torch.stack([row[key] for row in self._pending]).tolist():
                    runner.message_hub.update_scalar(f"train/{key}", value)
            self._pending.clear()
