"""A transfer matrix as Markdown, CSV and JSON."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmreid_text.atomic_write import write_text
from mmreid_text.evaluation.feature_dumps import METRICS
from mmreid_text.evaluation.significance import FLIPS, RESAMPLES
from mmreid_text.evaluation.transfer import Comparison, Figure, Row, TransferMatrix

SHOWN = ("R1", "mAP")
"""Measures that tables and pictures show; files for machines hold all."""
_EXPLANATION = f"""\
Text to image, percent. `a ± b [c, d]`: mean and standard deviation over training seeds, and the 95% interval of the
mean over {RESAMPLES:,} draws of the test identities with all their captions. The interval is about other people of the
same kind, given these trained models; the standard deviation is about other training seeds. **Bold** cells are in
domain. Differences are B less A, paired by caption over the seeds that both have; p is two-sided, from {FLIPS:,} random
flips of the sign of each identity's difference, given these trained models, and not corrected for the number of
comparisons.
"""
_ONE_MODEL = "A row with one model, whatever the seed, is compared with every seed of the other row.\n"
_TEST_SELECTED = (
    "Rows marked `test-selected` chose their checkpoint on the test split: their figures are too high, and do not\n"
    "compare with those of other rows.\n"
)


_UNKNOWN = "How the checkpoints of these rows were chosen, if they were, is not known: {}.\n"


def write_report(matrix: TransferMatrix, folder: Path, notes: Sequence[str], runs: Sequence[Mapping[str, Any]]) -> str:
    """Write ``matrix.md``, ``matrix.csv`` and ``matrix.json`` to a folder.

    Args:
        matrix: The figures.
        folder: Where the files go; made where there is none.
        notes: Remarks for the reader, such as cells that are missing.
        runs: Where each evaluation came from, one dict of plain values per row, seed and target.

    Returns:
        The Markdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    markdown = as_markdown(matrix, notes)
    write_text(folder / "matrix.md", markdown)
    write_text(folder / "matrix.csv", as_csv(matrix))
    write_text(folder / "matrix.json", json.dumps(as_json(matrix, notes, runs), indent=2) + "\n")
    return markdown


def as_markdown(matrix: TransferMatrix, notes: Sequence[str]) -> str:
    """The tables that a reader wants: the matrix, methods in domain and across, and differences of a source's rows."""
    parts = ["# Transfer matrix\n", _EXPLANATION]
    if any(row.protocol == "test-selected" for row in matrix.rows):
        parts.append(_TEST_SELECTED)
    unknown = dict.fromkeys(f"{row.name} ({row.source})" for row in matrix.rows if not row.protocol)
    if unknown:
        parts.append(_UNKNOWN.format(", ".join(unknown)))
    if any(row.one_model for row in matrix.rows):
        parts.append(_ONE_MODEL)
    figures = {(cell.row, cell.target): cell.figure for cell in matrix.cells}
    for name in SHOWN:
        lines = [["method", "source", "seeds", *matrix.targets]]
        for row in matrix.rows:
            own = [figures.get((row, target)) for target in matrix.targets]
            cells = [figure_text(figure, name, row.in_domain(target)) for figure, target in zip(own, matrix.targets)]
            lines.append([row.label, row.source, _seeds(own), *cells])
        parts += [f"## {name}\n", markdown_table(lines, left=2)]
    if matrix.summaries:
        lines = [["method", "setting", "cells", "seeds", *SHOWN]]
        for summary in matrix.summaries:
            cells = [figure_text(summary.figure, name) for name in SHOWN]
            lines.append([summary.name, summary.setting, str(summary.cells), _seeds([summary.figure]), *cells])
        parts += ["## Mean over cells\n", markdown_table(lines, left=2)]
    if matrix.methods:
        parts += [
            "## Differences of methods, over the sources and targets that both have\n",
            differences_table(matrix.methods),
        ]
    pairs = [pair for pair in matrix.pairs if " / " not in pair.source]
    if pairs:
        parts += ["## Differences on one target, of methods with one source\n", differences_table(pairs)]
    if len(pairs) < len(matrix.pairs):
        parts.append("Pairs of different sources stand in `matrix.json`.\n")
    if notes:
        parts += ["## Notes\n", "".join(f"- {note}\n" for note in notes)]
    return "\n".join(parts)


def as_csv(matrix: TransferMatrix) -> str:
    """One line per cell and measure, with the value of every seed."""
    seeds = sorted({seed for cell in matrix.cells for seed in cell.figure.per_seed})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    head = ["method", "source", "protocol", "target", "in_domain", "metric", "seeds", "mean", "sd", "low", "high"]
    writer.writerow([*head, *(f"seed_{seed}" for seed in seeds)])
    for cell in matrix.cells:
        f = cell.figure
        for m, name in enumerate(METRICS):
            place = [cell.row.name, cell.row.source, cell.row.protocol, cell.target, cell.row.in_domain(cell.target)]
            values = [f.mean[m], f.sd[m], f.low[m], f.high[m], *(f.per_seed.get(s, _ABSENT)[m] for s in seeds)]
            writer.writerow([*place, name, len(f.per_seed), *("" if np.isnan(v) else f"{v:.4f}" for v in values)])
    return out.getvalue()


def as_json(matrix: TransferMatrix, notes: Sequence[str], runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Everything, by name."""

    def row(row: Row) -> dict[str, Any]:
        return {"method": row.name, "source": row.source, "protocol": row.protocol, "one_model": row.one_model}

    def comparison(c: Comparison) -> dict[str, Any]:
        known = {"first": c.first, "second": c.second, "source": c.source, "where": c.where, "cells": c.cells}
        return {**known, "difference": _values(c.figure)}

    return {
        "explanation": " ".join(_EXPLANATION.split()),
        "rows": [row(r) for r in matrix.rows],
        "targets": matrix.targets,
        "cells": [
            {**row(c.row), "target": c.target, "in_domain": c.row.in_domain(c.target), "metrics": _values(c.figure)}
            for c in matrix.cells
        ],
        "summaries": [
            {"method": s.name, "setting": s.setting, "cells": s.cells, "metrics": _values(s.figure)}
            for s in matrix.summaries
        ],
        "method_comparisons": [comparison(c) for c in matrix.methods],
        "row_comparisons": [comparison(c) for c in matrix.pairs],
        "evaluations": list(runs),
        "notes": list(notes),
    }


_ABSENT = np.full(len(METRICS), np.nan)


def _values(f: Figure) -> dict[str, dict[str, Any]]:
    values = {}
    for m, name in enumerate(METRICS):
        values[name] = {
            "mean": float(f.mean[m]),
            "sd": None if np.isnan(f.sd[m]) else float(f.sd[m]),
            "low": float(f.low[m]),
            "high": float(f.high[m]),
            "per_seed": {str(seed): float(own[m]) for seed, own in f.per_seed.items()},
        }
        if f.p is not None:
            values[name]["p"] = float(f.p[m])
    return values


def figure_text(figure: Figure | None, name: str, bold: bool = False) -> str:
    """One measure of a figure, as ``mean ± sd [low, high]``; '-' for none."""
    if figure is None:
        return "-"
    m = METRICS.index(name)
    sd = "" if np.isnan(figure.sd[m]) else f" ± {figure.sd[m]:.2f}"
    mean = f"{figure.mean[m]:.2f}{sd}"
    return f"{f'**{mean}**' if bold else mean} [{figure.low[m]:.2f}, {figure.high[m]:.2f}]"


def _seeds(figures: Sequence[Figure | None]) -> str:
    """Over how many seeds figures are, such as ``3`` or ``2 to 3``."""
    counts = sorted({0 if figure is None else len(figure.per_seed) for figure in figures})
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def differences_table(comparisons: Sequence[Comparison]) -> str:
    """Differences of rows or methods, a line each, with intervals, p and the seeds in which the second is better."""
    lines = [
        [
            "A",
            "B",
            "source",
            "where",
            *(f"{n} {kind}" for n in SHOWN for kind in ("B - A", "p", "seeds > 0")),
        ]
    ]
    for c in comparisons:
        lines.append([c.first, c.second, c.source or f"all, {c.cells} cells", c.where])
        for name in SHOWN:
            f, m = c.figure, METRICS.index(name)
            above = sum(own[m] > 0 for own in f.per_seed.values())
            sd = "" if np.isnan(f.sd[m]) else f" ± {f.sd[m]:.2f}"
            assert f.p is not None
            lines[-1] += [
                f"{f.mean[m]:+.2f}{sd} [{f.low[m]:+.2f}, {f.high[m]:+.2f}]",
                f"{f.p[m]:.4f}",
                f"{above} of {len(f.per_seed)}",
            ]
    return markdown_table(lines, left=4)


def markdown_table(lines: Sequence[Sequence[str]], left: int) -> str:
    """Aligned Markdown: the first ``left`` columns are words, the others figures."""
    widths = [max(map(len, column)) for column in zip(*lines)]
    rule = [":" + "-" * (w - 1) if i < left else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    rows = [[t.ljust(w) if i < left else t.rjust(w) for i, (t, w) in enumerate(zip(line, widths))] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in [rows[0], rule, *rows[1:]]) + "\n"
