"""Clusters by k-reciprocal Jaccard distance against whole distance matrices, and at the size of CUHK-PEDES."""

import time
from dataclasses import dataclass

import numpy as np
from benchmarks.common import Job, Row, interleaved, peak_memory
from benchmarks.eval import gemm_only
from sklearn.cluster import DBSCAN

from mmreid_text.clustering import cluster, nearest

DIM = 512
K1, K2, EPS, MIN_SAMPLES = 30, 6, 0.6, 4


@dataclass(frozen=True)
class Size:
    """Features of so many people, about equally many of each."""

    name: str
    items: int
    identities: int


SMALL = Size("3,000 items", 3000, 600)
IMAGES = Size("CUHK-PEDES, 34,054 images", 34_054, 11_003)
CAPTIONS = Size("CUHK-PEDES, 68,126 captions", 68_126, 11_003)


def run(rounds: int) -> list[Row]:
    memory = {name: peak_memory("clusters", name, SMALL.name) for name in ("ours", "dense")}
    features = make_features(SMALL)
    ours, dense = cluster(features).labels, dense_labels(features)
    assert (ours == dense).all(), f"{(ours != dense).sum()} labels differ from those of the whole matrices"
    jobs: dict[str, Job] = {"ours": lambda: cluster(features), "dense": lambda: dense_labels(features)}
    seconds = interleaved(jobs, rounds)
    rows = [
        Row(
            f"clusters, {SMALL.name}",
            "whole matrices",
            seconds["ours"],
            seconds["dense"],
            memory["ours"],
            memory["dense"],
            f"{ours.max() + 1} clusters, {(ours < 0).mean():.0%} outliers",
        )
    ]
    for size in (IMAGES, CAPTIONS):
        features = make_features(size)
        seconds = {"ours": _once(lambda f=features: cluster(f)), "gemm": _once(lambda f=features: gemm_only(f, f))}
        remark = f"{features.nbytes / 2**20:,.0f} MB of features not counted"
        used = peak_memory("clusters", "ours", size.name)
        rows.append(
            Row(f"clusters, {size.name}", "cosines alone", seconds["ours"], seconds["gemm"], used, None, remark)
        )
    return rows


def _once(job: Job) -> float:
    """CPU seconds of a job that takes minutes, and whose libraries are loaded."""
    start = time.process_time()
    job()
    return time.process_time() - start


def memory_job(name: str, argument: str) -> Job:
    features = make_features(next(size for size in (SMALL, IMAGES, CAPTIONS) if size.name == argument))
    function = {"ours": lambda f: cluster(f), "dense": dense_labels}[name]
    function(features[:64])  # loads libraries
    return lambda: function(features)


def make_features(size: Size) -> np.ndarray:
    """float32 (N, 512) that vary in 64 directions: a point for each person, and its photos around it."""
    rng = np.random.default_rng(0)
    pid = np.arange(size.items) * size.identities // size.items
    people = rng.standard_normal((size.identities, 64), dtype=np.float32)
    return (people[pid] + 0.8 * rng.standard_normal((size.items, 64), dtype=np.float32)) @ rng.standard_normal(
        (64, DIM), dtype=np.float32
    )


def dense_labels(features: np.ndarray) -> np.ndarray:
    """The usual recipe: vectors and distances as whole matrices, filled row by row, then scikit-learn's DBSCAN."""
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    size = len(unit)
    found, _ = nearest(features, K1)
    near = {k: [set(row[:k].tolist()) for row in found] for k in (K1, round(K1 / 2) + 1)}
    full, half = ([{q for q in own if p in sets[q]} for p, own in enumerate(sets)] for sets in near.values())
    vectors = np.zeros((size, size))
    for p in range(size):
        members = set(full[p])
        for q in full[p]:
            if 3 * len(full[p] & half[q]) > 2 * len(half[q]):
                members |= half[q]
        columns = np.array(sorted(members))
        weights = np.exp(-((unit[p] - unit[columns]) ** 2).sum(axis=1, dtype=np.float64))
        vectors[p, columns] = weights / weights.sum()
    vectors = np.stack([vectors[row[:K2]].mean(axis=0) for row in found])
    by_column = [np.flatnonzero(vectors[:, q]) for q in range(size)]
    distance = np.zeros((size, size))
    for p in range(size):
        common = np.zeros(size)
        for q in np.flatnonzero(vectors[p]):
            common[by_column[q]] += np.minimum(vectors[p, q], vectors[by_column[q], q])
        distance[p] = np.maximum(1 - common / (2 - common), 0)
    return DBSCAN(eps=EPS, min_samples=MIN_SAMPLES, metric="precomputed").fit(distance).labels_
