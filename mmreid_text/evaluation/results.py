"""Result files: flat ``<dataset>/<metric>`` keys, as an aligned table and as JSON."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

from mmreid_text.atomic_write import write_text

MEAN = "mean"  # the row over all datasets
PROTOCOL = "protocol"
"""Key of a result file that states by which protocol the weights were chosen. Keys of metrics have a slash."""


def row_label(row: str, protocol: str | None) -> str:
    """A row's name with the protocol behind it, unless that is the default one or not known.

    >>> row_label("cuhk_pedes", "test-selected"), row_label("cuhk_pedes", "val")
    ('cuhk_pedes (test-selected)', 'cuhk_pedes')
    """
    return row if protocol in (None, "val") else f"{row} ({protocol})"


def format_table(metrics: Mapping[str, float], head: str = "dataset", protocol: str | None = None) -> str:
    """Lay out metrics as an aligned Markdown table.

    Args:
        metrics: Values by ``<dataset>/<metric>``; what stands before the last slash is the row. Percent, usually.
        head: Heading of the first column.
        protocol: By which the evaluated weights were chosen; each row is marked as :func:`row_label` says.

    Returns:
        One row per dataset and one column per metric, both in order of appearance, the mean last; one decimal more
        than papers print. A metric that a row lacks shows as ``-``.

    >>> print(format_table({"cuhk_pedes/R1": 57.61, "cuhk_pedes/mAP": 51.44}))
    | dataset    |    R1 |   mAP |
    | :--------- | ----: | ----: |
    | cuhk_pedes | 57.61 | 51.44 |
    """
    cells: dict[str, dict[str, float]] = {}
    for key, value in metrics.items():
        dataset, _, metric = key.rpartition("/")
        cells.setdefault(dataset, {})[metric] = value
    rows = sorted(cells, key=lambda dataset: dataset == MEAN)
    columns = list(dict.fromkeys(metric for dataset in rows for metric in cells[dataset]))
    lines = [[head, *columns]]
    lines += [
        [row_label(row, protocol), *(f"{cells[row][c]:.2f}" if c in cells[row] else "-" for c in columns)]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines)]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]
    aligned = [[line[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(line[1:], widths[1:]))] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [aligned[0], rule, *aligned[1:]])


def write_results(metrics: Mapping[str, float], path: str | os.PathLike[str], protocol: str | None = None) -> None:
    """Write metrics as flat JSON at ``path``, and the table beside it as ``.md``; each file whole or not at all.

    Args:
        metrics: Values by ``<dataset>/<metric>``.
        path: The JSON file.
        protocol: By which the evaluated weights were chosen. The JSON states it under ``protocol``, the table marks its
            rows; None, where that is not known, does neither.

    Raises:
        ValueError: A value is not a finite number, which JSON cannot carry.
    """
    bad = {key: value for key, value in metrics.items() if not math.isfinite(value)}
    if bad:
        raise ValueError(f"results for {path} must be finite numbers, got {bad}")
    content: dict[str, str | float] = {} if protocol is None else {PROTOCOL: protocol}
    content |= {key: float(value) for key, value in metrics.items()}
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=2) + "\n")
    write_text(path.with_suffix(".md"), format_table(metrics, protocol=protocol) + "\n")
