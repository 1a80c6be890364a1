"""Hard samples found by features, and told apart by Text-IoU."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from mmreid_text.models.losses.similarity import at_least_float32, global_features
from mmreid_text.registry import MODELS

KINDS = ("cross", "intra")


def hard_mining_loss(
    similarity: torch.Tensor,
    affinity: torch.Tensor,
    own_pair: bool,
    topk: int = 20,
    positive: float = 0.5,
    negative: float = 0.2,
    margin: float = 0.2,
) -> torch.Tensor:
    r"""Triplets among the samples of a batch that look alike (Zhao et al., ICCV 2021, Text-IoU guided mining).

    Of the ``topk`` samples most similar to an anchor, those whose captions share much with the anchor's are likely the
    same person, set *P*, and those whose captions share little are hard negatives, set *Q*. Per anchor with both

    :math:`\frac1{|P|}\sum_{p\in P} [m + \max_{q\in Q} s_q - s_p]_+`,

    averaged over such anchors. The paper's thresholds and its loss are not known; these are ours.

    Args:
        similarity: (B, B) cosine similarities, anchors in rows.
        affinity: (B, B) Text-IoU of the captions; a pair whose Text-IoU is not known, NaN, is in neither set.
        own_pair: True where rows and columns are of different modalities: the anchor's own pair is always in *P*. False
            where they are the same samples: the anchor is in neither set.
        topk: How many count as alike.
        positive: Text-IoU from which on a sample is in *P*.
        negative: Text-IoU up to which a sample is in *Q*.
        margin: Margin m.

    Returns:
        Scalar; 0 where no anchor has both.
    """
    own = torch.eye(len(similarity), dtype=torch.bool, device=similarity.device)
    scores = similarity.detach() if own_pair else similarity.detach().masked_fill(own, -torch.inf)
    near = scores.topk(min(topk, len(scores)), dim=1).indices
    alike = torch.zeros_like(own).scatter_(1, near, True)
    positives = alike & (affinity >= positive) & ~own
    negatives = alike & (affinity <= negative) & ~own
    if own_pair:
        positives = positives | own
    hardest = similarity.masked_fill(~negatives, -torch.inf).amax(dim=1, keepdim=True)  # (B, 1)
    found = negatives.any(dim=1) & positives.any(dim=1)
    hardest = torch.where(found[:, None], hardest, 0.0)  # -inf would give the gradient of a row without any NaN
    violation = (margin + hardest - similarity).clamp(min=0) * positives
    per_anchor = violation.sum(dim=1) / positives.sum(dim=1).clamp(min=1)
    return (per_anchor * found).sum() / found.sum().clamp(min=1)


@MODELS.register_module()
class HardMiningLoss(nn.Module):
    """:func:`hard_mining_loss` over the batch of all ranks, between and within the modalities.

    ``cross`` is the mean of texts among images and images among texts, ``intra`` that of images among images and texts
    among texts; the two are added.

    Args:
        topk: How many count as alike.
        positive: Text-IoU from which on a pair is a positive one.
        negative: Text-IoU up to which it is a negative one.
        margin: Margin of the cosines.
        kinds: Some of 'cross' and 'intra'.

    Raises:
        ValueError: An argument is out of range.

    Use in configs::

        model = dict(type='CMMT', iou_losses=[dict(type='HardMiningLoss', positive=0.5, negative=0.2, start=5)])
    """

    def __init__(
        self,
        topk: int = 20,
        positive: float = 0.5,
        negative: float = 0.2,
        margin: float = 0.2,
        kinds: Sequence[str] = KINDS,
    ) -> None:
        super().__init__()
        if topk < 1 or not 0 <= negative < positive <= 1 or margin < 0:
            raise ValueError(
                "HardMiningLoss needs topk >= 1, 0 <= negative < positive <= 1 and margin >= 0, "
                f"got topk={topk}, negative={negative}, positive={positive} and margin={margin}"
            )
        if not kinds or set(kinds) - set(KINDS):
            raise ValueError(f"HardMiningLoss: kinds must be some of {KINDS}, got {tuple(kinds)}")
        self.topk = topk
        self.positive = positive
        self.negative = negative
        self.margin = margin
        self.kinds = tuple(kinds)

    def forward(self, image_feats: torch.Tensor, text_feats: torch.Tensor, affinity: torch.Tensor) -> torch.Tensor:
        """Scalar loss of image_feats (B, D), text_feats (B, D) and affinity (W * B, W * B) of all ranks' captions."""
        with torch.autocast(image_feats.device.type, enabled=False):
            image, text = (F.normalize(global_features(x), dim=1) for x in (image_feats, text_feats))
            sides = {"cross": ((text, image), (image, text)), "intra": ((image, image), (text, text))}
            loss = sum(
                (
                    hard_mining_loss(
                        anchors @ others.t(),
                        affinity,
                        kind == "cross",
                        self.topk,
                        self.positive,
                        self.negative,
                        self.margin,
                    )
                    for kind in self.kinds
                    for anchors, others in sides[kind]
                ),
                start=image.new_zeros(()),
            )
        return at_least_float32(loss / 2, image_feats)
