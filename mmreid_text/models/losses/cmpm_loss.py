"""Cross-modal projection matching, with pairs or with Text-IoU as its target."""

import torch
import torch.nn.functional as F
from torch import nn

from mmreid_text.engine.distributed import all_gather
from mmreid_text.models.losses.similarity import at_least_float32, global_features
from mmreid_text.registry import MODELS


def cmpm_loss(
    image_feats: torch.Tensor,
    text_feats: torch.Tensor,
    affinity: torch.Tensor,
    tau: float | None = None,
    both_ways: bool = True,
    eps: float = 1e-8,
) -> torch.Tensor:
    r"""Cross-modal projection matching (Zhang and Lu, ECCV 2018, Eq. 1 to 4), with a graded target.

    :math:`\frac1B\sum_{ij} p_{ij}\log\frac{p_{ij}}{q_{ij}+\epsilon}` with
    :math:`p_{ij} = \mathrm{softmax}_j\langle t_i, \bar v_j\rangle`, texts *t* projected onto normalised images, and
    :math:`q_{ij} = a_{ij} / \sum_k a_{ik}`. With Text-IoU as *a* this is the loss of CMMT (Zhao et al., ICCV 2021).

    Args:
        image_feats: (B, D), before L2 normalisation.
        text_feats: (B, D), before L2 normalisation: its length is the temperature.
        affinity: (B, B), not negative, symmetric, with a positive diagonal.
        tau: None: as above. A number: both sides are normalised and the products divided by it, for encoders whose
            features were trained as directions, such as CLIP's.
        both_ways: Whether images projected onto normalised texts count as well; the two are added. CMMT's code has the
            one direction alone.
        eps: Kept inside the logarithm, as published.

    Returns:
        Scalar.
    """
    log_q = torch.log(affinity / affinity.sum(dim=1, keepdim=True) + eps)  # (B, B)

    def divergence(projected: torch.Tensor, onto: torch.Tensor) -> torch.Tensor:
        if tau is not None:
            projected = F.normalize(projected, dim=1) / tau
        log_p = (projected @ F.normalize(onto, dim=1).t()).log_softmax(dim=1)
        return (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()

    loss = divergence(text_feats, image_feats)
    return loss + divergence(image_feats, text_feats) if both_ways else loss


class _ProjectionMatching(nn.Module):
    """What both modules share: arguments, and features of all ranks in float64 whatever autocast says."""

    def __init__(self, tau: float | None = None, both_ways: bool = True) -> None:
        super().__init__()
        if tau is not None and tau <= 0:
            raise ValueError(f"{type(self).__name__}: tau must be above 0, or None for projections, got {tau}")
        self.tau = tau
        self.both_ways = both_ways

    def match(self, image_feats: torch.Tensor, text_feats: torch.Tensor, affinity: torch.Tensor) -> torch.Tensor:
        with torch.autocast(image_feats.device.type, enabled=False):
            image, text = global_features(image_feats), global_features(text_feats)
            loss = cmpm_loss(image, text, affinity.double(), self.tau, self.both_ways)
        return at_least_float32(loss, image_feats)


@MODELS.register_module()
class CMPMLoss(_ProjectionMatching):
    """:func:`cmpm_loss` over the batch of all ranks; positives are the pairs of equal ``pid``.

    ``CMMT`` gives the image's row as ``pid``: positives are then an image and its own captions.

    Args:
        tau: None projects one modality onto the other, as published; a number compares directions.
        both_ways: Whether both directions count.

    Use in configs::

        model = dict(losses=[dict(type='CMPMLoss')])
    """

    def forward(self, image_feats: torch.Tensor, text_feats: torch.Tensor, pid: torch.Tensor) -> torch.Tensor:
        """Scalar loss of image_feats (B, D), text_feats (B, D) and pid int64 (B,)."""
        pid = all_gather(pid)  # (W * B,)
        return self.match(image_feats, text_feats, pid[:, None] == pid[None, :])


@MODELS.register_module()
class TextIoUCMPMLoss(_ProjectionMatching):
    """:func:`cmpm_loss` over the batch of all ranks with Text-IoU as the target.

    As published the target is Text-IoU itself. Captions that share a word or two are many in a batch, and together they
    may weigh more than the pair: 7 to 1 in batches of 128 procedural captions. A power of Text-IoU keeps the order and
    takes weight from them.

    Args:
        tau: None projects one modality onto the other, as published; a number compares directions.
        both_ways: Whether both directions count; CMMT's code has texts onto images alone: False.
        power: Exponent of Text-IoU in the target; 1 as published.

    Use in configs::

        model = dict(type='CMMT', iou_losses=[dict(type='TextIoUCMPMLoss')])
    """

    def __init__(self, tau: float | None = None, both_ways: bool = True, power: float = 1.0) -> None:
        super().__init__(tau, both_ways)
        if power <= 0:
            raise ValueError(f"TextIoUCMPMLoss: power must be above 0, got {power}")
        self.power = power

    def forward(self, image_feats: torch.Tensor, text_feats: torch.Tensor, affinity: torch.Tensor) -> torch.Tensor:
        """Scalar loss of image_feats (B, D), text_feats (B, D) and affinity (W * B, W * B) of all ranks' captions.

        Where the affinity is not known, NaN, it counts as 0.
        """
        return self.match(image_feats, text_feats, affinity.nan_to_num(nan=0.0) ** self.power)
