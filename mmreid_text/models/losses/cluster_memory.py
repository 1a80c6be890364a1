"""Classification of one modality among its clusters, whose centroids follow the features."""

import torch
import torch.nn.functional as F
from torch import nn

from mmreid_text.engine.distributed import all_gather, all_gather_with_grad
from mmreid_text.models.losses.similarity import at_least_float32
from mmreid_text.registry import MODELS


def cluster_loss(feats: torch.Tensor, centroids: torch.Tensor, label: torch.Tensor, tau: float = 0.05) -> torch.Tensor:
    r"""Sum over clustered samples of :math:`-\log\mathrm{softmax}_k(\langle \bar f, c_k\rangle / \tau)` at their label.

    Args:
        feats: (B, D), any norm.
        centroids: (C, D), of norm 1; C may be 0.
        label: int64 (B,) in 0..C-1, or -1 for samples of no cluster, which do not count.
        tau: Temperature, above 0.

    Returns:
        Scalar.
    """
    if not len(centroids):
        return feats.sum() * 0.0
    logits = F.normalize(feats, dim=1) @ centroids.t().to(feats.dtype) / tau
    return F.cross_entropy(logits, label, ignore_index=-1, reduction="sum")


def moved_centroids(
    centroids: torch.Tensor, feats: torch.Tensor, label: torch.Tensor, momentum: float = 0.2
) -> torch.Tensor:
    """Centroids after a batch: ``momentum`` times the old one plus the rest of the members' mean, normalised again.

    Published memories move once per sample, one after the other, so their outcome depends on the order; the mean does
    not, and is the same on every rank. With one member in the batch both are equal.

    Args:
        centroids: (C, D), of norm 1.
        feats: (B, D), any norm.
        label: int64 (B,), -1 for samples that move nothing.
        momentum: Share of the old centroid, in [0, 1].

    Returns:
        (C, D) in memory of its own.
    """
    if not len(centroids):
        return centroids
    same = label[:, None] == label[None, :]  # (B, B)
    members = same.to(centroids.dtype)
    means = (members @ F.normalize(feats.to(centroids.dtype), dim=1)) / members.sum(dim=1, keepdim=True)
    means = means[same.to(torch.int8).argmax(dim=1)]  # the first member's, that members write the same bits
    moved = F.normalize(momentum * centroids[label.clamp(min=0)] + (1 - momentum) * means, dim=1)
    spare = torch.cat((centroids, centroids[:1]))  # one row more, which samples without a cluster may overwrite
    return spare.index_put((torch.where(label < 0, len(centroids), label),), moved)[: len(centroids)]


@MODELS.register_module()
class ClusterMemory(nn.Module):
    """A modality's cluster centroids and :func:`cluster_loss` against them, averaged over all ranks' clustered samples.

    The memory of SpCL (Ge et al., NeurIPS 2020, Eq. 1 and 4) without its single instances: CMMT (Zhao et al., ICCV
    2021) leaves samples of no cluster out of self-training, and so does this. Centroids are no parameters and in no
    checkpoint: they come anew with the pseudo labels, before every epoch.

    Args:
        tau: Temperature.
        momentum: Share of the old centroid when the batch's members move it.

    Raises:
        ValueError: An argument is out of range.

    Use in configs::

        model = dict(type='CMMT', cluster_memory=dict(type='ClusterMemory', tau=0.05, momentum=0.2))
    """

    def __init__(self, tau: float = 0.05, momentum: float = 0.2) -> None:
        super().__init__()
        if tau <= 0 or not 0 <= momentum <= 1:
            raise ValueError(
                f"ClusterMemory needs tau > 0 and momentum in [0, 1], got tau={tau} and momentum={momentum}"
            )
        self.tau = tau
        self.momentum = momentum
        self.centroids: torch.Tensor | None = None

    def forward(self, feats: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        """Scalar loss of feats (B, D) and label int64 (B,), -1 for none; in training the centroids then move.

        The loss is 0 where no sample of any rank has a cluster, and before there are centroids.
        """
        if self.centroids is None or not len(self.centroids):
            return at_least_float32(feats.sum() * 0.0, feats)
        with torch.autocast(feats.device.type, enabled=False):
            wide = at_least_float32(feats, feats)
            total = all_gather_with_grad(cluster_loss(wide, self.centroids, label, self.tau)[None]).sum()
            everyone = all_gather(label)
            if self.training:
                # A new tensor: the backward pass of this batch reads the old one.
                found = all_gather(wide.detach())
                self.centroids = moved_centroids(self.centroids, found, everyone, self.momentum)
            return total / (everyone >= 0).sum().clamp(min=1)
