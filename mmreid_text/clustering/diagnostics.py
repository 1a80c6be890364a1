"""How good labels are: counts, and agreement with identities where these are known."""

from typing import TypedDict

import numpy as np

from mmreid_text.clustering.clusters import OUTLIER, count_clusters
from mmreid_text.clustering.extras import needs_clustering


class Agreement(TypedDict):
    """Of labels with identities, all in [0, 1] but ``ari``, which chance brings to 0."""

    precision: float
    recall: float
    ari: float
    nmi: float


def label_counts(labels: np.ndarray) -> dict[str, int]:
    """``clusters``, ``outliers`` and the items of the ``largest`` cluster, of labels int64 (N,)."""
    sizes = np.bincount(labels[labels != OUTLIER])
    return {
        "clusters": count_clusters(labels),
        "outliers": int((labels == OUTLIER).sum()),
        "largest": int(sizes.max(initial=0)),
    }


def agreement(labels: np.ndarray, identities: np.ndarray) -> Agreement:
    """Compare labels with identities; an outlier counts as a cluster of its own.

    Args:
        labels: int64 (N,), -1 for outliers.
        identities: Integers (N,).

    Returns:
        ``precision``: of all pairs of items with one label, the share that shows one identity; 1 where there is no such
        pair. ``recall``: of all pairs of one identity, the share with one label. ``ari`` is the adjusted Rand index,
        ``nmi`` the normalised mutual information (arithmetic mean), which many small clusters raise by themselves.

    Raises:
        ImportError: scikit-learn is missing.

    >>> agreement(np.array([0, 0, 0, -1]), np.array([5, 5, 7, 7]))["precision"]
    0.3333333333333333
    """
    with needs_clustering():
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
    alone = labels == OUTLIER
    own = np.where(alone, count_clusters(labels) + np.cumsum(alone), labels)
    both = np.unique(np.stack([own, identities]), axis=1, return_counts=True)[1]
    together = _pairs(both)
    labelled, identified = (_pairs(np.unique(ids, return_counts=True)[1]) for ids in (own, identities))
    return {
        "precision": together / labelled if labelled else 1.0,
        "recall": together / identified if identified else 1.0,
        "ari": float(adjusted_rand_score(identities, own)),
        "nmi": float(normalized_mutual_info_score(identities, own)),
    }


def _pairs(sizes: np.ndarray) -> int:
    return int((sizes * (sizes - 1) // 2).sum())
