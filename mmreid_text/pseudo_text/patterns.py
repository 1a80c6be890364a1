"""Sentence patterns of pseudo texts: a grammar deals attributes out to sentence frames, by seed.

A frame holds literal words and marks:

=======  ============================================================================
``{A}``  the person, first mention ("a young man")
``{S}``  the person again: "he", or "the person"
``{is}`` agrees with that
``{V}``  attributes as verb phrases (wears a red coat), that agree with ``{S}`` behind it
``{F}``  the same in the simple present, for behind "also"
``{G}``  as participles (wearing a red coat)
``{W}``  as prepositional phrases (in a red coat)
``{N}``  clothes alone (a red coat and blue jeans)
=======  ============================================================================

A mark takes one attribute or several. In a caption those whose attribute is empty are dropped, so every mark holds one
that everybody has; only a later sentence may be made of optional attributes alone, and goes when all are empty. So a
pattern is whole whatever optional attributes are dropped. Whether it is without a required one, such as the lower
clothes of somebody in a dress, :meth:`Pattern.fits` tells.
"""

import itertools
import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from mmreid_text.captioning.template_grammar import pattern_key
from mmreid_text.pseudo_text.vocabulary import OPTIONAL, REQUIRED
from mmreid_text.randomness import uniform_row

#: First sentences.
OPENINGS = (
    "{A} {V}.", "{A} {W} {V}.", "{A}, {G}, {V}.", "{A}, {W}, {V}.", "{A}, who {V}, {V}.", "{A} {G} {V}.",
    "{G}, {A} {V}.", "{W}, {A} {V}.", "{G}, {A} appears in the picture.", "{W}, {A} appears in the picture.",
    "{A} is seen {G}.", "{A} is shown {W}.", "{A} can be seen {G}.", "{A} can be seen {W}, {G}.",
    "{A} appears in the picture, {G}.", "{A} appears in the picture {W}.", "{A} {W} is seen {G}.",
    "There is {A} {G}.", "There is {A} {W}.", "There is {A} {W}, {G}.", "There is {A} who {V}.",
    "There is {A} {W} who {V}.",
    "This is {A} {W}.", "This is {A} who {V}.", "This is {A}, {G}.", "Here is {A} {W}, {G}.", "Here is {A} who {V}.",
    "The picture shows {A} {G}.", "The picture shows {A} {W}.", "The image shows {A} who {V}.",
    "The photo is of {A} {W}.", "The photo is of {A} who {V}.", "The camera has caught {A} {G}.",
    "We see {A} {G}.", "We see {A} {W}, {G}.", "One can see {A} {W}.", "One can see {A} {G}.", "In view is {A} {W}.",
    "In the picture, {A} {V}.", "In this image, {A} is seen {G}.", "It is {A} who {V}.",
)  # fmt: skip
#: Sentences that follow.
LATER = (
    "{S} {V}.", "{S} {V}.", "{S} also {F}.", "In addition, {S} {V}.", "Besides, {S} {V}.", "{S} can be seen {G}.",
    "{S} {is} seen {G}.", "{S} {is} shown {W}.", "{S}, {G}, {V}.", "{G}, {S} {V}.", "{W}, {S} {V}.", "{S}, {W}, {V}.",
    "The outfit consists of {N}.", "The outfit includes {N}.", "What is worn is {N}.",
)  # fmt: skip
SUBJECTS = ("{he}", "{he}", "{he}", "the person", "this person", "the pedestrian")
#: Mark -> attribute (``clothes``: upper and lower together) -> forms. ``~`` stands for the phrase, ``a|b`` for the
#: singular and the plural of a verb, ``{his}`` for the possessive.
FORMS: dict[str, dict[str, tuple[str, ...]]] = {
    "V": {
        "clothes": ("wears|wear ~", "is|are wearing ~", "is|are dressed in ~", "has|have ~ on", "is|are clad in ~"),
        "upper": ("wears|wear ~", "is|are wearing ~", "is|are dressed in ~", "has|have ~ on"),
        "lower": ("wears|wear ~", "is|are wearing ~", "has|have ~ on"),
        "action": ("is|are ~",),
        "hair": ("has|have ~", "shows|show ~"),
        "bag": ("carries|carry ~", "is|are carrying ~", "has|have ~ along", "takes|take ~ along"),
        "cellphone": ("holds|hold ~", "is|are using ~", "is|are holding ~", "uses|use ~"),
        "glasses": ("wears|wear ~", "is|are wearing ~", "has|have ~ on"),
        "hat": ("wears|wear ~", "is|are wearing ~", "has|have ~ on {his} head"),
        "vehicle": ("has|have ~ at {his} side", "is|are with ~"),
        "gloves": ("wears|wear ~", "is|are wearing ~", "has|have ~ on"),
        "umbrella": ("holds|hold ~", "is|are holding ~", "carries|carry ~"),
        "smoke": ("smokes|smoke ~", "is|are smoking ~", "holds|hold ~"),
    },
    "F": {
        "clothes": ("wears|wear ~",),
        "upper": ("wears|wear ~",),
        "lower": ("wears|wear ~",),
        "hair": ("has|have ~",),
        "bag": ("carries|carry ~", "takes|take ~ along"),
        "cellphone": ("holds|hold ~", "uses|use ~"),
        "glasses": ("wears|wear ~",),
        "hat": ("wears|wear ~",),
        "vehicle": ("has|have ~ at {his} side",),
        "gloves": ("wears|wear ~",),
        "umbrella": ("holds|hold ~", "carries|carry ~"),
        "smoke": ("smokes|smoke ~",),
    },
    "G": {
        "clothes": ("wearing ~", "dressed in ~", "clad in ~", "clothed in ~"),
        "upper": ("wearing ~", "dressed in ~", "clad in ~"),
        "lower": ("wearing ~",),
        "action": ("~",),
        "hair": ("having ~", "showing ~"),
        "bag": ("carrying ~", "taking ~ along"),
        "cellphone": ("holding ~", "using ~"),
        "glasses": ("wearing ~",),
        "hat": ("wearing ~", "wearing ~ on {his} head"),
        "vehicle": ("taking ~ along",),
        "gloves": ("wearing ~",),
        "umbrella": ("holding ~", "carrying ~"),
        "smoke": ("smoking ~",),
    },
    "W": {
        "clothes": ("in ~", "with ~ on"),
        "upper": ("in ~", "with ~ on"),
        "lower": ("in ~", "with ~ on"),
        "hair": ("with ~",),
        "bag": ("with ~",),
        "cellphone": ("with ~ in {his} hand", "with ~"),
        "glasses": ("with ~", "with ~ on"),
        "hat": ("in ~", "with ~ on {his} head"),
        "vehicle": ("with ~", "with ~ at {his} side"),
        "gloves": ("with ~ on",),
        "umbrella": ("with ~", "under ~"),
        "smoke": ("with ~ in {his} hand",),
    },
    "N": {"clothes": ("~",), "upper": ("~",), "lower": ("~",)},
}
_JOINED = ("~ and ~", "~ and ~", "~ with ~", "~ together with ~", "~ along with ~")
_JOINED_NOUNS = ("~ and ~",)
#: Chance that a pattern names an attribute; gender and upper it always names.
_NAMED = {"age": 0.6, "lower": 0.9, "action": 0.45, "hair": 0.55}
_NAMED_OPTIONAL = 0.7
_MOST_IN_MARK = 4
_BOTH = re.compile("~.*~")
_MARK = re.compile(r"\{[VFGWN]\}")
_VERB = re.compile(r"(\w+)\|(\w+) ")
_NUM_DRAWS = 96  # 14 attributes take 75 at most
_IN_VAIN = 500
"""Draws in a row without a new pattern after which there are no more; about one in fifteen is one at first."""
Option = TypeVar("Option")


@dataclass(frozen=True)
class Unit:
    """A part of a sentence that stands or falls with its attributes.

    Attributes:
        slots: One attribute, or the two clothes, first the upper.
        form: One of :data:`FORMS`, with a ``~`` for each.
    """

    slots: tuple[str, ...]
    form: str

    @property
    def always(self) -> bool:
        """Whether its attributes are required ones."""
        return not set(self.slots) & set(OPTIONAL)

    def left(self, filled: Set[str]) -> "Unit | None":
        """What can be told where these attributes are not empty: all of it, of two clothes the upper, or nothing."""
        if all(slot in filled for slot in self.slots):
            return self
        if len(self.slots) == 2 and self.slots[0] in filled:
            return Unit(self.slots[:1], _BOTH.sub("~", self.form))
        return None


@dataclass(frozen=True)
class Sentence:
    """A frame and the units of each of its marks, in their order."""

    frame: str
    marks: tuple[tuple[Unit, ...], ...]
    subject: str = ""


@dataclass(frozen=True)
class Pattern:
    """A caption's sentences.

    Attributes:
        sentences: The first one introduces the person.
        age: Whether the age is told.
    """

    sentences: tuple[Sentence, ...]
    age: bool

    def __str__(self) -> str:
        """The pattern with its attributes in brackets, of a man.

        >>> print(compose_patterns(1, 0, ("gender", "upper", "lower"))[0])
        The picture shows [gender] wearing [lower] and dressed in [upper].
        """
        told = {slot: f"[{slot}]" for slot in ("gender", "age", "upper", "lower", "action", "hair", *OPTIONAL)}
        person = "[age] [gender]" if self.age else "[gender]"
        written = [render(each, set(told), ("he", "his")) for each in self.sentences]
        return " ".join(capital(text.format(A=person, **told)) for text in written if text)

    def fits(self, empty: Set[str]) -> bool:
        """Whether it is whole, and loses no sentence, where these required attributes are not told."""
        filled = set(REQUIRED).difference(empty)
        marks = (units for sentence in self.sentences for units in sentence.marks)
        return all(any(unit.left(filled) for unit in units) for units in marks if any(unit.always for unit in units))


def render(sentence: Sentence, filled: Set[str], pronouns: tuple[str, str]) -> str | None:
    """A sentence, small at its start, with ``{A}`` and ``{<slot>}`` left open, without units that are not ``filled``.

    Args:
        sentence: The sentence.
        filled: Attributes that are not empty.
        pronouns: Subject and possessive.

    Returns:
        None where nothing is left of it.
    """
    subject = sentence.subject.replace("{he}", pronouns[0])
    plural = subject == "they"
    lists = []
    for units in sentence.marks:
        kept = [left for unit in units if (left := unit.left(filled)) is not None]
        if not kept:
            return None
        lists.append(_enumerated([_worded(unit, plural, pronouns[1]) for unit in kept]))
    text = sentence.frame.replace("{S}", subject).replace("{is}", "are" if plural else "is")
    waiting = iter(lists)
    return _MARK.sub(lambda _: next(waiting), text)


@lru_cache(maxsize=8)
def compose_patterns(count: int, seed: int, slots: tuple[str, ...]) -> tuple[Pattern, ...]:
    """Patterns, distinct by words and slots; more of them continue the same sequence.

    Args:
        count: How many.
        seed: Seed of the sequence.
        slots: The attributes there are, such as ``Vocabulary.slots``.

    Raises:
        ValueError: ``count`` is below 1, or more than the grammar gives.
    """
    if count < 1:
        raise ValueError(f"templates={count} must be at least 1.")
    patterns: dict[str, Pattern] = {}
    last = 0
    for row in itertools.count():
        pattern = _Dealer(uniform_row(seed, 0, row, "pseudo_text/pattern", _NUM_DRAWS)).pattern(slots)
        if pattern is not None and (key := pattern_key(str(pattern))) not in patterns:
            patterns[key], last = pattern, row
        if len(patterns) == count:
            return tuple(patterns.values())
        if row - last == _IN_VAIN:
            break
    raise ValueError(
        f"templates={count:,} is more than the {len(patterns):,} patterns found for the attributes {', '.join(slots)}."
    )


class _Dealer:
    """Deals one pattern out by uniform numbers."""

    def __init__(self, numbers: Sequence[float]) -> None:
        self._numbers = iter(numbers)

    def pattern(self, slots: Sequence[str]) -> Pattern | None:
        """A pattern of these attributes, None where the deal fits no frames."""
        named = [slot for slot in slots if next(self._numbers) < _NAMED.get(slot, _chance(slot))]
        age = "age" in named
        units = self._units([slot for slot in named if slot not in ("gender", "age")])
        length = 1 + (next(self._numbers) < 0.6) + (next(self._numbers) < 0.3)
        frames = [self._pick(OPENINGS), *(self._pick(LATER) for _ in range(length - 1))]
        if len(set(frames)) < length:
            return None
        places = [(i, mark[1]) for i, frame in enumerate(frames) for mark in _MARK.findall(frame)]
        dealt: list[list[Unit]] = [[] for _ in places]
        for slots_of in units:
            kinds = [i for i, (_, mark) in enumerate(places) if _key(slots_of) in FORMS[mark]]
            if not kinds:
                return None
            place = self._pick(kinds)
            dealt[place].append(Unit(slots_of, self._form(places[place][1], slots_of)))
        sentences, at = [], 0
        for i, frame in enumerate(frames):
            size = len(_MARK.findall(frame))
            marks = tuple(map(tuple, dealt[at : at + size]))
            at += size
            if not _fits(marks, first=i == 0):
                return None
            sentences.append(Sentence(frame, marks, self._pick(SUBJECTS) if "{S}" in frame else ""))
        return Pattern(tuple(sentences), age)

    def _units(self, named: Sequence[str]) -> list[tuple[str, ...]]:
        """Attributes in random order, the clothes joined at times."""
        units: list[tuple[str, ...]] = [(slot,) for slot in named]
        if "lower" in named and next(self._numbers) < 0.65:
            units = [(slot,) for slot in named if slot not in ("upper", "lower")] + [("upper", "lower")]
        return [unit for _, unit in sorted((next(self._numbers), unit) for unit in units)]

    def _form(self, mark: str, slots: tuple[str, ...]) -> str:
        form = self._pick(FORMS[mark][_key(slots)])
        if len(slots) == 2:
            form = form.replace("~", self._pick(_JOINED_NOUNS if mark == "N" else _JOINED))
        return form

    def _pick(self, options: Sequence[Option]) -> Option:
        return options[int(next(self._numbers) * len(options))]


def _chance(slot: str) -> float:
    return _NAMED_OPTIONAL if slot in OPTIONAL else 1.0


def _key(slots: tuple[str, ...]) -> str:
    return slots[0] if len(slots) == 1 else "clothes"


def _fits(marks: Sequence[Sequence[Unit]], first: bool) -> bool:
    if any(not units or len(units) > _MOST_IN_MARK for units in marks):
        return False
    always = [any(unit.always for unit in units) for units in marks]
    return all(always) or (not first and len(marks) == 1)


def _worded(unit: Unit, plural: bool, possessive: str) -> str:
    verb = _VERB.match(unit.form)
    text = unit.form if verb is None else f"{verb[2 if plural else 1]} {unit.form[verb.end() :]}"
    for slot in unit.slots:
        text = text.replace("~", f"{{{slot}}}", 1)
    return text.replace("{his}", possessive)


def _enumerated(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else ", ".join(texts[:-1]) + f" and {texts[-1]}"


def capital(text: str) -> str:
    """A sentence with its first letter in upper case."""
    return text[:1].upper() + text[1:]
