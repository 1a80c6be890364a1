"""Exact nearest neighbours of every item among all."""

import numpy as np
import torch
from tqdm import tqdm

from mmreid_text.evaluation.ranking import Array, score_blocks

_OWN = 2.0
"""Takes the place of an item's similarity to itself: above all cosines, so that it comes first among its copies."""


def nearest(
    features: Array, k: int, label: str | None = None, items: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` items of highest cosine similarity to each item, itself always first.

    Equally similar items come in their order, and equal features are equally similar. One block of similarities is held
    at a time; where ``features`` are on a GPU they are computed there.

    Args:
        features: float (N, D), of any length.
        k: At least 1; fewer where there are not so many items.
        label: Of a progress bar that appears after two seconds; None shows none.
        items: Whose neighbours are wanted, int64 (n,); None takes all.

    Returns:
        Rows int64 (n, min(k, N)) and cosine similarities float32 of the same shape.

    Raises:
        ValueError: A feature is not finite, or ``k`` is below 1.
    """
    if k < 1:
        raise ValueError(f"k={k} neighbours: it must be at least 1.")
    size = len(features)
    k = min(k, size)
    asked = features if items is None else features[items]
    items = np.arange(size) if items is None else items
    rows, values = np.empty((len(items), k), dtype=np.int64), np.empty((len(items), k), dtype=np.float32)
    with tqdm(total=len(items), desc=label, unit="item", delay=2, mininterval=1, disable=label is None) as bar:
        for block, scores in score_blocks(asked, features, 4 * size):
            lines = torch.as_tensor(scores)
            own = torch.from_numpy(items[block]).to(lines.device)
            lines[torch.arange(len(block), device=lines.device), own] = _OWN
            rows[block], values[block] = _best(lines, k)
            bar.update(len(block))
    values[:, 0] = 1.0
    return rows, values


def _best(lines: torch.Tensor, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns int64 (B, k) and values (B, k) of the highest of each line, equal ones in the order of columns."""
    found = lines.topk(min(k + 1, lines.shape[1]), dim=1)
    value, column = found.values.cpu().numpy(), found.indices.cpu().numpy()
    order = np.lexsort((column, -value))
    value, column = np.take_along_axis(value, order, axis=1), np.take_along_axis(column, order, axis=1)
    if value.shape[1] > k:  # else every column was taken
        least = value[:, k - 1]
        for row in np.flatnonzero(value[:, k] == least):  # which of the equal ones topk takes is not said
            higher = int((value[row] > least[row]).sum())
            equal = torch.nonzero(lines[row] == float(least[row])).flatten()[: k - higher]
            column[row, higher:k] = equal.cpu().numpy()
    return column[:, :k], value[:, :k]
