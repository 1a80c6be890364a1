"""Models that differ in the captions they were trained on: direct transfer, with the captions' diversity beside it."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from mmreid_text.captioning import diversity_report
from mmreid_text.captioning.diversity import Diversity, measure_table
from mmreid_text.datasets import TextReIDDataset
from mmreid_text.evaluation.feature_dumps import QueryScores
from mmreid_text.evaluation.transfer import Row, TransferMatrix, build_matrix
from mmreid_text.evaluation.transfer_report import SHOWN, as_json, differences_table, figure_text, markdown_table

_IMAGES = "the same images"
_BLEU_SAMPLE = 1_000
_EXPLANATION = """\
Rows with captions were trained on the same {images:,} images with {captions:,} captions, and all were tested on other
people. Text to image, percent: mean ± standard deviation over training seeds [95% interval over test identities].
Entropies, of sentence patterns and of their openings, are in bits and at most {bound:.2f}. Diverse captions have high
entropies and distinct-4, and a low self-BLEU-4 and share of the most frequent pattern.
"""


def check_captions(datasets: Mapping[str, TextReIDDataset]) -> str:
    """See that rows differ in nothing but their captions.

    Args:
        datasets: Training data by row; at least one.

    Returns:
        Fingerprint of all captions, in the order of the rows.

    Raises:
        ValueError: Rows have other images, or another number of captions, than the first.
    """
    digest = hashlib.sha256()
    (first, reference), *_ = datasets.items()
    images = set(reference.table.images())
    for name, dataset in datasets.items():
        own = set(dataset.table.images())
        if own != images or len(dataset.table) != len(reference.table):
            odd = sorted(own ^ images)
            raise ValueError(
                f"{name!r} has {len(dataset.table):,} captions of {len(own):,} images, {first!r} has "
                f"{len(reference.table):,} of {len(images):,}{f', and one lacks {odd[0]!r}' if odd else ''}: rows "
                "would differ in more than their captions. Caption the same images as often (failed.jsonl of a "
                "captioning job says which it could not)."
            )
        digest.update(dataset.fingerprint.encode())
    return digest.hexdigest()


def compare(
    rows: Sequence[Row],
    scores: Mapping[tuple[int, str], Mapping[int, QueryScores]],
    datasets: Mapping[str, TextReIDDataset],
) -> tuple[str, dict[str, Any]]:
    """The comparison as Markdown, and everything in it as plain values.

    Args:
        rows: The models.
        scores: By row number and target, the scores of each seed.
        datasets: Training data by name of the row; none for rows that were not trained on captions of these images.
    """
    # Rows of one source are compared over all targets; that these have one here is what check_captions sees to.
    trained = [replace(row, source=_IMAGES) if row.name in datasets else row for row in rows]
    matrix = build_matrix(trained, scores)
    captions = {name: _diversity(dataset) for name, dataset in datasets.items()}
    plain = {
        "captions": diversity_report.as_json({name: {"": one} for name, one in captions.items()}, {})["sets"],
        "transfer": as_json(matrix, [], []),
    }
    return _as_markdown(matrix, captions, next(iter(datasets.values()))), plain


def _diversity(dataset: TextReIDDataset) -> Diversity:
    size = len(dataset.table)
    *_, whole = measure_table(dataset.table, size, min(_BLEU_SAMPLE, size)).values()
    return whole


def _as_markdown(matrix: TransferMatrix, captions: Mapping[str, Diversity], dataset: TextReIDDataset) -> str:
    bound = next(iter(captions.values())).entropy_bound
    text = _EXPLANATION.format(images=dataset.num_images, captions=len(dataset.table), bound=bound)
    head = ["captions", "words", "pattern entropy", "openings", "top pattern", "self-BLEU-4", "distinct-4"]
    lines = [[*head, *(f"{target} R1" for target in matrix.targets), *(f"mean {name}" for name in SHOWN)]]
    cells = {(cell.row.name, cell.target): cell.figure for cell in matrix.cells}
    means = {summary.name: summary.figure for summary in matrix.summaries}
    for row in matrix.rows:
        figures = [figure_text(cells.get((row.name, target)), "R1") for target in matrix.targets]
        summary = [figure_text(means.get(row.label), name) for name in SHOWN]
        lines.append([row.label, *_columns(captions.get(row.name)), *figures, *summary])
    parts = ["# Captions compared\n", text, markdown_table(lines, left=1)]
    if matrix.methods:
        parts += ["## Differences of the mean over the targets\n", differences_table(matrix.methods)]
    return "\n".join(parts)


def _columns(one: Diversity | None) -> list[str]:
    if one is None:
        return ["-"] * 6
    words = f"{one.words[0]:.1f}"
    patterns = [f"{one.pattern_entropy:.2f}", f"{one.opening_entropy:.2f}", f"{100 * one.top_share:.2f}%"]
    return [words, *patterns, f"{one.self_bleu:.3f}", f"{one.distinct[3]:.2f}"]
