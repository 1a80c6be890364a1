"""Training curves of one or more runs, from the scalars that mmengine writes."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mmreid_text.atomic_write import written_beside

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
Series = tuple[np.ndarray, np.ndarray]


def read_scalars(run: str | os.PathLike[str]) -> dict[str, Series]:
    """Scalars of a run, by name.

    Args:
        run: A work directory, all of whose ``vis_data/scalars.json`` are joined (a resumed run writes one per start),
            or one such file.

    Returns:
        Steps float64 (n,), ascending, and values float64 (n,). Where two files hold the same step, the later counts.
        Training scalars have the iteration as step, validation scalars the epoch.

    Raises:
        FileNotFoundError: No scalars there.
        ValueError: A line is not JSON; a half-written last line is left out.
    """
    path = Path(run)
    files = [path] if path.is_file() else sorted(path.glob("**/vis_data/scalars.json"))
    if not files:
        raise FileNotFoundError(
            f"{path} holds no vis_data/scalars.json: give the work directory of a run that has begun"
        )
    points: dict[str, dict[float, float]] = {}
    for file in files:
        for scalars in _read_lines(file):
            step = float(scalars.get("step", 0))
            for name, value in scalars.items():
                if name != "step" and isinstance(value, int | float):
                    points.setdefault(name, {})[step] = float(value)
    series = {}
    for name, values in points.items():
        steps = sorted(values)
        series[name] = (np.array(steps), np.array([values[step] for step in steps]))
    return series


def plot_curves(
    runs: Mapping[str, str | os.PathLike[str]],
    path: str | os.PathLike[str],
    names: Sequence[str] = ("loss", "lr", "mean/R1"),
) -> None:
    """Draw one panel per scalar and one line per run, as PNG; written whole or not at all.

    Args:
        runs: Work directories (or scalars files) by label.
        path: The picture.
        names: Scalars to draw. One that no run has is left out; losses get their moving mean on top.

    Raises:
        ValueError: No run has any of the scalars.
    """
    scalars = {label: read_scalars(run) for label, run in runs.items()}
    found = [name for name in names if any(name in series for series in scalars.values())]
    if not found:
        known = sorted({name for series in scalars.values() for name in series})
        raise ValueError(f"no run has any of the scalars {list(names)}; there are {known}")
    figure = Figure(figsize=(5.2 * len(found), 3.9), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, name in zip(figure.subplots(1, len(found), squeeze=False)[0], found):
        for i, (label, series) in enumerate(scalars.items()):
            if name in series:
                _draw_line(axes, name, series[name], label, COLOURS[i % len(COLOURS)])
        axes.set_title(name, loc="left", fontsize=12, fontweight="bold")
        axes.set_xlabel("epoch" if "/" in name else "iteration")
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        axes.grid(color="#E3E5E8", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        if "/" in name:
            axes.set_ylabel("percent")
        if len(runs) > 1:
            axes.legend(frameon=False, fontsize=10)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as beside:
        figure.savefig(beside, format="png", dpi=130)


def _draw_line(axes: Axes, name: str, series: Series, label: str, colour: str) -> None:
    steps, values = series
    window = len(values) // 25 | 1
    if "loss" not in name or window < 3:
        marker = "o" if len(values) < 40 else None
        axes.plot(steps, values, color=colour, label=label, linewidth=1.8, marker=marker, markersize=4)
        return
    axes.plot(steps, values, color=colour, linewidth=0.8, alpha=0.3)
    half = window // 2
    smooth = np.convolve(values, np.full(window, 1 / window), mode="valid")
    axes.plot(steps[half:-half], smooth, color=colour, label=label, linewidth=1.8)


def _read_lines(file: Path) -> list[dict]:
    lines = file.read_text(encoding="utf-8").splitlines()
    scalars = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            scalars.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines):  # the run is being written, or was killed
                break
            raise ValueError(f"{file}:{number} is not a line of JSON: {line[:60]!r}") from error
    return scalars
