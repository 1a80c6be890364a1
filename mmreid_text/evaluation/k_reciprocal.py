"""k-reciprocal encoding: each item as a sparse vector over those items that are near to it as it is to them.

Zhong et al., Re-ranking Person Re-identification with k-reciprocal Encoding, CVPR 2017. Two items whose vectors overlap
share neighbours, whatever their own distance is. Nothing here is dense: memory grows with the number of items times
that of their neighbours.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

CELLS = 2**20
"""Index cells that one step of the set arithmetic handles at a time; a cell takes about 60 bytes."""


@dataclass(frozen=True)
class SparseRows:
    """A sparse matrix (N, N): row i's cells are ``column`` and ``value`` from ``start[i]`` to ``start[i + 1]``."""

    start: np.ndarray  # int64 (N + 1,)
    column: np.ndarray  # int32 (n,)
    value: np.ndarray  # float64 (n,)

    @classmethod
    def of(cls, row: np.ndarray, column: np.ndarray, value: np.ndarray, size: int) -> "SparseRows":
        """From cells in the order of their rows."""
        return cls(np.searchsorted(row, np.arange(size + 1)), column.astype(np.int32), value)

    def cells(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the cells of ``rows`` (n,) lie, and the position in ``rows`` of each; int64 (m,) both."""
        return ranges(self.start[rows], np.diff(self.start)[rows])

    def sums(self) -> np.ndarray:
        """float64 (N,)"""
        size = len(self.start) - 1
        return np.bincount(np.repeat(np.arange(size), np.diff(self.start)), self.value, minlength=size)


@dataclass(frozen=True)
class InvertedRows:
    """The last rows of a matrix by column: which items have a value there."""

    start: np.ndarray  # int64 (N + 1,)
    item: np.ndarray  # int32 (n,), counted from the first of the last rows
    value: np.ndarray  # float64 (n,)
    num_items: int

    @classmethod
    def of(cls, rows: SparseRows, first: int = 0) -> "InvertedRows":
        """Of the rows from ``first`` on."""
        size = len(rows.start) - 1
        begin = rows.start[first]
        order = np.argsort(rows.column[begin:], kind="stable")
        item = np.repeat(np.arange(size - first, dtype=np.int32), np.diff(rows.start[first:]))[order]
        start = np.searchsorted(rows.column[begin:][order], np.arange(size + 1))
        return cls(start, item, rows.value[begin:][order], size - first)

    def cells(self, rows: SparseRows, which: np.ndarray) -> np.ndarray:
        """How many cells :meth:`overlap` visits for each of ``which``, and holds for its result; int64 (B,)."""
        at, position = rows.cells(which)
        visits = np.bincount(position, np.diff(self.start)[rows.column[at]], minlength=len(which))
        return visits.astype(np.int64) + self.num_items

    def overlap(self, rows: SparseRows, which: np.ndarray) -> np.ndarray:
        """Sum of the smaller values of rows ``which`` (B,) and of every item; float64 (B, num_items)."""
        at, position = rows.cells(which)
        column = rows.column[at]
        cell, entry = ranges(self.start[column], np.diff(self.start)[column])
        least = np.minimum(rows.value[at][entry], self.value[cell])
        flat = position[entry] * self.num_items + self.item[cell]
        return np.bincount(flat, least, minlength=len(which) * self.num_items).reshape(len(which), -1)


def encode(
    unit: np.ndarray,
    nearest: Sequence[np.ndarray],
    k1: int,
    k2: int,
    scale: float = 1.0,
    half: int | None = None,
    strict: bool = False,
) -> SparseRows:
    """``V`` of all items.

    ``N(p, k)`` are the first ``k`` of each kind of ``p``'s neighbours, ``R(p, k)`` those of them that have ``p`` among
    theirs (Eq. 2), and ``R*(p)`` is ``R(p, k1)`` with every ``R(q, k1 / 2)`` of a ``q`` in it of which it holds two
    thirds (Eq. 3). ``V_p`` is ``exp(scale (cos(p, q) - 1))`` at ``q`` in ``R*(p)`` (Eq. 7) divided by its sum, then
    averaged over ``N(p, k2)`` unless ``k2`` is 1 (Eq. 11).

    Args:
        unit: float32 (N, D), of unit length.
        nearest: For each kind of neighbour int64 (N, k), best first, ``k`` at least the larger of ``k1`` and ``k2``
            where there are so many.
        k1: Neighbours of each kind for the reciprocal sets.
        k2: Neighbours of each kind for the average.
        scale: 1 for distances that are half the squared Euclidean one, 2 for the squared one.
        half: What Eq. 3 calls ``k1 / 2``; None rounds half of ``k1``.
        strict: Whether two thirds must be exceeded.
    """
    half = max(1, round(k1 / 2)) if half is None else half
    keys = _expanded(_reciprocal(nearest, k1), _reciprocal(nearest, half), len(unit), strict)
    row, column = np.divmod(keys, len(unit))
    weights = [np.zeros(0)]
    for part in parts(np.full(len(keys), unit.shape[1]), 8 * CELLS):
        cosine = np.einsum("nd,nd->n", unit[row[part]], unit[column[part]], dtype=np.float64)
        weights.append(np.exp(scale * (cosine - 1)))
    encoded = SparseRows.of(row, column, np.concatenate(weights), len(unit))
    encoded.value[:] /= encoded.sums()[row]
    return encoded if k2 == 1 else _averaged(encoded, _first(nearest, k2))


def _first(nearest: Sequence[np.ndarray], k: int) -> np.ndarray:
    """``N(p, k)`` of all: int64 (N, n)."""
    return np.concatenate([members[:, :k] for members in nearest], axis=1)


def _reciprocal(nearest: Sequence[np.ndarray], k: int) -> np.ndarray:
    """``R(p, k)`` of all, as ascending keys ``p N + q``: int64 (n,)."""
    members = _first(nearest, k)
    own = np.arange(len(members))[:, None]
    there, back = (own * len(members) + members).ravel(), (members * len(members) + own).ravel()
    return np.intersect1d(there, back, assume_unique=True)


def _expanded(full: np.ndarray, half: np.ndarray, size: int, strict: bool) -> np.ndarray:
    """``R*`` of all, from ``R(p, k1)`` and ``R(p, k1 / 2)``; keys as :func:`_reciprocal` gives them."""
    start = np.searchsorted(half, np.arange(size + 1) * size)
    row, member = np.divmod(full, size)
    sizes = np.diff(start)[member]
    added = [full]
    for part in parts(sizes, CELLS):
        cell, edge = ranges(start[:-1][member[part]], sizes[part])
        keys = row[part][edge] * size + half[cell] % size
        held = full[np.minimum(np.searchsorted(full, keys), len(full) - 1)] == keys
        shared = np.bincount(edge, held, minlength=len(sizes[part]))
        enough = (np.greater if strict else np.greater_equal)(3 * shared, 2 * sizes[part])
        added.append(np.unique(keys[enough[edge] & ~held]))
    return np.unique(np.concatenate(added))


def _averaged(rows: SparseRows, over: np.ndarray) -> SparseRows:
    """Every row's mean over the rows ``over`` (N, k)."""
    size, k = over.shape
    keys, values = [], []
    for part in parts(np.diff(rows.start)[over].sum(axis=1), CELLS):
        at, position = rows.cells(over[part].ravel())
        flat = (position // k + part.start) * size + rows.column[at]
        unique, inverse = np.unique(flat, return_inverse=True)
        keys.append(unique)
        values.append(np.bincount(inverse, rows.value[at]) / k)
    row, column = np.divmod(np.concatenate(keys), size)
    return SparseRows.of(row, column, np.concatenate(values), size)


def ranges(start: np.ndarray, size: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``start[i] ... start[i] + size[i] - 1`` for all i behind each other, and i for each; int64 (sum of sizes,)."""
    owner = np.repeat(np.arange(len(size)), size)
    return np.arange(len(owner)) + np.repeat(start - (np.cumsum(size) - size), size), owner


def parts(cost: np.ndarray, limit: int) -> Iterator[slice]:
    """Successive slices whose costs (n,) sum up to at most ``limit``, or of one item."""
    total = np.concatenate([[0], np.cumsum(cost)])
    first = 0
    while first < len(cost):
        last = max(first + 1, int(np.searchsorted(total, total[first] + limit, side="right")) - 1)
        yield slice(first, last)
        first = last
