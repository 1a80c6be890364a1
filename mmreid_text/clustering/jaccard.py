"""k-reciprocal Jaccard distance between all items, as a sparse graph of those that are near."""

from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from mmreid_text.clustering.extras import needs_clustering
from mmreid_text.evaluation.k_reciprocal import CELLS, InvertedRows, SparseRows, encode, parts
from mmreid_text.evaluation.ranking import Array

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def jaccard_graph(
    features: Array,
    found: np.ndarray,
    k1: int = 30,
    k2: int = 6,
    radius: float = 1.0,
    label: str | None = None,
) -> "csr_matrix":
    """Jaccard distances of all pairs within ``radius`` (Zhong et al., CVPR 2017, Eq. 10, without Eq. 12's mixture).

    ``J(p, q) = 1 - sum min(V_p, V_q) / sum max(V_p, V_q)`` with the vectors ``V`` of
    :func:`~mmreid_text.evaluation.k_reciprocal.encode`: weights ``exp(-d)``, ``d`` the squared Euclidean distance of
    the L2-normalised features, as Ge et al. (NeurIPS 2020) and the CMMT code cluster by. As in their code an item
    counts among its own ``k1`` and ``k2`` neighbours but not among ``k1 / 2``, and a half-sized set joins where more
    than two thirds of it are held. Pairs without a common neighbour are at distance 1 and never held, so memory grows
    with the number of items.

    Args:
        features: float (N, D), of any length.
        found: Each item's nearest, int64 (N, k), as :func:`~mmreid_text.clustering.neighbours.nearest` finds them, at
            least the larger of ``k1`` and ``k2`` where there are so many items.
        k1: Neighbours for the reciprocal sets; 30 in the CMMT code.
        k2: Neighbours over which vectors are averaged, 1 for none; 6 in the CMMT code.
        radius: In (0, 1]; larger distances are left out.
        label: Of a progress bar; None shows none.

    Returns:
        float64 (N, N), symmetric, every row's columns ascending. A distance that is held may be 0, as the diagonal's
        is.

    Raises:
        ImportError: scipy is missing.
        ValueError: An argument is out of range, or there are too few neighbours.
    """
    if min(k1, k2) < 1:
        raise ValueError(f"jaccard_graph: k1={k1} and k2={k2} must be at least 1.")
    if not 0 < radius <= 1:
        raise ValueError(f"jaccard_graph: radius={radius} must lie in (0, 1].")
    if found.shape[1] < min(max(k1, k2), len(features)):
        raise ValueError(f"jaccard_graph: {found.shape[1]} neighbours are too few for k1={k1} and k2={k2}.")
    with needs_clustering():
        from scipy.sparse import csr_matrix
    unit = unit_rows(features)
    rows = encode(unit, [found], k1, k2, scale=2.0, half=min(round(k1 / 2) + 1, k1), strict=True)
    sums, index = rows.sums(), InvertedRows.of(rows)
    size = len(unit)
    columns: list[np.ndarray] = []
    values: list[np.ndarray] = []
    counts = np.zeros(size + 1, dtype=np.int64)
    with tqdm(
        total=size, desc=f"{label}: distances", unit="item", delay=2, mininterval=1, disable=label is None
    ) as bar:
        for part in parts(index.cells(rows, np.arange(size)), CELLS):
            row, column, distance = _distances(rows, index, sums, np.arange(size)[part])
            near = distance <= radius
            counts[1:][part] = np.bincount(row[near], minlength=part.stop - part.start)
            columns.append(column[near].astype(np.int32))
            values.append(distance[near])
            bar.update(part.stop - part.start)
    return csr_matrix((np.concatenate(values), np.concatenate(columns), np.cumsum(counts)), shape=(size, size))


def _distances(
    rows: SparseRows, index: InvertedRows, sums: np.ndarray, which: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions in ``which`` (B,), columns and distances (n,) of the pairs that have something in common."""
    overlap = index.overlap(rows, which)
    flat = np.flatnonzero(overlap)
    row, column = np.divmod(flat, index.num_items)
    common = overlap.ravel()[flat]
    # Sums run over columns in their order whichever row comes first, so that distances are symmetric to the last bit.
    return row, column, 1 - common / (sums[which][row] + sums[column] - common)


def unit_rows(features: Array) -> np.ndarray:
    """float32 (N, D) of unit length on the host; a zero row stays zero."""
    rows = np.array(features if isinstance(features, np.ndarray) else features.detach().float().cpu().numpy())
    rows = rows.astype(np.float32, copy=False)
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return rows
