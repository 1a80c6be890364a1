"""Triplet alignment."""

import torch
from torch import nn

from mmreid_text.engine.distributed import all_gather
from mmreid_text.models.losses.similarity import at_least_float32, global_similarity
from mmreid_text.registry import MODELS


def tal_loss(similarity: torch.Tensor, positive: torch.Tensor, margin: float = 0.1, tau: float = 0.015) -> torch.Tensor:
    r"""Triplet alignment loss of RDE (Qin et al., CVPR 2024): a triplet loss whose hardest negative is a soft maximum.

    :math:`\sum_i [m - S_i^+ + \tau\log\sum_{j\,\text{negative}} \exp(S_{ij}/\tau)]_+` in both directions. S⁺ is the
    mean similarity of a row's positives, weighted by their softmax over S / tau; the weights carry no gradient.

    Args:
        similarity: (B, B) cosine similarities, images in rows.
        positive: bool (B, B), symmetric, true where image and text show the same identity; every row has one.
        margin: Margin m.
        tau: Temperature, above 0.

    Returns:
        Scalar: the *sum* over the batch, as published. Learning rates depend on the batch size.
    """

    def violation(scores: torch.Tensor) -> torch.Tensor:  # (B, B) -> (B,)
        weights = (scores / tau).masked_fill(~positive, -torch.inf).softmax(dim=1).detach()
        # A finite stand-in for "none": the gradient of a row without negatives would be NaN.
        negatives = tau * (scores / tau).masked_fill(positive, -1e4).logsumexp(dim=1)
        return (margin - (weights * scores).sum(dim=1) + negatives).clamp(min=0)

    return (violation(similarity) + violation(similarity.t())).sum()


@MODELS.register_module()
class TALLoss(nn.Module):
    """:func:`tal_loss` over the batch of all ranks; positives are the pairs of equal ``pid``.

    Args:
        margin: Margin.
        tau: Temperature.

    Use in configs::

        model = dict(losses=[dict(type='TALLoss', margin=0.1, tau=0.015)])
    """

    def __init__(self, margin: float = 0.1, tau: float = 0.015) -> None:
        super().__init__()
        if tau <= 0:
            raise ValueError(f"TALLoss: tau must be above 0, got {tau}")
        self.margin = margin
        self.tau = tau

    def forward(self, image_feats: torch.Tensor, text_feats: torch.Tensor, pid: torch.Tensor) -> torch.Tensor:
        """Scalar loss of image_feats (B, D), text_feats (B, D) and pid int64 (B,)."""
        pid = all_gather(pid)  # (W * B,)
        positive = pid[:, None] == pid[None, :]
        loss = tal_loss(global_similarity(image_feats, text_feats), positive, self.margin, self.tau)
        return at_least_float32(loss, image_feats)
