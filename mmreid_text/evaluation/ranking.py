"""Ranking metrics of retrieval without a full sort: cosine similarity, cumulative matching, mAP and mINP.

Only the ranks of the positives are needed, and a positive's rank follows from how many scores of its row are higher.
So each block of queries costs one matrix product and, per positive, one comparison with its row; where a row has many
positives, one sort of its *values* (several times faster than an argsort) and a binary search per positive instead.
Queries are taken by identity, so that those which share their positives are compared together. Beside a normalised
copy of the gallery, memory is bounded by one block whatever the numbers of queries and images.

**Ties** rank in gallery order: an item's rank is 1 + the number of gallery items that score strictly higher + the
number of equally scored items that stand before it in the gallery. Equal gallery features always tie.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import TypeAlias

import numpy as np
import torch

Array: TypeAlias = np.ndarray | torch.Tensor

BLOCK_BYTES = 64 * 2**20  # of scores, their sorted copy and the positives' index arrays, for one block of queries
BLOCK_QUERIES = 2048  # at most: a longer block multiplies no faster
_POSITIVE_BYTES = 128  # of index arrays per positive, at most
_CACHED_CELLS = 2**19  # of scores that are compared again and again while they are in the cache


def rank(query: Array, gallery: Array, query_pid: Array, gallery_pid: Array) -> dict[str, float]:
    """Rank-k accuracies, mAP and mINP of a retrieval run.

    Args:
        query: Features (Q, D) of any float dtype; L2-normalised here, compared in float32.
        gallery: Features (G, D). Where both are CUDA tensors, the work stays on their device.
        query_pid: Identities (Q,), integers.
        gallery_pid: Identities (G,), integers.

    Returns:
        ``R1``, ``R5``, ``R10`` (share of queries whose first positive ranks within k), ``mAP`` (average precision: mean
        precision at the ranks of all positives) and ``mINP`` (number of positives / rank of the last one; Ye et al.,
        2021), each the mean over the queries in percent.

    Raises:
        ValueError: A query has no positive in the gallery, shapes disagree, or a feature is not finite.

    >>> rank(np.eye(3), np.eye(3), np.arange(3), np.arange(3))["R1"]
    100.0
    """
    return _percent(rank_queries(query, gallery, query_pid, gallery_pid))


def rank_scores(
    blocks: Iterable[tuple[np.ndarray, np.ndarray]], query_pid: Array, gallery_pid: Array
) -> dict[str, float]:
    """The same as :func:`rank`, by scores of any making, as a re-ranker gives them.

    Args:
        blocks: Queries int64 (B,) and their scores (B, G) of any float dtype, higher is better; together every query
            once. Blocks are taken one at a time, so memory is bounded by what makes them.
        query_pid: Identities (Q,), integers.
        gallery_pid: Identities (G,), integers.

    Raises:
        ValueError: A query has no positive in the gallery, or no scores, or too many; shapes disagree; a score is not
            finite.
    """
    positives = _Positives(query_pid, gallery_pid)
    return _percent(_rank_blocks(_checked(blocks, positives), positives))


def rank_queries(query: Array, gallery: Array, query_pid: Array, gallery_pid: Array) -> dict[str, np.ndarray]:
    """The same as :func:`rank`, per query.

    Returns:
        ``first_rank`` int64 (Q,), from 1; ``ap`` and ``inp`` float64 (Q,) in (0, 1].
    """
    positives = _Positives(query_pid, gallery_pid)
    if not len(positives.counts) == len(query) or not positives.num_gallery == len(gallery):
        raise ValueError(
            f"features and identities differ in number: query {len(query)} and {len(positives.counts)}, "
            f"gallery {len(gallery)} and {positives.num_gallery}"
        )
    row_bytes = (4 if positives.few else 8) * len(gallery)
    row_bytes += (_POSITIVE_BYTES + len(gallery) // 255) * int(positives.counts.max())
    return _rank_blocks(score_blocks(query, gallery, row_bytes, positives.order), positives)


def top_k(query: Array, gallery: Array, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The best ``k`` gallery items of every query, by the same tie rule.

    Args:
        query: Features (Q, D), as in :func:`rank`.
        gallery: Features (G, D).
        k: Items to return, at least 1; fewer where the gallery is smaller.

    Returns:
        Gallery rows int64 (Q, min(k, G)), best first, and their cosine similarities float32 of the same shape.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    k = min(k, len(gallery))
    rows = np.empty((len(query), k), dtype=np.int64)
    values = np.empty((len(query), k), dtype=np.float32)
    for block, scores in score_blocks(query, gallery, 24 * len(gallery)):
        if isinstance(scores, np.ndarray):
            threshold = np.partition(scores, -k, axis=1)[:, -k]
            for i, line, least in zip(block.tolist(), scores, threshold):
                candidates = np.flatnonzero(line >= least)
                rows[i] = candidates[np.argsort(-line[candidates], kind="stable")[:k]]
                values[i] = line[rows[i]]
        else:
            order = torch.sort(scores, dim=1, descending=True, stable=True)
            rows[block] = order.indices[:, :k].cpu().numpy()
            values[block] = order.values[:, :k].cpu().numpy()
    return rows, values


def _percent(ranked: dict[str, np.ndarray]) -> dict[str, float]:
    metrics = {f"R{k}": ranked["first_rank"] <= k for k in (1, 5, 10)} | {"mAP": ranked["ap"], "mINP": ranked["inp"]}
    return {name: 100.0 * float(values.mean()) for name, values in metrics.items()}


def _rank_blocks(blocks: Iterable[tuple[np.ndarray, Array]], positives: "_Positives") -> dict[str, np.ndarray]:
    """Measures per query from blocks of queries int64 (B,) and their scores (B, G)."""
    kinds = {"first_rank": np.int64, "ap": np.float64, "inp": np.float64}
    out: dict[str, np.ndarray] = {name: np.empty(len(positives.counts), kind) for name, kind in kinds.items()}
    for rows, scores in blocks:
        counts = positives.counts[rows]
        row, column = positives.of(rows)
        if isinstance(scores, torch.Tensor):
            ranks = _ranks_on_device(scores, row, column)
        else:
            ranks = (_ranks_by_counting if positives.few else _ranks_by_sorting)(scores, row, column)
        # Sorting row * (G + 1) + rank brings queries into order, and the ranks of each.
        ranks += row * (positives.num_gallery + 1)
        ranks.sort()
        ranks -= np.repeat(np.arange(len(rows)) * (positives.num_gallery + 1), counts)
        start = np.cumsum(counts) - counts
        hit = np.arange(1, len(ranks) + 1) - np.repeat(start, counts)
        out["first_rank"][rows] = ranks[start]
        out["ap"][rows] = np.add.reduceat(hit / ranks, start) / counts
        out["inp"][rows] = counts / ranks[start + counts - 1]
    return out


def _checked(
    blocks: Iterable[tuple[np.ndarray, np.ndarray]], positives: "_Positives"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The blocks as they are, refused where they are not one finite row of scores per query."""
    times = np.zeros(len(positives.counts), dtype=np.int64)
    for rows, scores in blocks:
        if scores.shape != (len(rows), positives.num_gallery):
            raise ValueError(f"{len(rows)} queries x {positives.num_gallery} items have scores {scores.shape}")
        if not np.isfinite(scores).all():
            bad = rows[~np.isfinite(scores).all(axis=1)].min()
            raise ValueError(f"a score of query {bad} is not finite: check what scored it")
        np.add.at(times, rows, 1)
        yield rows, scores
    wrong = np.flatnonzero(times != 1)
    if len(wrong):
        raise ValueError(f"query {wrong[0]} was scored {times[wrong[0]]} times, but each must be scored once")


class _Positives:
    """Gallery rows of the same identity, for every query; held as ranges over the sorted gallery."""

    def __init__(self, query_pid: Array, gallery_pid: Array) -> None:
        query_pid, gallery_pid = _host(query_pid), _host(gallery_pid)
        self.num_gallery = len(gallery_pid)
        self._columns = np.argsort(gallery_pid, kind="stable")
        ordered = gallery_pid[self._columns]
        self._low = np.searchsorted(ordered, query_pid, side="left")
        self.counts = np.searchsorted(ordered, query_pid, side="right") - self._low
        if not len(query_pid):
            raise ValueError("there is no query to rank")
        missing = np.flatnonzero(self.counts == 0)
        if len(missing):
            raise ValueError(
                f"{len(missing)} of {len(query_pid)} queries have no positive in the gallery of {len(gallery_pid)}; "
                f"the first is query {missing[0]} with pid {query_pid[missing[0]]}. A query needs a gallery "
                "item of its identity: check the split and the identities of both sides"
            )

        self.order = np.argsort(query_pid, kind="stable")
        """Queries int64 (Q,) by identity."""
        # Sorting a row costs about as much as comparing it this many times; the sort's speed varies by CPU.
        self.few = int(self.counts.sum()) <= len(query_pid) * (10 + self.num_gallery / 500)
        """Whether comparing a row with each of its positives is cheaper than sorting it."""

    def of(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the positives of the queries ``rows`` stand in the block of their scores.

        Returns:
            Rows and gallery columns int64 (n,). Neighbouring queries of an identity go through its columns together,
            so in the order of :attr:`order` ranking is fastest.
        """
        low = self._low[rows]
        first = np.flatnonzero(np.diff(low, prepend=-1))
        within = np.arange(len(rows)) - np.repeat(first, np.diff(first, append=len(rows)))
        first = np.flatnonzero(within % max(1, _CACHED_CELLS // self.num_gallery) == 0)
        size = np.diff(first, append=len(rows))  # queries that go together
        cells = size * self.counts[rows[first]]
        within = np.arange(cells.sum()) - np.repeat(np.cumsum(cells) - cells, cells)
        size = np.repeat(size, cells)
        return (
            np.repeat(first, cells) + within % size,
            self._columns[np.repeat(low[first], cells) + within // size],
        )


def _ranks_by_sorting(scores: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Ranks int64 (n,) of the cells (row, column) of ``scores`` (B, G), from 1."""
    num_gallery = scores.shape[1]
    value = scores[row, column]
    ordered = scores.copy()
    ordered.sort(axis=1)
    flat = ordered.reshape(-1)
    above = _binary_search(flat, value, row, num_gallery, np.less_equal)
    ranks = (row + 1) * num_gallery - above + 1
    tied = np.flatnonzero(above - _binary_search(flat, value, row, num_gallery, np.less) > 1)
    ranks[tied] = _ranks_by_counting(scores, row[tied], column[tied])
    return ranks


def _ranks_by_counting(scores: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The same by the tie rule as it stands; cells of one column and successive rows take one comparison."""
    num_gallery = scores.shape[1]
    words = -(-num_gallery // 8)
    parts = -(-words // 255)
    before = np.zeros((max(1, _CACHED_CELLS // num_gallery), parts, -(-words // parts), 8), dtype=bool)
    flags, words_of = before.reshape(len(before), -1), before.view(np.uint64)[..., 0]
    # Eight flags are added at a time, as the bytes of a word; of 255 words none overflows.
    sums = np.empty((len(row), parts), dtype=np.uint64)
    done = filled = 0
    with _unbuffered():
        for r, c, size in _runs(row, column, len(flags)):
            if filled + size > len(flags):
                np.add.reduce(words_of[:filled], axis=2, out=sums[done : done + filled])
                done, filled = done + filled, 0
            lines, mine = scores[r : r + size], flags[filled : filled + size]
            value = lines[:, c : c + 1]
            np.greater_equal(lines[:, :c], value, out=mine[:, :c])
            np.greater(lines[:, c:], value, out=mine[:, c:num_gallery])
            filled += size
    np.add.reduce(words_of[:filled], axis=2, out=sums[done:])
    return 1 + sums.view(np.uint8).sum(axis=1, dtype=np.int64)


def _runs(row: np.ndarray, column: np.ndarray, longest: int) -> Iterator[tuple[int, int, int]]:
    """First row, column and length of the runs of cells (n,) of one column in successive rows."""
    new = np.ones(len(row), dtype=bool)
    new[1:] = (np.diff(column) != 0) | (np.diff(row) != 1)
    first = np.flatnonzero(new)
    within = np.arange(len(row)) - np.repeat(first, np.diff(first, append=len(row)))
    first = np.flatnonzero(within % longest == 0)
    return zip(row[first].tolist(), column[first].tolist(), np.diff(first, append=len(row)).tolist())


@contextmanager
def _unbuffered() -> Iterator[None]:
    """Without numpy's copies of rows shorter than its buffer: they make a broadcast comparison three times as slow."""
    before = np.setbufsize(512)
    try:
        yield
    finally:
        np.setbufsize(before)


def _binary_search(
    flat: np.ndarray, value: np.ndarray, row: np.ndarray, width: int, before: Callable[..., np.ndarray]
) -> np.ndarray:
    """First position int64 (n,) in each value's own ascending row of ``flat`` that is not ``before`` the value."""
    low, high = row * width, (row + 1) * width
    for _ in range(width.bit_length()):
        middle = (low + high) >> 1
        # A finished search stays where it is; its middle may stand one past the end.
        go = before(flat.take(middle, mode="clip"), value) & (low < high)
        low = np.where(go, middle + 1, low)
        high = np.where(go, high, middle)
    return low


def _ranks_on_device(scores: torch.Tensor, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """The same on a device, where counting beats sorting at any number of positives."""
    num_gallery = scores.shape[1]
    order = torch.arange(num_gallery, device=scores.device)
    ranks = []
    step = max(1, BLOCK_BYTES // (8 * num_gallery))
    for start in range(0, len(row), step):
        rows = torch.from_numpy(row[start : start + step]).to(scores.device)
        columns = torch.from_numpy(column[start : start + step]).to(scores.device)[:, None]
        lines = scores[rows]  # (n, G)
        value = lines.gather(1, columns)
        ranks.append(1 + ((lines > value) | ((lines == value) & (order < columns))).sum(dim=1))
    return torch.cat(ranks).cpu().numpy()


def score_blocks(
    query: Array, gallery: Array, row_bytes: int, order: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, Array]]:
    """Queries in the given order, int64 (B,) at a time, and their cosine similarities float32 (B, G).

    Similarities stand in one buffer, which the next block overwrites. ``row_bytes`` is what the caller needs per query.
    """
    if query.ndim != 2 or gallery.ndim != 2 or query.shape[1] != gallery.shape[1]:
        raise ValueError(f"features must be (Q, D) and (G, D), got {tuple(query.shape)} and {tuple(gallery.shape)}")
    if not len(gallery):
        raise ValueError("the gallery is empty")
    order = np.arange(len(query)) if order is None else order
    size = min(len(query), BLOCK_QUERIES, max(1, BLOCK_BYTES // row_bytes))
    blocks = [order[start : start + size] for start in range(0, len(query), size)]
    if isinstance(query, torch.Tensor) and isinstance(gallery, torch.Tensor) and query.is_cuda and gallery.is_cuda:
        return _score_blocks_torch(query, gallery, blocks)
    return _score_blocks_numpy(query, gallery, blocks)


def _score_blocks_numpy(
    query: Array, gallery: Array, blocks: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    gallery = _normalise_numpy(gallery, "gallery")
    copies, originals = _copies(gallery)
    buffer = np.empty((len(blocks[0]), len(gallery)), dtype=np.float32)
    for rows in blocks:
        scores = buffer[: len(rows)]
        np.matmul(_normalise_numpy(query[rows], "query", rows), gallery.T, out=scores)
        if len(copies):  # a matrix product may round the same sum differently at its edges
            scores[:, copies] = scores[:, originals]
        yield rows, scores


def _score_blocks_torch(
    query: torch.Tensor, gallery: torch.Tensor, blocks: list[np.ndarray]
) -> Iterator[tuple[np.ndarray, torch.Tensor]]:
    gallery = _normalise_torch(gallery, "gallery")
    copies, originals = (torch.from_numpy(rows).to(gallery.device) for rows in _copies(gallery))
    buffer = gallery.new_empty(len(blocks[0]), len(gallery))
    for rows in blocks:
        scores = buffer[: len(rows)]
        with _full_precision():
            torch.mm(_normalise_torch(query[torch.from_numpy(rows)], "query", rows), gallery.T, out=scores)
        if len(copies):
            scores[:, copies] = scores[:, originals]
        yield rows, scores


def _copies(gallery: Array) -> tuple[np.ndarray, np.ndarray]:
    """Rows that repeat an earlier row bit for bit, and those earlier rows; int64 (n,) each."""
    lines = _host(gallery)
    _, inverse, counts = np.unique(lines[:, 0], return_inverse=True, return_counts=True)
    seen: dict[bytes, int] = {}
    first = np.arange(len(lines))
    for i in np.flatnonzero(counts[inverse] > 1).tolist():  # only a row whose first value repeats can be a copy
        first[i] = seen.setdefault(blake2b(lines[i], digest_size=16).digest(), i)
    copies = np.flatnonzero(first != np.arange(len(first)))
    return copies, first[copies]


def _normalise_numpy(features: Array, name: str, rows: np.ndarray | None = None) -> np.ndarray:
    """Contiguous float32 (n, D) of unit length; a zero row stays zero. ``rows`` int64 (n,) are named in errors."""
    out = _host(features).astype(np.float32, order="C")
    norm = np.sqrt(np.einsum("nd,nd->n", out, out))
    if not np.isfinite(norm).all():
        raise _not_finite(name, np.flatnonzero(~np.isfinite(norm)), rows)
    out /= np.maximum(norm, np.finfo(np.float32).tiny)[:, None]
    out += 0.0  # -0.0 becomes 0.0, so that equal rows are equal bit for bit
    return out


def _normalise_torch(features: torch.Tensor, name: str, rows: np.ndarray | None = None) -> torch.Tensor:
    out = features.detach().float()
    norm = out.norm(dim=1, keepdim=True)
    if not norm.isfinite().all():
        raise _not_finite(name, _host((~norm.isfinite()).flatten().nonzero()[:, 0]), rows)
    return out / norm.clamp_min(torch.finfo(torch.float32).tiny) + 0.0


def _not_finite(name: str, found: np.ndarray, rows: np.ndarray | None) -> ValueError:
    return ValueError(
        f"{name} feature {(found if rows is None else rows[found]).min()} is not finite or overflows float32 when "
        "squared: check the checkpoint and the mixed precision that made it"
    )


def _host(array: Array) -> np.ndarray:
    if not isinstance(array, torch.Tensor):
        return np.asarray(array)
    array = array.detach().cpu()
    return (array.float() if array.dtype == torch.bfloat16 else array).numpy()


@contextmanager
def _full_precision() -> Iterator[None]:
    """float32 products without TF32, whatever training chose: TF32 rounds similarities to three digits."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
