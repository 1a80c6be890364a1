"""Exact search by inner products: single queries at the speed of memory, many at that of matrix products."""

from collections.abc import Iterator

import numpy as np
import torch

from mmreid_text.gallery.faiss_library import load_faiss

FIRST_BLOCK = 2048
"""Vectors that are scored first, and tell what is not among the best of the others."""
BLOCK = 8192
"""Vectors that are scored at a time: their scores stay in the cache."""
LONG_BLOCK = 32_768
"""The same for few queries, whose scores are few."""
QUERIES = 256
"""Queries that are scored at a time."""
_FEW = 8
"""Below so many queries, reading the vectors costs more than a matrix product saves."""
_SPARSE = 8
"""Where fewer than one in so many vectors is allowed, only these are read."""
_BF16_ERROR = 2**-7 + 2**-8 + 2**-12
"""Most by which the bfloat16 product of two unit vectors is off.

Rounding moves each factor by at most 2^-8 of itself, so each product by 2^-7 and, by Cauchy-Schwarz, their sum by 2^-7;
rounding the result adds 2^-8, and the rest is for second-order terms and the float32 sum.
"""


def exact_search(
    vectors: np.ndarray, queries: np.ndarray, topk: int, allowed: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The ``topk`` vectors of largest inner product with each query; the lower row comes first where two are equal.

    With many queries, on processors that multiply bfloat16 natively, a product in bfloat16 rules out what cannot be
    among the best, by a bound on its error, and the rest is computed in float32: nothing is missed.

    Args:
        vectors: float32 (N, D), rows of length 1 at most; may be memory-mapped.
        queries: float32 (Q, D), rows of length 1 at most.
        topk: At least 1.
        allowed: bool (N,), rows that may be found; None for all.

    Returns:
        Rows int64 (Q, topk), best first, and their scores float32; where fewer are allowed, -1 and -inf follow.
    """
    rows = None
    if allowed is not None and np.count_nonzero(allowed) * _SPARSE < len(allowed):
        rows, allowed = np.flatnonzero(allowed), None
    found = [
        _search_chunk(vectors, queries[start : start + QUERIES], topk, allowed, rows)
        for start in range(0, len(queries), QUERIES)
    ]
    if not found:
        return np.empty((0, topk), np.int64), np.empty((0, topk), np.float32)
    return np.concatenate([ids for ids, _ in found]), np.concatenate([scores for _, scores in found])


def _search_chunk(
    vectors: np.ndarray, queries: np.ndarray, topk: int, allowed: np.ndarray | None, rows: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    queries = np.ascontiguousarray(queries, np.float32)
    best = _Best(len(queries), topk)
    screen = _Screen(queries) if len(queries) >= _FEW and _has_bf16() else None
    count = len(vectors) if rows is None else len(rows)
    size = LONG_BLOCK if rows is None and len(queries) < _FEW else BLOCK
    buffer = np.empty((len(queries), max(size, FIRST_BLOCK)), np.float32)  # fresh memory would cost more than sums
    for start, stop in _blocks(count, size):
        block = vectors[start:stop] if rows is None else vectors[rows[start:stop]]
        may = None if allowed is None else allowed[start:stop]
        if screen is None or not best.full or not screen.offer(best, block, start, may):
            scores = _scores(block, queries, buffer[:, : stop - start])
            if may is not None:
                scores[:, ~may] = -np.inf
            best.offer(scores, start)
    ids, scores = best.result()
    if rows is not None and len(rows):
        ids = np.where(ids < 0, -1, rows[ids])
    return ids, scores


def _blocks(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Where blocks of so many start and stop."""
    start, stop = 0, min(FIRST_BLOCK, count)
    while start < count:
        yield start, stop
        start, stop = stop, min(stop + size, count)


def _scores(block: np.ndarray, queries: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Inner products, float32 (Q, B), in ``scores``."""
    if len(queries) >= _FEW:
        return np.matmul(queries, block.T, out=scores)
    faiss = load_faiss()
    block = np.ascontiguousarray(block)
    for query, row in zip(queries, scores):  # twice as fast as a matrix-vector product of BLAS
        faiss.fvec_inner_products_ny(
            faiss.swig_ptr(row), faiss.swig_ptr(query), faiss.swig_ptr(block), block.shape[1], len(block)
        )
    return scores


class _Screen:
    """Rules out, by a product in bfloat16, what cannot be among the best.

    Args:
        queries: float32 (Q, D).
    """

    def __init__(self, queries: np.ndarray) -> None:
        self.queries = queries
        self._blurred_queries = torch.from_numpy(queries).bfloat16()
        # Kept from block to block: fresh memory would cost more than what is done in it.
        self._block = torch.empty(BLOCK, queries.shape[1], dtype=torch.bfloat16)
        self._scores = torch.empty(len(queries), BLOCK)

    def offer(self, best: "_Best", block: np.ndarray, start: int, may: np.ndarray | None) -> bool:
        """Offer the rows of a block that may be among the best; False if they would be too many."""
        blurred_block = self._block[: len(block)].copy_(torch.from_numpy(np.require(block, requirements="W")))
        scores = self._scores[:, : len(block)].copy_(self._blurred_queries @ blurred_block.T).numpy()
        if may is not None:
            scores[:, ~may] = -np.inf
        hits = np.flatnonzero(scores >= (best.threshold - _BF16_ERROR)[:, None])
        if len(hits) * 50 > scores.size:
            return False
        query, column = np.divmod(hits, len(block))
        best.add(query, start + column, np.einsum("ij,ij->i", self.queries[query], block[column]))
        return True


def _has_bf16() -> bool:
    return any(getattr(torch.cpu, name, bool)() for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))


class _Best:
    """The best rows of each query so far; what is offered is merged into them now and then."""

    def __init__(self, queries: int, topk: int) -> None:
        self.ids = np.full((queries, topk), -1, np.int64)
        self.scores = np.full((queries, topk), -np.inf, np.float32)
        self._offered: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self._waiting = 0

    @property
    def threshold(self) -> np.ndarray:
        """Score that a row must exceed, float32 (Q,); it may lag behind what was offered."""
        return self.scores[:, -1]

    @property
    def full(self) -> bool:
        return bool((self.threshold > -np.inf).all())

    def offer(self, scores: np.ndarray, start: int) -> None:
        """Scores (Q, B) of the rows from ``start`` on, which ascends from one offer to the next; -inf for none."""
        topk = self.ids.shape[1]
        least = self.threshold
        if not self.full and scores.shape[1] > topk:  # a block alone may tell what cannot be among the best
            least = np.maximum(least, np.nextafter(-np.partition(-scores, topk - 1, axis=1)[:, topk - 1], -np.inf))
        query, column = np.divmod(np.flatnonzero(scores > least[:, None]), scores.shape[1])
        self.add(query, start + column, scores[query, column])
        if not self.full:
            self._merge()

    def add(self, query: np.ndarray, ids: np.ndarray, scores: np.ndarray) -> None:
        """Rows with their queries and scores, each (n,)."""
        self._offered.append((query, ids, scores))
        self._waiting += len(query)
        if self._waiting > 4 * self.ids.size:
            self._merge()

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        self._merge()
        return self.ids, self.scores

    def _merge(self) -> None:
        queries, topk = self.ids.shape
        known = (np.repeat(np.arange(queries), topk), self.ids.ravel(), self.scores.ravel())
        query, ids, scores = (np.concatenate(parts) for parts in zip(known, *self._offered))
        order = np.lexsort((ids, -scores, query))
        query, ids, scores = query[order], ids[order], scores[order]
        place = np.arange(len(query)) - np.searchsorted(query, np.arange(queries))[query]
        keep = place < topk
        self.ids, self.scores = ids[keep].reshape(queries, topk), scores[keep].reshape(queries, topk)
        self._offered, self._waiting = [], 0
