"""The Jaccard distance as the CMMT code has it: sets, and whole matrices in float64."""

import numpy as np


def dense_jaccard(features: np.ndarray, found: np.ndarray, k1: int, k2: int) -> np.ndarray:
    """Distances float64 (N, N) of features (N, D), whose neighbours are ``found`` (N, k), best first."""
    unit = features.astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    size = len(unit)

    def reciprocal(k):
        near = [set(row[:k].tolist()) for row in found]
        return [{q for q in near[p] if p in near[q]} for p in range(size)]

    full, half = reciprocal(k1), reciprocal(min(round(k1 / 2) + 1, k1))
    vectors = np.zeros((size, size))
    for p in range(size):
        members = set(full[p])
        for q in full[p]:
            if len(full[p] & half[q]) > 2 / 3 * len(half[q]):
                members |= half[q]
        for q in members:
            vectors[p, q] = np.exp(-((unit[p] - unit[q]) ** 2).sum())
        vectors[p] /= vectors[p].sum()
    if k2 > 1:
        vectors = np.stack([vectors[found[p, :k2]].mean(axis=0) for p in range(size)])
    by_column, sums = np.ascontiguousarray(vectors.T), vectors.sum(axis=1)
    distance = np.ones((size, size))
    for p in range(size):
        filled = np.flatnonzero(vectors[p])
        least = np.minimum(by_column[filled], vectors[p, filled][:, None]).sum(axis=0)
        distance[p] -= least / (sums[p] + sums - least)
    return np.maximum(distance, 0)  # rounding
