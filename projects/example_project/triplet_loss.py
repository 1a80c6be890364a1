"""A loss of one's own: the hardest negative of each pair must stay a margin behind."""

import torch
from torch import nn

from mmreid_text.engine.distributed import all_gather
from mmreid_text.models.losses.similarity import global_similarity
from mmreid_text.registry import MODELS


@MODELS.register_module()
class HardestTripletLoss(nn.Module):
    """Mean hinge of the hardest in-batch negative, both directions, as in VSE++ (BMVC 2018).

    Args:
        margin: Of cosine similarity, in [0, 2].

    Use in configs::

        model = dict(losses=[dict(type='HardestTripletLoss', margin=0.2)])
    """

    def __init__(self, margin: float = 0.2) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, image_feats: torch.Tensor, text_feats: torch.Tensor, pid: torch.Tensor) -> torch.Tensor:
        """Scalar loss of image_feats (B, D), text_feats (B, D) and pid int64 (B,)."""
        similarity = global_similarity(image_feats, text_feats)  # (W * B, W * B)
        pid = all_gather(pid)
        negative = similarity.masked_fill(pid[:, None] == pid[None, :], -1)
        positive = similarity.diagonal()
        return sum((self.margin + negative.amax(dim) - positive).clamp(min=0).mean() for dim in (0, 1))
