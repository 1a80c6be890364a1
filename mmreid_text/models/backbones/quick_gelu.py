"""CLIP's activation."""

import torch
import torch.nn.functional as F
from torch import nn


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), of any shape, as CLIP's weights expect it.

    Written as silu(1.702 x) / 1.702, which keeps one tensor for the backward pass instead of two; the MLPs' activations
    are most of a transformer's memory.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(1.702 * x).mul_(1 / 1.702)
