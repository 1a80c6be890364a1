"""Logging that does not make the host wait for the device in every step."""

from typing import Any

import torch
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.runner import Runner

from mmreid_text.engine.optim_wrapper import DeferredOptimWrapper
from mmreid_text.registry import HOOKS


@HOOKS.register_module()
class DeferredLogHook(RuntimeInfoHook):
    """mmengine's RuntimeInfoHook, which reads losses off the device only when the logger is about to print them.

    The stock hook reads every loss after every iteration, and a GPU then idles until the host has issued the next
    step. Here the losses, and the gradient norm of a
    :class:`~mmreid_text.engine.optim_wrapper.DeferredOptimWrapper`, stay on the device until the iteration that
    ``LoggerHook`` logs, or the epoch's last; what is logged is the same.

    Use in configs::

        default_hooks = dict(runtime_info=dict(type='DeferredLogHook'))
    """

    def before_train(self, runner: Runner) -> None:
        """Take over the loggers' intervals."""
        super().before_train(runner)
        self._intervals = {hook.interval for hook in runner.hooks if isinstance(hook, LoggerHook)}
        self._pending: dict[str, list[torch.Tensor]] = {}

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Keep the losses and the norm, scalars on any device; hand over all that is kept when it is to be logged."""
        kept = dict(outputs or {})
        if isinstance(runner.optim_wrapper, DeferredOptimWrapper):
            norm = runner.optim_wrapper.take_norm()
            if norm is not None:  # not every iteration steps
                kept[runner.optim_wrapper.grad_name] = norm
        for key, value in kept.items():
            # Detached: a loss of mmengine's log holds on to its graph.
            self._pending.setdefault(key, []).append(torch.as_tensor(value).detach())
        logged = any(self.every_n_inner_iters(batch_idx, interval) for interval in self._intervals)
        if self._pending and (logged or self.end_of_epoch(runner.train_dataloader, batch_idx)):
            for key, values in self._pending.items():
                for number in torch.stack(values).tolist():
                    runner.message_hub.update_scalar(f"train/{key}", number)
            self._pending.clear()
