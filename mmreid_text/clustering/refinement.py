"""Mutual pseudo label refinement: clusters of one modality take in outliers by what their partners are near to."""

from dataclasses import dataclass

import numpy as np

from mmreid_text.clustering.clusters import OUTLIER
from mmreid_text.clustering.jaccard import unit_rows
from mmreid_text.evaluation.k_reciprocal import parts, ranges
from mmreid_text.evaluation.ranking import Array

_CELLS = 2**24
"""Similarities that are held at a time, 4 bytes each."""


@dataclass(frozen=True)
class Pairs:
    """Which items of one modality belong to which of the other: ``left[i]`` with ``right[i]``, int64 (n,) both."""

    left: np.ndarray
    right: np.ndarray

    def turned(self) -> "Pairs":
        return Pairs(self.right, self.left)


def refine(
    image_feats: Array,
    text_feats: Array,
    image_labels: np.ndarray,
    text_labels: np.ndarray,
    image_of_text: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Mutual pseudo label refinement (MPLR; CMMT, Zhao et al., ICCV 2021, section 3.2) in both directions.

    An unclustered caption ``t`` looks at its image ``v``. Where ``v`` lies in an image cluster, the members ``v_c`` of
    it are taken in descending similarity ``<v, v_c>``; the first one that has a clustered caption ``t'`` decides: ``t``
    joins the cluster of ``t'``. Where there is none, or ``v`` is itself unclustered, ``t`` stays an outlier.
    Unclustered images do the same by their captions.

    Both directions read the labels as clustering left them, so no rescue depends on another. The paper takes the most
    similar member outside a set that it does not define; this walk takes that to be the members that cannot answer.
    What the paper, which pairs an image with one caption, leaves open for several:

    * the walk starts at ``v`` itself: its other captions, if clustered, are the nearest witnesses there are;
    * an image looks at all its clustered captions, and the most similar of all their neighbours decides;
    * of several clustered captions of ``v_c``, ``t'`` is the one most similar to ``t``.

    Equal similarities fall to the lower row.

    Args:
        image_feats: float (I, D), of any length; compared by cosine.
        text_feats: float (T, D).
        image_labels: int64 (I,), -1 for outliers.
        text_labels: int64 (T,).
        image_of_text: int64 (T,), the image that each caption belongs to.

    Returns:
        Image and text labels int64 (I,) and (T,): clusters keep their numbers, and who was clustered stays where it is.

    Images 0, 1 and 2 are one cluster, and so are captions 1 and 2. Caption 0 was left out; of the other images its own
    image is most like image 2, whose caption 2 is clustered, so it joins caption 2. Image 3 is an outlier whose caption
    is one, too: both stay. Image 4 is an outlier whose caption is of the captions' cluster and there most like caption
    2, so it joins image 2.

    >>> image = np.array([[1, 0], [0.8, 0.6], [0.96, 0.28], [0, -1], [-0.6, 0.8]])
    >>> text = np.array([[-1, 0], [0, 1], [0.28, 0.96], [0.6, -0.8], [0.6, 0.8]])
    >>> refine(image, text, np.array([0, 0, 0, -1, -1]), np.array([-1, 0, 0, -1, 0]), np.arange(5))
    (array([ 0,  0,  0, -1,  0]), array([ 0,  0,  0, -1,  0]))
    """
    image, text = unit_rows(image_feats), unit_rows(text_feats)
    pairs = Pairs(image_of_text, np.arange(len(text)))
    return (
        rescued_labels(image, text, image_labels, text_labels, pairs),
        rescued_labels(text, image, text_labels, image_labels, pairs.turned()),
    )


def rescued_labels(
    own: np.ndarray, other: np.ndarray, own_labels: np.ndarray, other_labels: np.ndarray, pairs: Pairs
) -> np.ndarray:
    """One direction of :func:`refine`: labels of the left items, outliers among them taken in where they can be.

    Args:
        own: float32 (N, D) of unit length, the left items.
        other: float32 (M, D) of unit length, the right items.
        own_labels: int64 (N,), -1 for outliers.
        other_labels: int64 (M,).
        pairs: Left and right items that belong together.
    """
    # Who asks: outliers, by their clustered partners. Who can answer: clustered items with a clustered partner.
    asks = (own_labels[pairs.left] == OUTLIER) & (other_labels[pairs.right] != OUTLIER)
    answers = (own_labels[pairs.left] != OUTLIER) & (other_labels[pairs.right] != OUTLIER)
    through, place = np.unique(pairs.right[asks], return_inverse=True)
    answer, similarity = _nearest_of_cluster(other, other_labels, through, np.unique(pairs.right[answers]))
    asking, answer, similarity = pairs.left[asks], answer[place], similarity[place]
    found = answer >= 0
    asking, answer = _first_of_each(asking[found], -similarity[found], answer[found])
    labels = own_labels.copy()
    witness = _nearest_partner(own, asking, answer, Pairs(pairs.left[answers], pairs.right[answers]))
    labels[asking] = own_labels[witness]
    return labels


def _nearest_of_cluster(
    features: np.ndarray, labels: np.ndarray, queries: np.ndarray, members: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each query the most similar of those ``members`` that are of its cluster, -1 where none is; int64 (Q,), and
    the similarity float32 (Q,). Rows come ascending."""
    found, similarity = np.full(len(queries), -1), np.zeros(len(queries), dtype=np.float32)
    members = members[np.argsort(labels[members], kind="stable")]
    order = np.argsort(labels[queries], kind="stable")
    cluster, first, count = np.unique(labels[queries][order], return_index=True, return_counts=True)
    low = np.searchsorted(labels[members], cluster)
    high = np.searchsorted(labels[members], cluster, side="right")
    for begin, size, start, stop in zip(first, count, low, high):
        if start == stop:
            continue
        candidates = features[members[start:stop]].T
        for part in parts(np.full(size, stop - start), _CELLS):
            at = order[begin : begin + size][part]
            scores = features[queries[at]] @ candidates
            best = scores.argmax(axis=1)
            found[at] = members[start:stop][best]
            similarity[at] = scores[np.arange(len(at)), best]
    return found, similarity


def _nearest_partner(own: np.ndarray, asking: np.ndarray, answer: np.ndarray, pairs: Pairs) -> np.ndarray:
    """For each of ``asking`` (n,) the most similar left partner of its ``answer``; int64 (n,). Each has one."""
    pairs = Pairs(*(side[np.lexsort((pairs.left, pairs.right))] for side in (pairs.left, pairs.right)))
    start = np.searchsorted(pairs.right, answer)
    at, question = ranges(start, np.searchsorted(pairs.right, answer, side="right") - start)
    witness = pairs.left[at]
    similarity = np.einsum("nd,nd->n", own[asking[question]], own[witness])
    return _first_of_each(question, -similarity, witness)[1]


def _first_of_each(group: np.ndarray, cost: np.ndarray, item: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct groups, ascending, and the item of least cost of each, the lower one of equals; int64 (G,) both."""
    order = np.lexsort((item, cost, group))
    distinct, first = np.unique(group[order], return_index=True)
    return distinct, item[order][first]
