"""Cross-modal projection classification."""

import torch
import torch.nn.functional as F
from torch import nn

from mmreid_text.engine.distributed import all_gather, all_gather_with_grad
from mmreid_text.models.losses.similarity import at_least_float32
from mmreid_text.registry import MODELS


def cmpc_loss(
    image_feats: torch.Tensor, text_feats: torch.Tensor, weight: torch.Tensor, label: torch.Tensor
) -> torch.Tensor:
    r"""Cross-modal projection classification, summed over samples (Zhang and Lu, ECCV 2018, Eq. 6 to 9).

    Images are projected onto their normalised texts, :math:`\hat v_i = \langle v_i, \bar t_i\rangle \bar t_i`, texts
    onto their normalised images, and both are classified by weights of norm 1 without bias: the sum of two cross
    entropies.

    Args:
        image_feats: (B, D), before L2 normalisation.
        text_feats: (B, D), before L2 normalisation, row by row the images' own.
        weight: (C, D), any norm; C is at least 1.
        label: int64 (B,) in 0..C-1, or -1 for pairs that do not count.

    Returns:
        Scalar.
    """
    classes = F.normalize(weight, dim=1).t().to(image_feats.dtype)  # (D, C)

    def entropy(projected: torch.Tensor, onto: torch.Tensor) -> torch.Tensor:
        onto = F.normalize(onto, dim=1)
        length = (projected * onto).sum(dim=1, keepdim=True)
        return F.cross_entropy(length * (onto @ classes), label, ignore_index=-1, reduction="sum")

    return entropy(image_feats, text_feats) + entropy(text_feats, image_feats)


@MODELS.register_module()
class CMPCLoss(nn.Module):
    """:func:`cmpc_loss` averaged over all ranks' pairs that have a class.

    Published with a learned weight per identity. Where classes are clusters they are others in every epoch, so the
    weights are the clusters' centroids.

    Use in configs::

        model = dict(type='CMMT', cluster_memory=dict(type='ClusterMemory'), cmpc=dict(type='CMPCLoss'))
    """

    def forward(
        self, image_feats: torch.Tensor, text_feats: torch.Tensor, weight: torch.Tensor, label: torch.Tensor
    ) -> torch.Tensor:
        """Scalar loss of image_feats (B, D), text_feats (B, D), weight (C, D) and label int64 (B,), -1 for none."""
        with torch.autocast(image_feats.device.type, enabled=False):
            image, text = (at_least_float32(x, x) for x in (image_feats, text_feats))
            total = all_gather_with_grad(cmpc_loss(image, text, weight, label)[None]).sum()
            return total / (all_gather(label) >= 0).sum().clamp(min=1)
