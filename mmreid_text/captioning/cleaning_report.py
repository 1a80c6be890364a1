"""What cleaning found in many captions: counts, samples and repeated texts, in bounded memory."""

import hashlib
import heapq
from collections import Counter
from typing import Any

import numpy as np
from tqdm import tqdm

from mmreid_text.captioning.cleaning import REPEATED, RULES, CleaningContext, clean
from mmreid_text.captioning.template_grammar import pattern_key
from mmreid_text.datasets.caption_table import CaptionTable

_DEPTH = 4


class RepeatCounter:
    """Counts equal texts (whatever their case and punctuation) without keeping them.

    A count-min sketch (Cormode and Muthukrishnan, 2005) with conservative update: memory is ``_DEPTH * 2 * width``
    bytes whatever the number of texts; a count is never too low, and too high only where a text shares all of its
    cells with others, which at 4 M texts and the default width happens to a few in a million.

    Args:
        limit: Captions of a set that may share a text.
        width: Cells per row of the sketch; the default takes 32 MiB.

    Raises:
        ValueError: ``limit`` is below 1 or above 65,534, or ``width`` below 1.
    """

    def __init__(self, limit: int = 100, width: int = 2**22) -> None:
        if not 1 <= limit < 65_535 or width < 1:
            raise ValueError(f"limit={limit} must be 1 to 65,534 and width={width} at least 1")
        self.limit = limit
        self._cells = np.zeros((_DEPTH, width), dtype=np.uint16)

    def add(self, text: str) -> bool:
        """Count a text; True once it has come more than ``limit`` times: it breaks the rule ``repeated``."""
        digest = hashlib.blake2b(pattern_key(text).encode("utf-8", "replace"), digest_size=8 * _DEPTH).digest()
        places = np.frombuffer(digest, dtype="<u8") % self._cells.shape[1]
        rows = np.arange(_DEPTH)
        found = self._cells[rows, places]
        count = min(int(found.min()) + 1, 65_535)
        self._cells[rows, places] = np.maximum(found, count)
        return count > self.limit


class CleaningReport:
    """Counts captions per rule and keeps a few of each as samples.

    Samples are those whose hash is smallest, so they do not depend on the order of the captions.

    Args:
        samples: Samples kept per rule.
    """

    def __init__(self, samples: int = 5) -> None:
        self.samples = samples
        self.accepted = 0
        self.counts: Counter[str] = Counter()
        self._kept: dict[str, list[tuple[int, str, str]]] = {}

    def add(self, rule: str | None, name: str, caption: str) -> None:
        """Count one caption.

        Args:
            rule: The rule that rejected it, None if it stays.
            name: Whose caption it is, such as image and source.
            caption: The text.
        """
        if rule is None:
            self.accepted += 1
            return
        self.counts[rule] += 1
        digest = hashlib.blake2b(f"{name}\0{caption}".encode("utf-8", "replace"), digest_size=8).digest()
        entry = (-int.from_bytes(digest, "big"), name, caption)
        kept = self._kept.setdefault(rule, [])
        if len(kept) < self.samples:
            heapq.heappush(kept, entry)
        else:
            heapq.heappushpop(kept, entry)

    def as_dict(self) -> dict[str, Any]:
        """Plain values: ``accepted``, ``rejected`` and, per rule, ``about``, ``count`` and ``samples``."""
        about = {name: rule.about for name, rule in RULES.items()} | {REPEATED: "one text for many images"}
        rules = {
            name: {
                "about": about.get(name, ""),
                "count": self.counts[name],
                "samples": [{"name": n, "caption": c} for _, n, c in sorted(self._kept.get(name, []), reverse=True)],
            }
            for name in [*about, *sorted(self.counts.keys() - about.keys())]
        }
        return {"accepted": self.accepted, "rejected": self.counts.total(), "rules": rules}

    def as_markdown(self) -> str:
        """A table of the rules that rejected something, with one sample each."""
        facts = self.as_dict()
        total = facts["accepted"] + facts["rejected"]
        summary = f"{facts['rejected']:,} of {total:,} captions rejected.\n"
        if not facts["rejected"]:
            return summary
        lines = [summary, "| rule | rejects | captions | sample |"]
        lines.append("| --- | --- | ---: | --- |")
        for name, rule in facts["rules"].items():
            if rule["count"]:
                sample = rule["samples"][0]["caption"] if rule["samples"] else ""
                lines.append(f"| {name} | {rule['about']} | {rule['count']:,} | {_cell(sample)} |")
        return "\n".join(lines) + "\n"


def check_table_captions(
    table: CaptionTable, sample: int, context: CleaningContext | None = None, seed: int = 0
) -> CleaningReport:
    """What the rules, ``repeated`` too, would reject of the captions of a table as they stand.

    Args:
        table: The captions.
        sample: Captions looked at, drawn by ``seed``.
        context: What to judge them against; None takes the defaults.
        seed: Seed of the draw.
    """
    report, repeats = CleaningReport(), RepeatCounter()
    rows = np.sort(np.random.default_rng(seed).choice(len(table), min(sample, len(table)), replace=False))
    for row in tqdm(rows.tolist(), f"cleaning rules on {table.name}", unit="caption", delay=2):
        caption = table.caption(row)
        text, rule = clean(caption, context)
        if rule is None and repeats.add(text):
            rule = REPEATED
        report.add(rule, table.image(row), caption)
    return report


def _cell(text: str) -> str:
    text = " ".join(text.split())
    text = text if len(text) <= 100 else text[:97] + "..."
    return f"`{text.replace('|', '/').replace('`', chr(39))}`" if text else ""
