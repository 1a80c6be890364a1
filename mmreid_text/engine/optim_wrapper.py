"""Mixed precision on any device."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.optim import OptimWrapper
from torch import nn

from mmreid_text.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Forward passes in bfloat16 on the device of the parameters, GPU or CPU; no loss scaling, which bfloat16 spares.

    mmengine's AmpOptimWrapper refuses CPUs. On CPUs without AVX512-BF16 or AMX this runs, but slower than float32.
    Gradient accumulation and clipping are those of :class:`~mmengine.optim.OptimWrapper`.

    Use in configs::

        optim_wrapper = dict(type='AutocastOptimWrapper', optimizer=dict(type='Adam', lr=1e-5))
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[Any]:
        """Enter autocast as well as the gradient accumulation of the base class."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, dtype=torch.bfloat16):
            yield
