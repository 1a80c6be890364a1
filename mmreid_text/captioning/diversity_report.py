"""The diversity of caption sets as Markdown and JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmreid_text.atomic_write import write_text
from mmreid_text.captioning.cleaning_report import CleaningReport
from mmreid_text.captioning.diversity import COVERAGE, Diversity

#: Set of captions -> caption source -> figures.
Sets = Mapping[str, Mapping[str, Diversity]]
_PERCENTILES = (5, 50, 95)
_EXPLANATION = """\
n-grams and patterns are of {sampled:,} captions of each row, self-BLEU of {bleu:,} of these, drawn by a fixed seed:
they depend on the size of the sample and compare only where it is the same. Lengths and coverage are of all captions.

- distinct-n: distinct n-grams over all n-grams. Higher is more diverse.
- self-BLEU-4: BLEU of a caption against all others of the sample. Lower is more diverse.
- patterns: captions whose attribute words are abstracted to slots. Their entropy is in bits and at most
  {bound:.2f}, where no two captions share a pattern; openings are the first four words and slots of the pattern.
"""


def write_report(sets: Sets, cleaning: Mapping[str, CleaningReport], folder: Path) -> str:
    """Write ``diversity.md`` and ``diversity.json`` to a folder, made where there is none.

    Args:
        sets: The figures; at least one.
        cleaning: Set -> what the cleaning rules find in a sample of it.
        folder: Where the files go.

    Returns:
        The Markdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    markdown = as_markdown(sets, cleaning)
    write_text(folder / "diversity.md", markdown)
    write_text(folder / "diversity.json", json.dumps(as_json(sets, cleaning), indent=2, ensure_ascii=False) + "\n")
    return markdown


def as_markdown(sets: Sets, cleaning: Mapping[str, CleaningReport]) -> str:
    """Tables of the figures, of coverage, of the most frequent patterns, and of what the cleaning rules reject."""
    rows = [(name, source, one) for name, sources in sets.items() for source, one in sources.items()]
    first = rows[0][2]
    explanation = _EXPLANATION.format(sampled=first.sampled, bleu=first.bleu_sampled, bound=first.entropy_bound)
    head = ["set", "source", "captions", "words", "p5 / p50 / p95", "distinct-1", "distinct-2", "distinct-3"]
    head += ["distinct-4", "self-BLEU-4", "patterns", "entropy", "openings", "top pattern"]
    figures = [head]
    for name, source, one in rows:
        mean, sd = one.words
        words = " / ".join(str(one.words_at(percent)) for percent in _PERCENTILES)
        figures.append([name, source, f"{one.captions:,}", f"{mean:.1f} ± {sd:.1f}", words])
        figures[-1] += [f"{share:.4f}" for share in one.distinct]
        figures[-1] += [f"{one.self_bleu:.3f}", f"{len(one.pattern_counts):,}", f"{one.pattern_entropy:.2f}"]
        figures[-1] += [f"{one.opening_entropy:.2f}", f"{100 * one.top_share:.2f}%"]
    coverage = [["set", "source", *COVERAGE]]
    coverage += [[n, s, *(f"{100 * one.coverage[name]:.1f}%" for name in COVERAGE)] for n, s, one in rows]
    patterns = [["set", "source", "share", "pattern"]]
    for name, source, one in rows:
        patterns += [[name, source, f"{100 * k / one.sampled:.2f}%", f"`{p}`"] for p, k in one.top_patterns[:3]]
    parts = ["# Diversity of captions\n", explanation, _table(figures)]
    parts += ["## Coverage: captions that mention\n", _table(coverage)]
    parts += ["## Most frequent patterns\n", _table(patterns)]
    for name, report in cleaning.items():
        parts += [f"## Cleaning rules on a sample of {name}\n", report.as_markdown()]
    return "\n".join(parts)


def as_json(sets: Sets, cleaning: Mapping[str, CleaningReport]) -> dict[str, Any]:
    """Plain values of everything, unrounded."""
    return {
        "sets": {name: {source: _plain(one) for source, one in sources.items()} for name, sources in sets.items()},
        "cleaning": {name: report.as_dict() for name, report in cleaning.items()},
    }


def _plain(one: Diversity) -> dict[str, Any]:
    mean, sd = one.words
    return {
        "captions": one.captions,
        "sampled": one.sampled,
        "distinct": list(one.distinct),
        "self_bleu_4": one.self_bleu,
        "bleu_sampled": one.bleu_sampled,
        "patterns": len(one.pattern_counts),
        "pattern_entropy_bits": one.pattern_entropy,
        "entropy_bound_bits": one.entropy_bound,
        "opening_entropy_bits": one.opening_entropy,
        "top_pattern_share": one.top_share,
        "top_patterns": [{"pattern": pattern, "captions": number} for pattern, number in one.top_patterns],
        "words": {"mean": mean, "sd": sd, **{f"p{percent}": one.words_at(percent) for percent in _PERCENTILES}},
        "coverage": one.coverage,
    }


def _table(rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; the first row is its head."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]]) + "\n"
