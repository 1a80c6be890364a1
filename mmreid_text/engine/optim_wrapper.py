"""Optimiser wrappers that let the host run ahead of the device, and mixed precision on any device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmreid_text.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class DeferredOptimWrapper(OptimWrapper):
    """mmengine's OptimWrapper, of which ``clip_grad`` leaves the gradient norm on the device.

    The stock wrapper reads the norm for the log in every step, and the host then waits for the device. Here
    :class:`~mmreid_text.engine.hooks.deferred_log_hook.DeferredLogHook` takes it with the losses and reads it when it
    is about to be logged, under the same name; other hooks do not log it. Steps are the same. (AmpOptimWrapper waits
    anyway: its loss scaler asks for overflows.)

    Use in configs::

        optim_wrapper = dict(
            type='DeferredOptimWrapper', optimizer=dict(type='Adam', lr=1e-5), clip_grad=dict(max_norm=1.0))
    """

    _norm: torch.Tensor | None = None

    def _clip_grad(self) -> None:
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        params = [p for p in params if p.requires_grad and p.grad is not None]
        if params:
            self._norm = self.clip_func(params, **self.clip_grad_kwargs)  # None after clipping by value

    def take_norm(self) -> torch.Tensor | None:
        """Norm of the gradients before clipping, (), on the device; None where no step has clipped since the last call.

        Of several steps between two calls, the last one's.
        """
        norm, self._norm = self._norm, None
        return norm


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(DeferredOptimWrapper):
    """Forward passes in bfloat16 on the device of the parameters, GPU or CPU; no loss scaling, which bfloat16 spares.

    mmengine's AmpOptimWrapper refuses CPUs. On CPUs without AVX512-BF16 or AMX this runs, but slower than float32.
    Gradient accumulation and clipping are those of :class:`DeferredOptimWrapper`.

    Use in configs::

        optim_wrapper = dict(type='AutocastOptimWrapper', optimizer=dict(type='Adam', lr=1e-5))
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[Any]:
        """Enter autocast as well as the gradient accumulation of the base class."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield
