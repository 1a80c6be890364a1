"""The words of person descriptions: things, how they look, and what joins the two."""

import os
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

KINDS = ("things", "looks", "patterns", "nouns", "no", "and", "is", "with", "which", "back", "verbs", "fillers")
"""Sections of a lexicon file."""
DEFAULT = Path(__file__).with_name("lexicon.txt")

_TOKENS = re.compile(r"[^\W_]+|[.,;:!?()&]")
_POSSESSIVE = re.compile(r"['\u2019]s?\b")
# Captions that were tokenised before have "does n't" or "doesn 't".
_NOT = re.compile(r"\b(is|are|was|were|do|does|did|has|have|had) ?n ?['\u2019] ?t\b")
_MARKS = {**dict.fromkeys(".;!?", "end"), **dict.fromkeys(",&", "and"), "(": "with", ")": "close", ":": "colon"}

Item = tuple[str, str]
"""Kind and name: one of :data:`KINDS`, ``end``, ``close``, ``colon``, or ``unknown`` with the word as its name."""


class Lexicon:
    """Phrases by name and kind.

    A file has sections, :data:`KINDS` in brackets, of lines ``name`` or ``name: phrase, phrase, ...``; ``#`` starts a
    remark. The one that ships with the package says what each section means. Things and looks are what captions are
    compared by; the others are how English joins them. ``sneakers < shoes: trainers`` says that sneakers are shoes too.

    A phrase that is a look and a thing in a row, as 'short sleeved shirt', is read as these two, and the thing gets its
    name afterwards. So words between them, and their order, do not matter.

    Args:
        names: Kind and name of each phrase, as written.
        broader: The broader kind of things that have one, by name; without cycles.

    Raises:
        ValueError: A phrase without words.

    Attributes:
        renamed: What a thing is with a look, by thing and look.
        kinds: A thing's name and those of its broader kinds, by name.
    """

    def __init__(self, names: Mapping[str, Item], broader: Mapping[str, str]) -> None:
        known: dict[tuple[str, ...], Item] = {}
        for phrase, item in names.items():
            words = tuple(words_of(phrase))
            if not words:
                raise ValueError(f"the phrase {phrase!r} has no words")
            known[words] = item
        self.kinds = {name: _chain(name, broader) for kind, name in names.values() if kind == "things"}
        self.renamed: dict[str, dict[str, str]] = {}
        for words, look, thing in _looks_and_things(known):
            name = known.pop(words)[1]
            # 'Leather loafers' are leather shoes and no more.
            for called in (thing, name):
                self.renamed.setdefault(called, {}).setdefault(look, name)
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
        broader: dict[str, str] = {}
        seen: dict[tuple[str, ...], int] = {}
        kind = ""
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
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
            place = f"{path}, line {number}"
            line, name, wider = _split_kind(kind, line, place)
            if wider:
                broader[name] = wider
            for phrase, item in _entries(kind, line, place):
                words = tuple(words_of(phrase))
                if words in seen:
                    raise ValueError(
                        f"{path}, line {number}: {phrase!r} stands in line {seen[words]} already; "
                        "a phrase has one meaning: take one of them out."
                    )
                seen[words] = number
                names[phrase] = item
        _check_names(names, broader, lambda phrase: f"{path}, line {seen[tuple(words_of(phrase))]}")
        return cls(names, broader)

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


def _chain(name: str, broader: Mapping[str, str]) -> tuple[str, ...]:
    names = [name]
    while names[-1] in broader:
        names.append(broader[names[-1]])
    return tuple(names)


def _looks_and_things(known: Mapping[tuple[str, ...], Item]) -> list[tuple[tuple[str, ...], str, str]]:
    """Phrases of things that are a look's phrase and a thing's phrase in a row, with the names of both."""
    found = []
    for words, (kind, _) in known.items():
        for cut in range(1, len(words)) if kind == "things" else ():
            look, thing = known.get(words[:cut], ("", "")), known.get(words[cut:], ("", ""))
            if look[0] in ("looks", "patterns") and thing[0] == "things":
                found.append((words, look[1], thing[1]))
                break
    return found


def _split_kind(kind: str, line: str, place: str) -> tuple[str, str, str]:
    """The line without its broader kind, its name, and the broader kind or ''."""
    head, colon, rest = line.partition(":")
    name, less, wider = (part.strip().lower() for part in head.partition("<"))
    if (less and (kind != "things" or not wider)) or "<" in rest:
        raise ValueError(
            f"{place}: {line!r} has a '<' that means nothing. In [things], `name < broader kind: phrase, ...` says "
            "that a thing is one of a broader kind as well; take it out elsewhere."
        )
    return name + colon + rest, name, wider


def _check_names(names: Mapping[str, Item], broader: Mapping[str, str], place: Callable[[str], str]) -> None:
    """Names that lines refer to must be there, no thing may be a kind of itself, and a look makes one thing of one."""
    things, looks = ({name for kind, name in names.values() if kind == wanted} for wanted in ("things", "looks"))
    for phrase, (kind, name) in names.items():
        if kind == "patterns" and name not in looks:
            raise ValueError(
                f"{place(phrase)}: {name!r} has patterns but is no look. A line of [patterns] starts with the name of "
                "a line in [looks]; add one there."
            )
    for name, wider in broader.items():
        if wider not in things:
            raise ValueError(
                f"{place(name)}: {name!r} is a kind of {wider!r}, which is no thing. A broader kind is the name of a "
                "line in [things], no synonym; take one of these, or add it."
            )
        above = wider
        for _ in broader:
            if above == name:
                raise ValueError(
                    f"{place(name)}: {name!r} is a kind of {wider!r}, which is one of {name!r}. Kinds must not go in a "
                    "circle; take a '<' out."
                )
            above = broader.get(above, "")
    known = {tuple(words_of(phrase)): item for phrase, item in names.items()}
    made: dict[tuple[str, str], str] = {}
    for words, look, thing in _looks_and_things(known):
        phrase, name = " ".join(words), known[words][1]
        first = made.setdefault((look, thing), name)
        if name != first:
            raise ValueError(
                f"{place(phrase)}: {phrase!r} is {name!r}, but {thing!r} that is {look!r} is {first!r} by a line "
                "before; they are one: put both into one line."
            )


def _entries(kind: str, line: str, place: str) -> list[tuple[str, Item]]:
    name, colon, rest = line.partition(":")
    name = name.strip().lower()
    phrases = [name, *(part.strip().lower() for part in rest.split(","))] if colon else [name]
    for phrase in phrases:
        if not words_of(phrase) or any(token in _MARKS for token in words_of(phrase)):
            raise ValueError(
                f"{place}: {phrase!r} is no phrase. A line is a name, or `name: phrase, phrase, ...`, in plain words."
            )
    own = phrases[1:] if kind == "patterns" and colon else phrases  # there the name refers to a look
    return [(phrase, (kind, name)) for phrase in own]


def words_of(text: str) -> list[str]:
    """Words and marks in lower case; hyphens part words, and ``'s`` is dropped.

    >>> words_of("A man's T-shirt, off-white.")
    ['a', 'man', 't', 'shirt', ',', 'off', 'white', '.']
    """
    text = text.lower()
    if "'" in text or "\u2019" in text:
        text = _POSSESSIVE.sub("", _NOT.sub(r"\1nt", text))
    return _TOKENS.findall(text)


@lru_cache(maxsize=2**16)
def singular(word: str) -> str:
    """An English noun without the ending of its plural, by rule: ``shoes`` to ``shoe``, ``watches`` to ``watch``."""
    if len(word) < 4 or not word.endswith("s") or word.endswith("ss"):
        return word
    return word[:-2] if word.endswith(("sses", "ches", "shes", "xes")) else word[:-1]
