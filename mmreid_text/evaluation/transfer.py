"""The transfer matrix: every source evaluated on every target, over seeds, with intervals and paired tests.

All figures are text-to-image, in percent, and come from scores per caption. What intervals and p-values say stands in
:mod:`mmreid_text.evaluation.significance`.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mmreid_text.evaluation.feature_dumps import QueryScores
from mmreid_text.evaluation.results import row_label
from mmreid_text.evaluation.significance import Resampled, interval, resample, sign_flip_p

IN_DOMAIN, ACROSS = "in domain", "across domains"
Place = tuple[int, str]
"""A cell: number of the row, and target."""


@dataclass(frozen=True)
class Row:
    """A method trained on a source.

    Attributes:
        name: The method.
        source: Training data set, as published or by its name in results; several are joined by ``+``.
        protocol: That by which checkpoints were chosen, '' where not known.
        one_model: Whether there is one model, whatever the seed; it is then compared with every seed of other rows.
    """

    name: str
    source: str
    protocol: str = ""
    one_model: bool = False

    @property
    def label(self) -> str:
        """The method, marked where no validation split of its own chose the checkpoints."""
        return row_label(self.name, self.protocol or None)

    def in_domain(self, target: str) -> bool:
        """Whether the row was trained on the target's data set."""
        return target in result_key(self.source).split("+")


@dataclass(frozen=True)
class Figure:
    """Measures (M,) of a cell, of several cells' mean or of a difference, over training seeds.

    Attributes:
        mean: Over seeds, float64 (M,).
        sd: Sample standard deviation over seeds, (M,); nan for one seed.
        low: Lower end of the 95% interval over identities, (M,).
        high: Its upper end, (M,).
        per_seed: (M,) by seed.
        p: Of the paired test, (M,); None for a figure that is no difference.
    """

    mean: np.ndarray
    sd: np.ndarray
    low: np.ndarray
    high: np.ndarray
    per_seed: dict[int, np.ndarray]
    p: np.ndarray | None = None


@dataclass(frozen=True)
class Cell:
    """A row on a target."""

    row: Row
    target: str
    figure: Figure


@dataclass(frozen=True)
class Summary:
    """A method's mean over its cells in domain, or across domains."""

    name: str
    setting: str
    cells: int
    figure: Figure


@dataclass(frozen=True)
class Comparison:
    """``second`` less ``first``, paired: of two rows on a target, or of two methods over all sources they share."""

    first: str
    second: str
    source: str
    """The rows' source, both where they differ; '' where methods are compared."""
    where: str
    """The target, or :data:`IN_DOMAIN` or :data:`ACROSS`."""
    cells: int
    figure: Figure


@dataclass(frozen=True)
class TransferMatrix:
    """All figures of a matrix, in the order of rows and targets."""

    rows: list[Row]
    targets: list[str]
    cells: list[Cell]
    summaries: list[Summary]
    methods: list[Comparison]
    pairs: list[Comparison]


def result_key(source: str) -> str:
    """A published name as results call it: ``'CUHK-PEDES'`` is ``'cuhk_pedes'``; ``+`` joins several."""
    return re.sub(r"[^a-z0-9+]+", "_", source.lower())


def build_matrix(rows: Sequence[Row], scores: Mapping[Place, Mapping[int, QueryScores]]) -> TransferMatrix:
    """Compute all figures of a matrix.

    Args:
        rows: Rows, no two of one name and source.
        scores: By row number and target, the scores of each seed, of one only where the row has one model. Cells may be
            missing.

    Raises:
        ValueError: Two evaluations of a target were not of the same captions and images, or there is none at all.
    """
    if not scores:
        raise ValueError("there is no evaluation to make a matrix of")
    by_row = [[target for j, target in scores if j == i] for i in range(len(rows))]
    by_row.sort(key=len, reverse=True)  # the columns' order is that of a row with the most of them
    targets = list(dict.fromkeys(target for own in by_row for target in own))
    single = {i for i, row in enumerate(rows) if row.one_model}
    figures = _Figures({target: _same_queries(rows, scores, target) for target in targets}, single)
    places = [(i, target) for i in range(len(rows)) for target in targets if (i, target) in scores]
    return TransferMatrix(
        rows=list(rows),
        targets=targets,
        cells=[Cell(rows[i], target, figures.of([(i, target)])) for i, target in places],
        summaries=_summaries(rows, places, figures),
        methods=_method_comparisons(rows, places, figures),
        pairs=_row_comparisons(rows, places, figures),
    )


def _same_queries(
    rows: Sequence[Row], scores: Mapping[Place, Mapping[int, QueryScores]], target: str
) -> dict[tuple[int, int], QueryScores]:
    """Scores of a target by (row, seed), of the same captions and images all."""
    units = {(i, seed): one for (i, t), seeds in scores.items() if t == target for seed, one in seeds.items()}
    first = next((unit for unit, one in units.items() if one.notes.data), next(iter(units)))
    reference = units[first]
    for unit, one in units.items():
        known = {one.notes.data, reference.notes.data} - {""}
        same = np.array_equal(one.pid, reference.pid) and np.array_equal(one.gallery, reference.gallery)
        if len(known) > 1 or not same:
            (i, seed), (j, other) = unit, first
            raise ValueError(
                f"target {target}: {rows[i].name} on {rows[i].source}, seed {seed}, was tested on other captions or "
                f"images ({_size(one)}) than {rows[j].name} on {rows[j].source}, seed {other} ({_size(reference)}): "
                "figures of one column must be of the same test set. Remove the older dump, or test again."
            )
    return units


def _size(one: QueryScores) -> str:
    return f"{len(one.pid)} captions, {one.gallery.sum()} images, {len(one.gallery)} identities"


class _Figures:
    """Figures of cells, and of differences, from one resampling per target."""

    def __init__(self, scores: Mapping[str, Mapping[tuple[int, int], QueryScores]], single: Collection[int]) -> None:
        """``single`` are the rows that have one model, whatever the seed."""
        self._single = single
        self._seeds: dict[Place, set[int]] = {}
        self._unit: dict[tuple[int, str, int], int] = {}
        self._found: dict[str, Resampled] = {}
        for target, units in scores.items():
            for unit, (row, seed) in enumerate(units):
                self._seeds.setdefault((row, target), set()).add(seed)
                self._unit[row, target, seed] = unit
            values = np.stack([one.percent for one in units.values()])
            self._found[target] = resample(values, next(iter(units.values())).pid, target)

    def common_seeds(self, places: Sequence[Place]) -> list[int]:
        trained = [place for place in places if place[0] not in self._single]
        return sorted(set.intersection(*(self._seeds[place] for place in trained or places)))

    def of(self, places: Sequence[Place], less: Sequence[Place] = ()) -> Figure:
        """Figure of the mean over cells, or of the difference to the mean over as many cells ``less``."""
        seeds = self.common_seeds([*places, *less])

        def mean(attribute: str, over: Sequence[int]) -> np.ndarray:
            parts = [(place, 1) for place in places] + [(place, -1) for place in less]
            total = sum(
                sign * getattr(self._found[place[1]], attribute)[self._unit_of(place, seed)]
                for place, sign in parts
                for seed in over
            )
            return np.asarray(total / (len(places) * len(over)))

        per_seed = {seed: mean("mean", [seed]) for seed in seeds}
        own = np.stack(list(per_seed.values()))
        low, high = interval(mean("bootstrap", seeds))
        average = mean("mean", seeds)
        return Figure(
            mean=average,
            sd=own.std(axis=0, ddof=1) if len(seeds) > 1 else np.full(own.shape[1], np.nan),
            low=low,
            high=high,
            per_seed=per_seed,
            p=sign_flip_p(average, mean("flipped", seeds)) if less else None,
        )

    def _unit_of(self, place: Place, seed: int) -> int:
        own = self._seeds[place]
        return self._unit[place[0], place[1], next(iter(own)) if place[0] in self._single else seed]


def _summaries(rows: Sequence[Row], places: Sequence[Place], figures: _Figures) -> list[Summary]:
    summaries = []
    for name in dict.fromkeys(row.name for row in rows):
        for setting in (IN_DOMAIN, ACROSS):
            own = [(i, t) for i, t in places if rows[i].name == name and rows[i].in_domain(t) == (setting == IN_DOMAIN)]
            if own and figures.common_seeds(own):
                summaries.append(Summary(_label(rows, own), setting, len(own), figures.of(own)))
    return summaries


def _label(rows: Sequence[Row], places: Sequence[Place]) -> str:
    """A method, marked as the rows that take part are; they may differ."""
    return " / ".join(dict.fromkeys(rows[i].label for i, _ in places))


def _method_comparisons(rows: Sequence[Row], places: Sequence[Place], figures: _Figures) -> list[Comparison]:
    """Methods over the sources and targets that both have."""
    by_name: dict[str, dict[tuple[str, str], Place]] = {}
    for i, target in places:
        by_name.setdefault(rows[i].name, {})[result_key(rows[i].source), target] = (i, target)
    comparisons = []
    for first, second in combinations(by_name, 2):
        both = [key for key in by_name[first] if key in by_name[second]]
        for setting in (IN_DOMAIN, ACROSS):
            keys = [(s, t) for s, t in both if (t in s.split("+")) == (setting == IN_DOMAIN)]
            less, more = ([by_name[name][key] for key in keys] for name in (first, second))
            if keys and figures.common_seeds(more + less):
                names = (_label(rows, less), _label(rows, more))
                comparisons.append(Comparison(*names, "", setting, len(keys), figures.of(more, less)))
    return comparisons


def _row_comparisons(rows: Sequence[Row], places: Sequence[Place], figures: _Figures) -> list[Comparison]:
    """Every two rows on every target that both have."""
    comparisons = []
    for (i, target), (j, other) in combinations(places, 2):
        if i != j and target == other and figures.common_seeds([(i, target), (j, target)]):
            source = " / ".join(dict.fromkeys((rows[i].source, rows[j].source)))
            names = (rows[i].label, rows[j].label)
            comparisons.append(Comparison(*names, source, target, 1, figures.of([(j, target)], [(i, target)])))
    return comparisons
