"""Caption sets side by side: how often sentence patterns come, how long captions are, what they mention."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from mmreid_text.atomic_write import written_beside
from mmreid_text.captioning.diversity import ALL, COVERAGE, Diversity
from mmreid_text.visualization.curves import COLOURS

_LINES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v")


def plot_diversity(sets: Mapping[str, Mapping[str, Diversity]], path: Path) -> None:
    """Draw a column per set and a line per caption source, as PNG; written whole or not at all.

    Args:
        sets: Set -> caption source -> figures.
        path: The picture; its folder is made where there is none.
    """
    figure = Figure(figsize=(5.6 * len(sets) + 0.4, 10.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels: tuple[tuple[str, Callable[[Axes, Diversity, dict], None]], ...] = (
        ("sentence patterns", _draw_patterns),
        ("length", _draw_lengths),
        ("mentions", _draw_coverage),
    )
    grid = figure.subplots(len(panels), len(sets), squeeze=False, sharex="row", sharey="row")
    for row, (title, draw) in zip(grid, panels):
        for axes, (name, sources) in zip(row, sets.items()):
            for i, (source, one) in enumerate(sources.items()):
                draw(axes, one, _look(i, source, name))
            axes.set_title(f"{name}: {title}" if len(sets) > 1 else title, loc="left", fontsize=11, fontweight="bold")
            axes.tick_params(labelleft=True)
            axes.grid(color="#E3E5E8", linewidth=0.8)
            axes.spines[["top", "right"]].set_visible(False)
    for axes, sources in zip(grid[0], sets.values()):
        if len(sources) > 1:
            axes.legend(frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as beside:
        figure.savefig(beside, format="png", dpi=110)


def _look(i: int, source: str, name: str) -> dict:
    colour = COLOURS[-1] if source == ALL else COLOURS[i % (len(COLOURS) - 1)]
    line = "-" if source == ALL else _LINES[i % len(_LINES)]
    return {"color": colour, "linestyle": line, "label": source or name, "place": i}


def _draw_patterns(axes: Axes, one: Diversity, look: dict) -> None:
    ranks = np.arange(1, len(one.pattern_counts) + 1)
    label = f"{look['label']}: {one.pattern_entropy:.1f} of {one.entropy_bound:.1f} bits"
    axes.loglog(
        ranks, one.pattern_counts / one.sampled, color=look["color"], linestyle=look["linestyle"], label=label, lw=1.8
    )
    axes.set_xlabel("rank of the pattern")
    axes.set_ylabel("share of captions")


def _draw_lengths(axes: Axes, one: Diversity, look: dict) -> None:
    last = one.words_at(99.9) + 1
    axes.plot(one.lengths[: last + 1] / one.captions, color=look["color"], linestyle=look["linestyle"], lw=1.8)
    axes.set_xlabel("words")
    axes.set_ylabel("share of captions")


def _draw_coverage(axes: Axes, one: Diversity, look: dict) -> None:
    shift = 0.12 * (look["place"] % 5 - 2)
    shares = [one.coverage[name] for name in COVERAGE]
    marker = _MARKERS[look["place"] % len(_MARKERS)]
    axes.plot(np.arange(len(shares)) + shift, shares, marker, color=look["color"], markersize=6)
    axes.set_xticks(range(len(COVERAGE)), COVERAGE, rotation=25, ha="right", fontsize=9)
    axes.set_ylim(-0.03, 1.05)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel("captions that mention it")
