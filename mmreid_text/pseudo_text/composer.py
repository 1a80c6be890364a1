"""Sentences from attributes: UniPT's third step, Combine (Shao et al., ICCV 2023, section 3.1)."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from mmreid_text.pseudo_text.patterns import Pattern, capital, compose_patterns, render
from mmreid_text.pseudo_text.vocabulary import REQUIRED, Vocabulary, with_article
from mmreid_text.randomness import uniform

_Parts = tuple[str, tuple[int, ...]]
"""A sentence with ``%s`` for its phrases, and which these are: columns of attributes, -1 for the person."""
_MOST_RENDERED = 65_536


class Composer:
    """Writes a sentence or more about each image from the classes of its attributes.

    A pattern and, for each attribute, one of the ways to say its class are drawn by hash of seed, image and number of
    the caption: the same whatever the order, the process or the other images. What has no class is not spoken of, an
    attribute is spoken of once at most, and pronouns follow the gender. An image without a class of a required
    attribute gets one of the patterns that do without it.

    Args:
        vocabulary: Attributes and their phrases.
        templates: How many patterns there are, the paper's 456 by default.
        seed: Seed of the patterns and of the draws.

    Raises:
        ValueError: There are not so many patterns, or none does without what the vocabulary silences.

    >>> composer = Composer(load_vocabulary(), 456, seed=0)  # doctest: +SKIP
    >>> composer.write(np.array([[0, 1, 12, 3, 0, -1, -1, -1, -1, -1, -1, -1, -1, -1]]), ["a.jpg"])  # doctest: +SKIP
    (['A middle-aged man is walking ...'], [17])
    """

    def __init__(self, vocabulary: Vocabulary, templates: int = 456, seed: int = 0) -> None:
        self.vocabulary, self.seed = vocabulary, seed
        self.patterns: tuple[Pattern, ...] = compose_patterns(templates, seed, vocabulary.slots)
        self._said = [[each.said for each in attribute.classes] for attribute in vocabulary.attributes]
        self._pronouns = [vocabulary.pronouns[each.name] for each in vocabulary.attributes[0].classes]
        self._column = {slot: column for column, slot in enumerate(vocabulary.slots)}
        self._named = [_named(pattern, vocabulary.slots) for pattern in self.patterns]
        self._rendered = lru_cache(_MOST_RENDERED)(self._render)
        self._required = [column for column, slot in enumerate(vocabulary.slots) if slot in REQUIRED]
        self._fitting = lru_cache(None)(self._find_fitting)
        silent = np.logical_or.reduce([silenced.any(axis=0) for silenced in vocabulary.silenced])
        self._fitting(tuple(silent[self._required].tolist()))

    def write(self, chosen: np.ndarray, images: Sequence[str], number: int = 0) -> tuple[list[str], list[int]]:
        """Captions of images.

        Args:
            chosen: int (B, A), the class of each attribute in the vocabulary's order, -1 for none; gender and upper
                have one.
            images: B names.
            number: Which of an image's captions: each has draws of its own.

        Returns:
            B captions, and the positions of their patterns in :attr:`patterns`.
        """
        draws = uniform(self.seed, number, image_ids(images), "pseudo_text", 1 + chosen.shape[1]).tolist()
        texts, numbers = [], []
        missing = map(tuple, (chosen[:, self._required] < 0).tolist())
        for classes, empty, (first, *lots) in zip(chosen.tolist(), missing, draws):
            fitting = self._fitting(empty)
            pattern = fitting[int(first * len(fitting))]
            phrases = [
                "" if which < 0 else said[which][int(lot * len(said[which]))]
                for said, which, lot in zip(self._said, classes, lots)
            ]
            texts.append(self._write(pattern, classes, phrases))
            numbers.append(pattern)
        return texts, numbers

    def _write(self, pattern: int, classes: Sequence[int], phrases: list[str]) -> str:
        mask = 0
        for column in self._named[pattern]:
            mask |= (classes[column] >= 0) << column
        parts = self._rendered(pattern, mask, self._pronouns[classes[0]])
        told = self.patterns[pattern].age and "age" in self._column and phrases[self._column["age"]]
        person = with_article(f"{told} {phrases[0]}" if told else phrases[0])
        phrases.append(person)  # at -1
        return " ".join(capital(text % tuple([phrases[column] for column in columns])) for text, columns in parts)

    def _find_fitting(self, empty: Sequence[bool]) -> Sequence[int]:
        """Positions of the patterns that do without these of the required attributes."""
        slots = {self.vocabulary.slots[column] for column, is_empty in zip(self._required, empty) if is_empty}
        fitting = [i for i, pattern in enumerate(self.patterns) if pattern.fits(slots)]
        if not fitting:
            raise ValueError(
                f"templates={len(self.patterns)} gives no pattern that does without {', '.join(sorted(slots))}, which "
                "the vocabulary silences beside some classes: take more templates."
            )
        return fitting

    def _render(self, pattern: int, mask: int, pronouns: tuple[str, str]) -> Sequence[_Parts]:
        filled = {slot for slot, column in self._column.items() if mask >> column & 1}
        texts = (render(sentence, filled, pronouns) for sentence in self.patterns[pattern].sentences)
        return [_open(text, self._column) for text in texts if text is not None]


def image_ids(images: Sequence[str]) -> np.ndarray:
    """int64 (B,): hashes of image names, on which their draws depend."""
    names = (image.encode("utf-8", "surrogateescape") for image in images)
    digests = b"".join(hashlib.blake2b(name, digest_size=8).digest() for name in names)
    return np.frombuffer(digests, dtype="<i8").astype(np.int64)


def _named(pattern: Pattern, slots: Sequence[str]) -> list[int]:
    units = (unit for sentence in pattern.sentences for units in sentence.marks for unit in units)
    return sorted({slots.index(slot) for unit in units for slot in unit.slots})


def _open(text: str, column: dict[str, int]) -> _Parts:
    """A sentence of :func:`render` in the form that is filled in fastest."""
    pieces, columns = [], []
    for piece in text.replace("%", "%%").split("{"):
        name, brace, rest = piece.partition("}")
        if brace:
            columns.append(-1 if name == "A" else column[name])
            pieces.append(f"%s{rest}")
        else:
            pieces.append(piece)
    return "".join(pieces), tuple(columns)
