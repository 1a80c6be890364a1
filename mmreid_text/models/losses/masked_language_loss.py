"""Prediction of masked words."""

import torch
import torch.nn.functional as F
from torch import nn

from mmreid_text.engine.distributed import all_gather, all_gather_with_grad
from mmreid_text.models.losses.similarity import at_least_float32
from mmreid_text.registry import MODELS

IGNORED = 0
"""Label of a token that was not drawn."""


def masked_language_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross entropy over the masked tokens of all ranks; 0 where there are none.

    Ranks draw different numbers of tokens: a mean of the ranks' means would weigh tokens unequally.

    Args:
        logits: float (..., V).
        labels: int64 (...), ids in 0..V-1; 0 does not count.

    Returns:
        Scalar in the precision of the logits, float32 where that is half.
    """
    logits, labels = logits.flatten(0, -2), labels.flatten()
    total = F.cross_entropy(at_least_float32(logits, logits), labels, ignore_index=IGNORED, reduction="sum")
    count = (labels != IGNORED).sum()
    return all_gather_with_grad(total[None]).sum() / all_gather(count[None]).sum().clamp(min=1)


def masked_positions(labels: torch.Tensor) -> torch.Tensor:
    """Where labels int64 (B, N) stand, int64 (T,) in the flattened labels; the host waits for those on a GPU."""
    return (labels != IGNORED).flatten().nonzero()[:, 0]


@MODELS.register_module()
class MaskedLanguageLoss(nn.Module):
    """:func:`masked_language_loss`: IRRA's implicit relation reasoning (Jiang and Ye, CVPR 2023, section 3.2).

    Use in configs::

        model = dict(type='IRRA', relation=dict(type='CrossModalRelation', depth=4))  # IRRA builds it for its head
    """

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Scalar loss of logits (..., V) and labels int64 (...)."""
        return masked_language_loss(logits, labels)
