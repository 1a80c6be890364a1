"""The words of person descriptions: things, how they look, and what joins the two."""

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

KINDS = ("things", "looks", "no", "and", "is", "with", "fillers")
"""Sections of a lexicon file."""
DEFAULT = Path(__file__).with_name("lexicon.txt")

_TOKENS = re.compile(r"[^\W_]+|[.,;:!?()&]")
_POSSESSIVE = re.compile(r"['\u2019]s?\b")
_MARKS = {**dict.fromkeys(".;:!?", "end"), **dict.fromkeys(",&", "and"), "(": "with", ")": "close"}

Item = tuple[str, str]
"""Kind and name: one of :data:`KINDS`, ``end``, ``close``, or ``unknown`` with the word as its name."""


class Lexicon:
    """Phrases by name and kind.

    A file has sections ``[things]``, ``[looks]``, ``[no]``, ``[and]``, ``[is]``, ``[with]`` and ``[fillers]``, of lines
    ``name`` or ``name: phrase, phrase, ...``; ``#`` starts a remark. The one that ships with the package says what each
    section means. Things and looks are what captions are compared by; the others are how English joins them.

    Args:
        names: Kind and name of each phrase, as written.

    Raises:
        ValueError: A phrase without words.
    """

    def __init__(self, names: Mapping[str, Item]) -> None:
        known: dict[tuple[str, ...], Item] = {}
        for phrase, item in names.items():
            words = tuple(words_of(phrase))
            if not words:
                raise ValueError(f"the phrase {phrase!r} has no words")
            known[words] = item
        # A plural stands for its singular as well, unless that is a phrase itself, as `short` beside `shorts`.
        for words, item in list(known.items()):
            known.setdefault((*words[:-1], singular(words[-1])), item)
        self._by_first: dict[str, list[tuple[tuple[str, ...], Item]]] = {}
        for words, item in sorted(known.items(), key=lambda entry: -len(entry[0])):
            self._by_first.setdefault(words[0], []).append((words, item))

    @classmethod
    def read(cls, path: str | os.PathLike[str] | None = None) -> "Lexicon":
        """Read a lexicon file; None reads the package's own.

        Raises:
            FileNotFoundError: There is none.
            ValueError: Names the file, the line and what is wrong with it.
        """
        path = Path(path or DEFAULT)
        if not path.is_file():
            raise FileNotFoundError(f"Lexicon {path} does not exist; None takes the package's own, {DEFAULT}.")
        names: dict[str, Item] = {}
        seen: dict[tuple[str, ...], int] = {}
        kind = ""
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            line = line.split("#")[0].strip()
            if not line:
                continue
            if line.startswith("["):
                kind = line.strip("[] ")
                if line != f"[{kind}]" or kind not in KINDS:
                    sections = ", ".join(f"[{known}]" for known in KINDS)
                    raise ValueError(f"{path}, line {number}: {line!r} is no section. Sections are {sections}.")
                continue
            if not kind:
                raise ValueError(f"{path}, line {number}: {line!r} stands before any section, such as [things].")
            for phrase, item in _entries(kind, line, f"{path}, line {number}"):
                words = tuple(words_of(phrase))
                if words in seen:
                    raise ValueError(
                        f"{path}, line {number}: {phrase!r} stands in line {seen[words]} already; "
                        "a phrase has one meaning: take one of them out."
                    )
                seen[words] = number
                names[phrase] = item
        return cls(names)

    def items(self, caption: str) -> list[Item]:
        """Phrases, marks and unknown words of a caption in order, the longest phrase first where several match."""
        tokens = words_of(caption)
        found: list[Item] = []
        start, count = 0, len(tokens)
        while start < count:
            token = tokens[start]
            match = self._match(tokens, start)
            if match is not None:
                words, item = match
                found.append(item)
                start += words
            else:
                found.append((_MARKS.get(token, "unknown"), token))
                start += 1
        return found

    def _match(self, tokens: list[str], start: int) -> tuple[int, Item] | None:
        first = tokens[start]
        entries = self._by_first.get(first)
        if entries is not None:
            for words, item in entries:
                size = len(words)
                if size == 1:
                    return 1, item
                part = tokens[start : start + size]
                if len(part) == size and tuple(part[:-1]) == words[:-1] and words[-1] in (part[-1], singular(part[-1])):
                    return size, item
        bare = singular(first)
        if bare != first:
            for words, item in self._by_first.get(bare, ()):
                if len(words) == 1:
                    return 1, item
        return None


def _entries(kind: str, line: str, place: str) -> list[tuple[str, Item]]:
    name, colon, rest = line.partition(":")
    name = name.strip().lower()
    phrases = [name, *(part.strip().lower() for part in rest.split(","))] if colon else [name]
    for phrase in phrases:
        if not words_of(phrase) or any(token in _MARKS for token in words_of(phrase)):
            raise ValueError(
                f"{place}: {phrase!r} is no phrase. A line is a name, or `name: phrase, phrase, ...`, in plain words."
            )
    return [(phrase, (kind, name)) for phrase in phrases]


def words_of(text: str) -> list[str]:
    """Words and marks in lower case; hyphens part words, and ``'s`` is dropped.

    >>> words_of("A man's T-shirt, off-white.")
    ['a', 'man', 't', 'shirt', ',', 'off', 'white', '.']
    """
    return _TOKENS.findall(_POSSESSIVE.sub("", text.lower()))


@lru_cache(maxsize=2**16)
def singular(word: str) -> str:
    """An English noun without the ending of its plural, by rule: ``shoes`` to ``shoe``, ``watches`` to ``watch``."""
    if len(word) < 4 or not word.endswith("s") or word.endswith("ss"):
        return word
    return word[:-2] if word.endswith(("sses", "ches", "shes", "xes")) else word[:-1]
