"""Some clusters, as a sheet shows them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from mmreid_text.clustering.clusters import OUTLIER
from mmreid_text.visualization.cluster_sheet import ClusterMember, ClusterRow

MEMBERS = 6
CLUSTERS = 3
"""Of each modality."""


def example_rows(
    dataset: Any,
    labels: Mapping[str, np.ndarray],
    before: Mapping[str, np.ndarray],
    image_of_text: np.ndarray,
    identities: Mapping[str, np.ndarray] | None,
    seed: int,
) -> list[ClusterRow]:
    """The largest cluster of each modality, and others drawn at random; of each some members, rescued ones first.

    Args:
        dataset: In test mode, row i image i, as :func:`~mmreid_text.clustering.extraction.rows_config` makes it.
        labels: ``image`` int64 (I,) and ``text`` int64 (T,), -1 for outliers.
        before: The same before refinement.
        image_of_text: int64 (T,).
        identities: ``image`` int64 (I,) and ``text`` int64 (T,), if known.
        seed: Of the choice.

    Raises:
        ValueError: The dataset's rows are not in the order of its images.
    """
    generator = np.random.default_rng(seed)
    first_caption = np.zeros(len(labels["image"]), dtype=np.int64)
    first_caption[image_of_text[::-1]] = np.arange(len(image_of_text))[::-1]
    rows = []
    for side, numbers in labels.items():
        rescued = numbers != before[side]
        for chosen in _choose(numbers, generator):
            members = np.flatnonzero(numbers == chosen)
            right = None if identities is None else _most_frequent(identities[side][members])
            lines = [f"{side} cluster {chosen}", f"{len(members):,} members", f"{rescued[members].sum():,} rescued"]
            if identities is not None:
                lines.append(f"{len(np.unique(identities[side][members])):,} identities")
            shown = _show(rescued[members], generator)
            rows.append(
                ClusterRow(
                    lines,
                    [
                        ClusterMember(
                            _picture(dataset, member if side == "image" else image_of_text[member]),
                            dataset.caption(int(first_caption[member] if side == "image" else member)),
                            None if right is None else bool(right[i]),
                            bool(rescued[member]),
                        )
                        for i, member in zip(shown, members[shown])
                    ],
                )
            )
    return rows


def _choose(labels: np.ndarray, generator: np.random.Generator) -> list[int]:
    sizes = np.bincount(labels[labels != OUTLIER])
    if not len(sizes):
        return []
    largest = int(sizes.argmax())
    others = np.setdiff1d(np.arange(len(sizes)), [largest])
    return [largest, *generator.permutation(others)[: CLUSTERS - 1].tolist()]


def _show(rescued: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Positions of the members to show: at most half of them rescued where others are left."""
    order = generator.permutation(len(rescued))
    taken, others = order[rescued[order]], order[~rescued[order]]
    count = max(min(MEMBERS // 2, len(taken)), MEMBERS - len(others))
    return np.concatenate([taken[:count], others[: MEMBERS - min(count, len(taken))]])


def _most_frequent(identities: np.ndarray) -> np.ndarray:
    """Which items are of the most frequent identity, bool (n,)."""
    _, inverse, counts = np.unique(identities, return_inverse=True, return_counts=True)
    return inverse == counts.argmax()


def _picture(dataset: Any, image: int) -> np.ndarray:
    item = dataset[int(image)]
    if int(item["image_id"]) != image:
        raise ValueError(f"row {image} of {dataset.name!r} shows image {int(item['image_id'])}: no sheet can be drawn")
    return np.ascontiguousarray(item["image"].numpy().transpose(1, 2, 0))
