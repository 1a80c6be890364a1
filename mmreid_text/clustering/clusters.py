"""Clusters of features, and their centroids."""

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmreid_text.clustering.extras import needs_clustering
from mmreid_text.clustering.jaccard import jaccard_graph, unit_rows
from mmreid_text.clustering.neighbours import nearest
from mmreid_text.evaluation.ranking import Array

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

OUTLIER = -1
_TWIN = 1 - 1e-5
"""Cosine similarity from which two features count as the same."""


@dataclass(frozen=True)
class Clustering:
    """``labels`` int64 (N,), clusters 0..C-1 and -1 for outliers; and ``twins``, the items whose features another item
    has as well."""

    labels: np.ndarray
    twins: int


def cluster(
    features: Array,
    k1: int = 30,
    k2: int = 6,
    eps: float = 0.6,
    min_samples: int = 4,
    label: str | None = None,
) -> Clustering:
    """DBSCAN by k-reciprocal Jaccard distance, as the CMMT code and its followers cluster.

    Copies, which have the same features, count as one item of their number: among their neighbours they would leave no
    place for others, and where they are more than ``k1`` would not even find one another.

    A pure function of the features. Time grows with the square of N, memory with N; ``tools/benchmark.py clusters``
    measures both at the size of CUHK-PEDES.

    Args:
        features: float (N, D), of any length; where they are on a GPU, neighbours are found there.
        k1: Neighbours for the reciprocal sets.
        k2: Neighbours over which vectors are averaged.
        eps: Largest distance of neighbours, in (0, 1).
        min_samples: Items within ``eps``, itself included, that make an item a core of a cluster.
        label: Of progress bars, such as 'images'; None shows none.

    Raises:
        ImportError: scikit-learn or scipy is missing.
        ValueError: A feature is not finite, or an argument is out of range.
    """
    kept, group, found = _without_copies(features, max(k1, k2, 2), label)
    graph = jaccard_graph(features[kept], found, k1, k2, eps, label and f"{label}: distances")
    counts = np.bincount(group)
    return Clustering(dbscan(graph, eps, min_samples, counts)[group], int((counts[group] > 1).sum()))


def _without_copies(features: Array, k: int, label: str | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Items of which none is another's copy, and their neighbours.

    Returns:
        The first item of each group of copies, ascending int64 (n,); each item's group int64 (N,); and the groups that
        are nearest to each group, itself first, int64 (n, min(k, n)).
    """
    kept = group = np.arange(len(features))
    found, similarity = nearest(features, k, label and f"{label}: neighbours")
    while True:
        same = _copies(found, similarity)
        first = np.unique(same, return_index=True)[1]
        if len(first) == len(kept):
            return kept, group, found
        kept, group = kept[first], same[group]
        found, similarity = same[found[first]], similarity[first]
        # Who had copies among its neighbours has places for others now; and these may be copies in turn.
        crowded = np.flatnonzero((np.diff(np.sort(found, axis=1), axis=1) == 0).any(axis=1))
        found, similarity = found[:, : len(kept)], similarity[:, : len(kept)]
        found[crowded], similarity[crowded] = nearest(
            features[kept], k, label and f"{label}: neighbours without copies", crowded
        )


def _copies(found: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """Groups of copies int64 (n,), numbered by their first items."""
    with needs_clustering():
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components
    row, place = np.nonzero(similarity > _TWIN)
    same = coo_matrix((np.ones(len(row), dtype=bool), (row, found[row, place])), shape=(len(found), len(found)))
    labels = connected_components(same, directed=False)[1]
    first = np.unique(labels, return_index=True)[1]
    return np.argsort(np.argsort(first))[labels]


def dbscan(graph: "csr_matrix", eps: float = 0.6, min_samples: int = 4, counts: np.ndarray | None = None) -> np.ndarray:
    """scikit-learn's DBSCAN on the distances that a graph holds; those that it lacks count as above ``eps``.

    Args:
        graph: float (N, N), symmetric, its diagonal held, as
            :func:`~mmreid_text.clustering.jaccard.jaccard_graph` gives it.
        eps: Largest distance of neighbours.
        min_samples: Items within ``eps``, itself included, that make an item a core of a cluster.
        counts: How many items each row stands for, int64 (N,); None: one.

    Returns:
        Labels int64 (N,): clusters count from 0 in the order of their first core items; -1 is an outlier.

    Raises:
        ImportError: scikit-learn is missing.
    """
    with needs_clustering():
        from sklearn.cluster import DBSCAN
        from sklearn.exceptions import EfficiencyWarning
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EfficiencyWarning)  # it sorts rows by distance itself
        labels = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit(graph, sample_weight=counts).labels_
    return labels.astype(np.int64)


def count_clusters(labels: np.ndarray) -> int:
    """Number of clusters of labels 0..C-1 and -1."""
    return int(labels.max(initial=OUTLIER)) + 1


def centroids(features: Array, labels: np.ndarray) -> np.ndarray:
    """Mean of each cluster's L2-normalised features, L2-normalised itself.

    Args:
        features: float (N, D), of any length.
        labels: int64 (N,), -1 for outliers.

    Returns:
        float32 (C, D); row c is of label c. Summed in float64 and in the order of items.
    """
    unit = unit_rows(features)
    kept = np.flatnonzero(labels != OUTLIER)
    order = kept[np.argsort(labels[kept], kind="stable")]
    first = np.searchsorted(labels[order], np.arange(count_clusters(labels)))
    if not len(first):
        return np.zeros((0, unit.shape[1]), dtype=np.float32)
    # Their sums point where their means do.
    sums = np.add.reduceat(unit[order], first, axis=0, dtype=np.float64)
    return (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), np.finfo(np.float32).tiny)).astype(
        np.float32
    )
