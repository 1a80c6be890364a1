"""Re-rankers: what reorders a text-to-image ranking after the cosine similarities are known.

A re-ranker is a class that is registered in ``METRICS`` and gives scores; ``ReIDMetric(rerank=dict(type=...))`` ranks
by them beside the plain ranking. Ties rank in gallery order, as in :mod:`~mmreid_text.evaluation.ranking`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from mmreid_text.evaluation import k_reciprocal
from mmreid_text.evaluation.features import DatasetFeatures
from mmreid_text.evaluation.ranking import score_blocks, top_k
from mmreid_text.registry import METRICS

Scorer = Callable[[DatasetFeatures, np.ndarray, np.ndarray], np.ndarray]


class Reranker(ABC):
    """Base of the re-rankers."""

    @abstractmethod
    def scores(self, features: DatasetFeatures) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Score every gallery image for every caption, block by block.

        Returns:
            Captions int64 (B,) and their scores (B, G) of a float dtype, higher is better; every caption once. The next
            block may overwrite the scores.
        """


@METRICS.register_module()
class TopKReranker(Reranker):
    """Lets a scorer order the best ``k`` images of every caption anew; the others follow in their order.

    This is how image-text matching heads are used (ALBEF, RaSa, APTM): a head that reads image and text together is
    dear, so it sees the best candidates of the cosine ranking only. No such head is part of this package: the scorer is
    yours. It is called with the features of a dataset, some of its captions int64 (B,) and their candidate images
    int64 (B, k), best first, and returns scores (B, k), higher is better. ``features.row`` and ``features.text_image``
    say which rows of the test dataset these are, for scorers that read pixels and words. It runs on the main process.

    Args:
        scorer: Callable, or the config of a class in ``METRICS`` whose instances are called.
        k: Candidates per caption; 128 in RaSa and APTM. A smaller gallery is scored as a whole.

    Raises:
        ValueError: ``k`` is below 1, or the scorer returns another shape or scores that are not finite.

    Config::

        test_evaluator = dict(type='ReIDMetric', rerank=dict(type='TopKReranker', k=128, scorer=dict(type='MyScorer')))
    """

    def __init__(self, scorer: Scorer | Mapping[str, Any], k: int = 128) -> None:
        if k < 1:
            raise ValueError(f"TopKReranker(k={k}) must be at least 1.")
        self.scorer: Scorer = METRICS.build(scorer) if isinstance(scorer, Mapping) else scorer
        self.k = k

    def scores(self, features: DatasetFeatures) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        candidates, _ = top_k(features.text, features.image, self.k)
        name = type(self.scorer).__name__
        for rows, block in score_blocks(features.text, features.image, 4 * len(features.image)):
            scores = np.asarray(block)
            best = np.asarray(self.scorer(features, rows, candidates[rows]))
            if best.shape != candidates[rows].shape:
                raise ValueError(f"{name} returned scores {best.shape} for candidates {candidates[rows].shape}.")
            if not np.isfinite(best).all():
                raise ValueError(f"{name} returned a score that is not finite.")
            # Above all cosines, which are at most 1; equal scores stay equal.
            scores[np.arange(len(rows))[:, None], candidates[rows]] = 2 + _dense_ranks(best)
            yield rows, scores


@METRICS.register_module()
class KReciprocalReranker(Reranker):
    """k-reciprocal re-ranking (Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, 2017).

    With ``d(p, q) = 1 - cos(p, q)`` over all Q captions and G images of a dataset (half the squared distance of unit
    features), ``N(p, k)`` the nearest of ``p`` and ``R(p, k)`` those of them that have ``p`` among theirs (Eq. 2):

    * ``R*(p)`` is ``R(p, k1)`` and every ``R(q, k1 / 2)`` of a ``q`` in it of which it holds two thirds (Eq. 3);
    * ``V_p`` is ``exp(-d(p, q))`` at ``q`` in ``R*(p)`` and 0 elsewhere (Eq. 7), divided by its sum, then averaged over
      ``N(p, k2)`` unless ``k2`` is 1 (Eq. 11);
    * the score is ``-(lambda_ d(p, g) + (1 - lambda_) J(p, g))``, ``J = 1 - sum min(V_p, V_g) / sum max(V_p, V_g)``
      (Eq. 10 and 12).

    The paper compares images with images. Captions lie nearer to captions than to any image, so that here a joint
    ``N(p, k)`` would hold captions only and change next to nothing. Therefore ``N(p, k)`` are the ``k`` nearest
    captions *and* the ``k`` nearest images of ``p``.

    The defaults are the paper's, for galleries with many images of a person. ``k1`` should not be far above the number
    of images per identity: ``docs/evaluation.md`` shows what it does. All captions and images of the test set take
    part, which a system that answers one query at a time does not have: report such numbers apart.

    Scores come in blocks, so memory grows with Q + G: at 19,848 captions and images 0.3 GB, and 80 s of one core.

    Args:
        k1: Neighbours of each kind for the reciprocal sets.
        k2: Neighbours of each kind for the average; 1 takes none.
        lambda_: Weight of the plain distance, in [0, 1].

    Raises:
        ValueError: An argument is out of range.

    Config::

        test_evaluator = dict(type='ReIDMetric', rerank=dict(type='KReciprocalReranker', k1=20, k2=6, lambda_=0.3))
    """

    def __init__(self, k1: int = 20, k2: int = 6, lambda_: float = 0.3) -> None:
        if k1 < 1 or k2 < 1:
            raise ValueError(f"KReciprocalReranker(k1={k1}, k2={k2}) must be at least 1.")
        if not 0 <= lambda_ <= 1:
            raise ValueError(f"KReciprocalReranker(lambda_={lambda_}) must lie in [0, 1].")
        self.k1, self.k2, self.lambda_ = k1, k2, lambda_

    def scores(self, features: DatasetFeatures) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        num_text, num_image = len(features.text), len(features.image)
        encoded = self._encode(features)
        sums, index = encoded.sums(), k_reciprocal.InvertedRows.of(encoded, num_text)
        for rows, cosine in score_blocks(features.text, features.image, 40 * num_image):
            overlap = np.empty((len(rows), num_image))
            for part in k_reciprocal.parts(index.cells(encoded, rows), k_reciprocal.CELLS):
                overlap[part] = index.overlap(encoded, rows[part])
            total = sums[rows, None] + sums[num_text:]
            jaccard = 1 - overlap / np.maximum(total - overlap, np.finfo(np.float64).tiny)
            yield rows, -(self.lambda_ * (1 - cosine) + (1 - self.lambda_) * jaccard)

    def _encode(self, features: DatasetFeatures) -> k_reciprocal.SparseRows:
        """``V`` of all captions, then of all images, over the same order."""
        unit = np.concatenate([features.text, features.image]).astype(np.float32)
        unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        nearest = _nearest(unit, len(features.text), max(self.k1, self.k2))
        return k_reciprocal.encode(unit, nearest, self.k1, self.k2)


def _nearest(unit: np.ndarray, num_text: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The nearest captions and the nearest images of all (N, D), best first: int64 (N, min(k, Q)), (N, min(k, G))."""
    text, image = top_k(unit, unit[:num_text], k)[0], top_k(unit, unit[num_text:], k)[0]
    return text, image + num_text


def _dense_ranks(scores: np.ndarray) -> np.ndarray:
    """0 for the lowest score of each row (B, k), 1 for the next higher one, ...; int64 (B, k)."""
    order = np.argsort(scores, axis=1, kind="stable")
    ordered = np.take_along_axis(scores, order, axis=1)
    ranks = np.empty(scores.shape, dtype=np.int64)
    steps = np.diff(ordered, axis=1, prepend=ordered[:, :1]) != 0
    np.put_along_axis(ranks, order, np.cumsum(steps, axis=1), axis=1)
    return ranks
