"""The transfer matrix as a picture."""

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mmreid_text.atomic_write import written_beside
from mmreid_text.evaluation.feature_dumps import METRICS
from mmreid_text.evaluation.transfer import Row, TransferMatrix
from mmreid_text.evaluation.transfer_report import SHOWN
from mmreid_text.visualization.contrast import is_light

COLOURS = "YlGnBu"
_DARKEST = 0.8  # share of the colours in use, so that text and frames show on all of them
FRAME = "#D55E00"
_DPI = 130
_CELL = (1.25, 0.52)  # inches


def plot_heat_map(matrix: TransferMatrix, path: Path) -> None:
    """Draw rows by targets, one panel for R1 and one for mAP, as PNG; written whole or not at all.

    Cells state mean and standard deviation over seeds; those in domain are framed, those missing are blank. Colours
    of a panel span its own values. Rows stand by source, so that methods with one source are neighbours.

    Args:
        matrix: The figures.
        path: The picture.
    """
    sources = list(dict.fromkeys(row.source for row in matrix.rows))
    rows = sorted(matrix.rows, key=lambda row: sources.index(row.source))
    labels = [f"{row.label}\non {row.source}" for row in rows]
    margin = 0.085 * max(len(line) for label in labels for line in label.split("\n")) + 0.3
    width = margin + len(SHOWN) * (len(matrix.targets) * _CELL[0] + 0.9)
    height = len(rows) * _CELL[1] + 1.7
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(SHOWN), squeeze=False)[0]
    for i, (axes, metric) in enumerate(zip(panels, SHOWN)):
        _draw_panel(axes, matrix, rows, metric)
        axes.set_yticks(np.arange(len(rows)) + 0.5, labels if i == 0 else [""] * len(rows), fontsize=9)
    figure.supxlabel("target: text to image, percent, mean ± sd over seeds; framed: in domain", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as beside:
        figure.savefig(beside, format="png", dpi=_DPI)


def _draw_panel(axes: Axes, matrix: TransferMatrix, rows: list[Row], metric: str) -> None:
    m = METRICS.index(metric)
    mean = np.full((len(rows), len(matrix.targets)), np.nan)
    for cell in matrix.cells:
        mean[rows.index(cell.row), matrix.targets.index(cell.target)] = cell.figure.mean[m]
    low, high = np.nanmin(mean), np.nanmax(mean)
    colours = colormaps[COLOURS]
    span = (high - low or 1.0) / _DARKEST
    axes.pcolormesh(mean, cmap=colours, vmin=low, vmax=low + span, edgecolors="white", linewidth=2)
    axes.set_ylim(len(rows), 0)
    for cell in matrix.cells:
        y, x = rows.index(cell.row), matrix.targets.index(cell.target)
        sd = cell.figure.sd[m]
        text = f"{mean[y, x]:.1f}" + ("" if np.isnan(sd) else f" ± {sd:.1f}")
        ink = "black" if is_light(colours((mean[y, x] - low) / span)) else "white"
        axes.text(x + 0.5, y + 0.5, text, ha="center", va="center", fontsize=9, color=ink)
        if cell.row.in_domain(cell.target):
            frame = Rectangle((x + 0.035, y + 0.06), 0.93, 0.88, fill=False, edgecolor=FRAME, linewidth=2.2)
            axes.add_patch(frame)
    axes.set_xticks(np.arange(len(matrix.targets)) + 0.5, matrix.targets, fontsize=9)
    axes.set_title(metric, loc="left", fontsize=12, fontweight="bold")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
