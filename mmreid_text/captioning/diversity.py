"""How diverse captions are: distinct n-grams, self-BLEU, sentence patterns, lengths and what they speak of."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from tqdm import tqdm

from mmreid_text.captioning.attribute_words import GENDER, HEADS, slot_of
from mmreid_text.captioning.patterns import pattern_of, tokens_of
from mmreid_text.datasets.caption_table import CaptionTable
from mmreid_text.evaluation.word_classes import LEXICON

#: What coverage is reported of: the slots of templates, and how the person and things look.
COVERAGE = ("gender", *(slot for slot in HEADS if slot != "person"), "colour")
#: Column of tables that stands for all sources of a set.
ALL = "all"
_LONGEST = 1000
_OPENING = 4


@dataclass(frozen=True)
class Diversity:
    """Figures of one set of captions.

    Attributes:
        captions: Captions of the set; lengths and coverage are of all of them.
        sampled: Captions drawn for n-grams and patterns.
        distinct: Distinct n-grams over all n-grams of the sample, n = 1 to 4, in [0, 1] (Li et al., NAACL 2016).
        self_bleu: Mean BLEU-4 of a caption against the others of a smaller sample, in [0, 1]; low is diverse
            (Zhu et al., SIGIR 2018).
        bleu_sampled: Captions of that sample.
        pattern_counts: Captions of the sample per sentence pattern, most frequent first, int64 (patterns,).
        top_patterns: The most frequent patterns with their numbers of captions.
        opening_entropy: Bits of the distribution over the first four words and slots of the pattern.
        lengths: Captions of w words at place w, int64 (1001,); the last place holds longer ones too.
        coverage: Share in [0, 1] of the captions that mention each of :data:`COVERAGE`.
    """

    captions: int
    sampled: int
    distinct: tuple[float, ...]
    self_bleu: float
    bleu_sampled: int
    pattern_counts: np.ndarray
    top_patterns: tuple[tuple[str, int], ...]
    opening_entropy: float
    lengths: np.ndarray
    coverage: dict[str, float]

    @property
    def pattern_entropy(self) -> float:
        """Bits of the distribution of the sample's captions over patterns, at most :attr:`entropy_bound`."""
        return entropy(self.pattern_counts)

    @property
    def entropy_bound(self) -> float:
        """Bits of a sample of which no two captions share a pattern."""
        return math.log2(self.sampled)

    @property
    def top_share(self) -> float:
        """Share in [0, 1] of the captions of the sample that follow the most frequent pattern."""
        return float(self.pattern_counts[0] / self.sampled)

    @property
    def words(self) -> tuple[float, float]:
        """Mean and standard deviation of the number of words."""
        values = np.arange(len(self.lengths))
        mean = (values * self.lengths).sum() / self.captions
        return float(mean), float(np.sqrt(((values - mean) ** 2 * self.lengths).sum() / self.captions))

    def words_at(self, percent: float) -> int:
        """The least number of words that ``percent`` of the captions do not exceed."""
        return int(np.searchsorted(self.lengths.cumsum(), self.captions * percent / 100))


def measure(
    captions: Iterable[str], total: int, sample: int = 50_000, bleu_sample: int = 1_000, seed: int = 0
) -> Diversity:
    """Go through captions once; memory is that of the sample.

    Args:
        captions: ``total`` captions.
        total: Their number.
        sample: Captions to draw for n-grams and patterns. These figures depend on it: compare equal samples.
        bleu_sample: Captions of the sample to draw for self-BLEU, which depends on it, too.
        seed: Seed of both draws.

    Raises:
        ValueError: There are fewer than two captions, not ``total``, or a sample is below two.
    """
    if total < 2 or sample < 2 or bleu_sample < 2:
        raise ValueError(f"{total} captions, sample={sample}, bleu_sample={bleu_sample}: each must be at least 2")
    rng = np.random.default_rng(seed)
    drawn = np.sort(rng.choice(total, min(sample, total), replace=False))
    chosen = np.zeros(total, dtype=bool)
    chosen[drawn] = True
    lengths = np.zeros(_LONGEST + 1, dtype=np.int64)
    mentions: Counter[int] = Counter()
    kept: list[str] = []
    count = 0
    for count, caption in enumerate(captions, 1):
        if count > total:
            break
        tokens = tokens_of(caption)
        lengths[min(sum(token[0].isalnum() for token in tokens), _LONGEST)] += 1
        mask = 0
        for token in tokens:
            mask |= _mentions(token)
        mentions[mask] += 1
        if chosen[count - 1]:
            kept.append(caption)
    if count != total:
        raise ValueError(f"{total:,} captions were announced, {count:,} came")
    patterns = [pattern_of(caption) for caption in kept]
    common = Counter(patterns).most_common()
    openings = Counter(" ".join(pattern.split()[:_OPENING]) for pattern in patterns)
    bleu = np.sort(rng.choice(len(kept), min(bleu_sample, len(kept)), replace=False))
    ids, sizes = _encode(kept)
    return Diversity(
        captions=total,
        sampled=len(kept),
        distinct=distinct_ngrams(ids, sizes),
        self_bleu=self_bleu([kept[i] for i in bleu]),
        bleu_sampled=len(bleu),
        pattern_counts=np.array([number for _, number in common], dtype=np.int64),
        top_patterns=tuple(common[:5]),
        opening_entropy=entropy(np.array(list(openings.values()))),
        lengths=lengths,
        coverage={
            name: sum(number for mask, number in mentions.items() if mask >> i & 1) / total
            for i, name in enumerate(COVERAGE)
        },
    )


def views_of(table: CaptionTable) -> dict[str, CaptionTable]:
    """The captions of every source that has any, and under ``all`` the whole table if there are several."""
    views = {source: table.filter_sources([source]) for source in table.sources}
    views = {source: view for source, view in views.items() if len(view)}
    return {**views, ALL: table} if len(views) > 1 else views


def measure_table(
    table: CaptionTable, sample: int = 50_000, bleu_sample: int = 1_000, seed: int = 0
) -> dict[str, Diversity]:
    """:func:`measure` of each of :func:`views_of`."""
    return {
        source: measure(_captions(view, source or table.name), len(view), sample, bleu_sample, seed)
        for source, view in views_of(table).items()
    }


def _captions(table: CaptionTable, title: str) -> Iterator[str]:
    with tqdm(total=len(table), desc=title, unit="caption", delay=2) as progress:
        for chunk in table.columns():
            captions = chunk["caption"].to_pylist()
            yield from captions
            progress.update(len(captions))


def entropy(counts: np.ndarray) -> float:
    """Shannon entropy in bits of a distribution given as counts (n,), all above 0.

    >>> entropy(np.array([2, 1, 1]))
    1.5
    """
    shares = counts / counts.sum()
    return float(-(shares * np.log2(shares)).sum()) + 0.0


def distinct_ngrams(ids: np.ndarray, sizes: np.ndarray) -> tuple[float, ...]:
    """Distinct n-grams over all n-grams, for n = 1 to 4; 0 where no caption is n words long.

    Args:
        ids: int64 (T,), the words of all captions in a row, as numbers.
        sizes: int64 (B,), words of each caption.
    """
    shares = []
    for _, codes in _ngrams(ids, sizes):
        shares.append(len(np.unique(codes)) / len(codes) if len(codes) else 0.0)
    return tuple(shares)


def self_bleu(captions: Sequence[str]) -> float:
    """Mean BLEU-4 of each caption with all the others as its references.

    BLEU as of Papineni et al. (ACL 2002): clipped n-gram precisions, their geometric mean over n = 1 to 4, and the
    brevity penalty towards the closest reference length. A precision without a match counts 0.1 matches (method 1 of
    Chen and Cherry, 2014); a caption that shares no word with any other scores 0. Exact in time linear in the words:
    a caption's own counts are left out by keeping the two highest counts of every n-gram.

    Args:
        captions: At least two.

    Returns:
        A value in [0, 1].

    Raises:
        ValueError: Fewer than two captions.
    """
    if len(captions) < 2:
        raise ValueError(f"self-BLEU needs at least two captions, got {len(captions)}")
    ids, sizes = _encode(captions)
    logs = np.zeros(len(sizes))
    shares_none = np.zeros(len(sizes), dtype=bool)
    for n, (rows, codes) in enumerate(_ngrams(ids, sizes), 1):
        matched = np.bincount(*_clipped(rows, codes), minlength=len(sizes))
        possible = np.maximum(sizes - n + 1, 1)
        if n == 1:
            shares_none = matched == 0
        logs += np.log(np.where(matched > 0, matched, 0.1) / possible) / 4
    closest = _closest_other(sizes)
    with np.errstate(divide="ignore", invalid="ignore"):
        brevity = np.where(sizes >= closest, 0.0, 1.0 - closest / sizes)
    return float(np.where(shares_none, 0.0, np.exp(logs + brevity)).mean())


def _clipped(rows: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Per distinct n-gram of a caption: the caption, and how often it comes, at most as often as in any other one."""
    if not len(rows):
        return rows, np.zeros(0)
    pairs, counts = np.unique(np.stack([codes, rows]), axis=1, return_counts=True)
    order = np.lexsort((-counts, pairs[0]))
    code, row, count = pairs[0][order], pairs[1][order], counts[order]
    first = np.flatnonzero(np.diff(code, prepend=-1))
    groups = np.diff(first, append=len(code))
    second = np.where(groups > 1, count[np.minimum(first + 1, len(count) - 1)], 0)
    highest_elsewhere = np.repeat(count[first], groups)
    highest_elsewhere[first] = second
    return row, np.minimum(count, highest_elsewhere).astype(np.float64)


def _closest_other(sizes: np.ndarray) -> np.ndarray:
    """int64 (B,): the length of another caption that is closest to a caption's own, the shorter of two."""
    values, counts = np.unique(sizes, return_counts=True)
    place = np.searchsorted(values, sizes)
    below = values[np.maximum(place - 1, 0)]
    above = values[np.minimum(place + 1, len(values) - 1)]
    to_below = np.where(place > 0, sizes - below, np.iinfo(np.int64).max)
    to_above = np.where(place < len(values) - 1, above - sizes, np.iinfo(np.int64).max)
    other = np.where(to_below <= to_above, below, above)
    return np.where(counts[place] > 1, sizes, other)


def _encode(captions: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Words (marks left out) as numbers, int64 (T,), and each caption's number of them, int64 (B,)."""
    vocabulary: dict[str, int] = {}
    ids: list[int] = []
    sizes = []
    for caption in captions:
        words = [vocabulary.setdefault(w, len(vocabulary)) for w in tokens_of(caption) if w[0].isalnum()]
        ids += words
        sizes.append(len(words))
    return np.array(ids, dtype=np.int64), np.array(sizes, dtype=np.int64)


def _ngrams(ids: np.ndarray, sizes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For n = 1 to 4, of every n-gram: its caption, int64 (T_n,), and a code that equal n-grams share, int64 (T_n,)."""
    rows = np.repeat(np.arange(len(sizes)), sizes)
    codes = ids
    for n in range(1, 5):
        yield rows[: len(codes)][_inside(rows, n)], codes[_inside(rows, n)]
        if n < 4:
            # Equal codes are numbered anew from 0, so that a code times the vocabulary stays far below 2^63.
            longer = codes[: max(len(ids) - n, 0)] * (ids.max(initial=0) + 1) + ids[n:]
            codes = np.unique(longer, return_inverse=True)[1]


def _inside(rows: np.ndarray, n: int) -> np.ndarray:
    """bool (T - n + 1,): whether the n words from here on are of one caption."""
    last = len(rows) - n + 1
    return rows[: max(last, 0)] == rows[n - 1 :]


@lru_cache(maxsize=2**17)
def _mentions(token: str) -> int:
    """Bits of :data:`COVERAGE` that a token speaks of."""
    mask = 0
    parts = [token, *token.split("-")]
    if token in GENDER:
        mask |= 1 << COVERAGE.index("gender")
    slot = slot_of(token)
    if slot in COVERAGE:
        mask |= 1 << COVERAGE.index(slot)
    if any(part in LEXICON["colour"] for part in parts):
        mask |= 1 << COVERAGE.index("colour")
    return mask
