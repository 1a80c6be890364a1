"""Ranking of pairs by a margin."""

import torch
from torch import nn

from mmreid_text.engine.distributed import all_gather
from mmreid_text.models.losses.similarity import at_least_float32, global_similarity
from mmreid_text.registry import MODELS


def ranking_loss(similarity: torch.Tensor, positive: torch.Tensor, margin: float = 0.2) -> torch.Tensor:
    r"""Bidirectional triplet loss with semi-hard negatives, as in LGUR (Shao et al., MM 2022) and UniPT (ICCV 2023).

    :math:`\sum_i [m - S_{ii} + S_{in}]_+` in both directions. The negative *n* of an anchor is of another identity and
    semi-hard: less similar than the anchor's own pair, but by less than the margin. LGUR draws one of them; here it is
    the most similar one, so that nothing is drawn. An anchor without one does not count.

    Args:
        similarity: (B, B) cosine similarities, images in rows, pairs on the diagonal.
        positive: bool (B, B), true where image and text show the same identity.
        margin: Margin m, above 0.

    Returns:
        Scalar: the *sum* over the batch, as published. Learning rates depend on the batch size.
    """

    def violation(scores: torch.Tensor, same: torch.Tensor) -> torch.Tensor:  # (B, B) -> (B,)
        excess = scores - scores.diagonal()[:, None] + margin
        semi_hard = ~same & (excess > 0) & (excess < margin)
        return excess.masked_fill(~semi_hard, 0).amax(dim=1)

    return (violation(similarity, positive) + violation(similarity.t(), positive.t())).sum()


@MODELS.register_module()
class RankingLoss(nn.Module):
    """:func:`ranking_loss` over the batch of all ranks; pairs of equal ``pid`` are no negatives.

    Args:
        margin: Margin.

    Use in configs::

        model = dict(losses=[dict(type='RankingLoss', margin=0.2)])
    """

    def __init__(self, margin: float = 0.2) -> None:
        super().__init__()
        if margin <= 0:
            raise ValueError(f"RankingLoss: margin must be above 0, got {margin}")
        self.margin = margin

    def forward(self, image_feats: torch.Tensor, text_feats: torch.Tensor, pid: torch.Tensor) -> torch.Tensor:
        """Scalar loss of image_feats (B, D), text_feats (B, D) and pid int64 (B,)."""
        pid = all_gather(pid)  # (W * B,)
        loss = ranking_loss(global_similarity(image_feats, text_feats), pid[:, None] == pid[None, :], self.margin)
        return at_least_float32(loss, image_feats)
