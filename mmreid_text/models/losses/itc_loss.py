"""Image-text contrast."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from mmreid_text.models.losses.similarity import at_least_float32, global_similarity, local_similarity
from mmreid_text.registry import MODELS

LARGEST_SCALE = 100.0
"""Of a learnt temperature's inverse, as CLIP bounds it."""


def itc_loss(similarity: torch.Tensor, tau: float | torch.Tensor = 0.02) -> torch.Tensor:
    """Mean cross entropy of both directions with the pair itself as the only positive (CLIP, ICML 2021).

    Args:
        similarity: (B, B) cosine similarities, images in rows, pairs on the diagonal.
        tau: Temperature, above 0.

    Returns:
        Scalar: the mean of image-to-text and text-to-image.
    """
    logits = similarity / tau
    label = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, label) + F.cross_entropy(logits.t(), label)) / 2


@MODELS.register_module()
class ITCLoss(nn.Module):
    """:func:`itc_loss` over the batch of all ranks.

    Args:
        tau: Temperature, the first one where it is learnt.
        learnable: Whether the temperature is learnt, as in CLIP, and bounded by 0.01 from below.
        local: Whether a pair meets the pairs of its own rank alone, as where published code does not gather.

    Use in configs::

        model = dict(losses=[dict(type='ITCLoss', tau=0.02)])
    """

    def __init__(self, tau: float = 0.02, learnable: bool = False, local: bool = False) -> None:
        super().__init__()
        if tau <= 0:
            raise ValueError(f"ITCLoss: tau must be above 0, got {tau}")
        self.tau = tau
        self.local = local
        self.log_scale = nn.Parameter(torch.tensor(-math.log(tau))) if learnable else None

    def forward(self, image_feats: torch.Tensor, text_feats: torch.Tensor, pid: torch.Tensor) -> torch.Tensor:
        """Scalar loss of image_feats (B, D) and text_feats (B, D); pid is not used."""
        similarity = (local_similarity if self.local else global_similarity)(image_feats, text_feats)
        tau: float | torch.Tensor = self.tau
        if self.log_scale is not None:
            with torch.no_grad():  # in place: a bound within the graph would take the gradient that leads back
                self.log_scale.clamp_(max=math.log(LARGEST_SCALE))
            tau = (-self.log_scale.double()).exp()
        return at_least_float32(itc_loss(similarity, tau), image_feats)
