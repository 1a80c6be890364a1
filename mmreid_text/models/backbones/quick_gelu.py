"""CLIP's activation, and the MLP around it."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

SCALE = 1.702


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), of any shape, as CLIP's weights expect it: silu(1.702 x) / 1.702."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(SCALE * x) / SCALE


def quick_gelu_mlp(x: torch.Tensor, up: nn.Linear, down: nn.Linear) -> torch.Tensor:
    """``down(QuickGELU(up(x)))`` with both 1.702 folded into the matrix products.

    Keeps one tensor of the MLP's width for the backward pass where the modules one by one keep two or three: the
    activation is computed again, which costs less than its memory. Most of a transformer's memory is here.

    Args:
        x: float (..., W).
        up: Linear W -> F.
        down: Linear F -> W.

    Returns:
        (..., W), in the dtype of autocast where that is on.
    """
    tensors: tuple[torch.Tensor, ...] = (x.flatten(0, -2), up.weight, up.bias, down.weight, down.bias)
    device = x.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        tensors = tuple(tensor.to(dtype) for tensor in tensors)
    with torch.autocast(device, enabled=False):
        return _QuickGELUMLP.apply(*tensors).unflatten(0, x.shape[:-1])


class _QuickGELUMLP(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,  # (T, W)
        up: torch.Tensor,  # (F, W)
        up_bias: torch.Tensor,
        down: torch.Tensor,  # (W, F)
        down_bias: torch.Tensor,
    ) -> torch.Tensor:
        z = torch.addmm(SCALE * up_bias, x, up.t(), alpha=SCALE)  # 1.702 times what the activation is given
        ctx.save_for_backward(x, z, up, down)
        return torch.addmm(down_bias, F.silu(z), down.t(), alpha=1 / SCALE)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # (T, W)
        x, z, up, down = ctx.saved_tensors
        need_x, need_up, need_up_bias, need_down, need_down_bias = ctx.needs_input_grad
        grad_down = (grad.t() @ F.silu(z)).mul_(1 / SCALE) if need_down else None
        grad_down_bias = grad.sum(dim=0) if need_down_bias else None
        grad_z = torch.ops.aten.silu_backward(grad @ down, z)  # the two scales cancel
        grad_up_bias = grad_z.sum(dim=0) if need_up_bias else None
        return (
            grad_z @ up if need_x else None,
            grad_z.t() @ x if need_up else None,
            grad_up_bias,
            grad_down,
            grad_down_bias,
        )
