"""Image-text contrast."""

import torch
import torch.nn.functional as F
from torch import nn

from mmreid_text.models.losses.similarity import at_least_float32, global_similarity
from mmreid_text.registry import MODELS


def itc_loss(similarity: torch.Tensor, tau: float = 0.02) -> torch.Tensor:
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
        tau: Temperature.

    Use in configs::

        model = dict(losses=[dict(type='ITCLoss', tau=0.02)])
    """

    def __init__(self, tau: float = 0.02) -> None:
        super().__init__()
        if tau <= 0:
            raise ValueError(f"ITCLoss: tau must be above 0, got {tau}")
        self.tau = tau

    def forward(self, image_feats: torch.Tensor, text_feats: torch.Tensor, pid: torch.Tensor) -> torch.Tensor:
        """Scalar loss of image_feats (B, D) and text_feats (B, D); pid is not used."""
        return at_least_float32(itc_loss(global_similarity(image_feats, text_feats), self.tau), image_feats)
