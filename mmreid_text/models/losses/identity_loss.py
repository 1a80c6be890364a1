"""Classification of identities."""

import torch
import torch.nn.functional as F
from torch import nn

from mmreid_text.engine.distributed import all_gather_with_grad, world_size
from mmreid_text.models.losses.similarity import at_least_float32
from mmreid_text.registry import MODELS


def identity_loss(image_logits: torch.Tensor, text_logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Mean of the cross entropies of images and captions, each over all ranks (Zheng et al., TOMM 2020), as in IRRA.

    Args:
        image_logits: float (B, C).
        text_logits: float (B, C).
        label: int64 (B,) in 0..C-1.

    Returns:
        Scalar in the precision of the logits, float32 where that is half.
    """
    total = sum(F.cross_entropy(at_least_float32(x, x), label, reduction="sum") for x in (image_logits, text_logits))
    assert isinstance(total, torch.Tensor)
    return all_gather_with_grad(total[None]).sum() / (2 * len(label) * world_size())


@MODELS.register_module()
class IdentityLoss(nn.Module):
    """:func:`identity_loss` over the batch of all ranks, which see equally many pairs.

    Use in configs::

        model = dict(type='IRRA', num_ids=11003)  # IRRA builds it for its classifier
    """

    def forward(self, image_logits: torch.Tensor, text_logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Scalar loss of image_logits (B, C), text_logits (B, C) and label int64 (B,)."""
        return identity_loss(image_logits, text_logits, label)
