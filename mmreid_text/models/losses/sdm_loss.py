"""Similarity distribution matching."""

import torch
from torch import nn

from mmreid_text.engine.distributed import all_gather
from mmreid_text.models.losses.similarity import at_least_float32, global_similarity
from mmreid_text.registry import MODELS


def sdm_loss(similarity: torch.Tensor, positive: torch.Tensor, tau: float = 0.02, eps: float = 1e-8) -> torch.Tensor:
    r"""Similarity distribution matching, Eq. 5 to 7 of Tan et al., CVPR 2024 (after IRRA, CVPR 2023).

    :math:`\frac1B\sum_{ij} p_{ij}\log\frac{p_{ij}}{q_{ij}+\epsilon}` in both directions, summed: *p* is the softmax
    of similarity / tau over a row, *q* spreads each row's mass evenly over its positives.

    Args:
        similarity: (B, B) cosine similarities, images in rows.
        positive: bool (B, B), symmetric, true where image and text show the same identity; every row has one.
        tau: Temperature, above 0.
        eps: Kept inside the logarithm as published, so a perfect match costs nearly, not exactly, zero.

    Returns:
        Scalar.
    """
    target = positive.to(similarity.dtype)
    log_q = torch.log(target / target.sum(dim=1, keepdim=True) + eps)  # (B, B)

    def divergence(logits: torch.Tensor) -> torch.Tensor:
        log_p = logits.log_softmax(dim=1)
        return (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()

    logits = similarity / tau
    return divergence(logits) + divergence(logits.t())


@MODELS.register_module()
class SDMLoss(nn.Module):
    """:func:`sdm_loss` over the batch of all ranks; positives are the pairs of equal ``pid``.

    Args:
        tau: Temperature.

    Use in configs::

        model = dict(losses=[dict(type='SDMLoss', tau=0.02)])
    """

    def __init__(self, tau: float = 0.02) -> None:
        super().__init__()
        if tau <= 0:
            raise ValueError(f"SDMLoss: tau must be above 0, got {tau}")
        self.tau = tau

    def forward(self, image_feats: torch.Tensor, text_feats: torch.Tensor, pid: torch.Tensor) -> torch.Tensor:
        """Scalar loss of image_feats (B, D), text_feats (B, D) and pid int64 (B,)."""
        pid = all_gather(pid)  # (W * B,)
        loss = sdm_loss(global_similarity(image_feats, text_feats), pid[:, None] == pid[None, :], self.tau)
        return at_least_float32(loss, image_feats)
