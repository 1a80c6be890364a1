"""Grammar of procedural captions: turns stated attributes and a style into a sentence with known words.

A caption is planned as *units* (hair, hat, upper, lower, shoes, bag, or a group of worn things that share a verb),
which are dealt out to sentence frames of the style. Templates hold literal words and ``{slots}``:

====================  ===========================================================================
``{A}``, ``{T}``      the person, first mention                   (a woman, the woman)
``{P}``, ``{his}``    pronoun and possessive, if the sex is stated (she, her; else the person, the)
``{V}``, ``{V*}``     next unit, or all units left, as verb phrase (wears a red coat)
``{G}``, ``{G*}``     the same as participle                       (wearing a red coat)
``{W}``, ``{W*}``     the same as prepositional phrase             (in a red coat)
``{C}``, ``{C*}``     the same as clause of its own                (the coat is red)
``{N}``, ``{N*}``     the same as noun phrase                      (a red coat)
``{color}`` ...       in a noun phrase: the item's colour, kind or pattern; falls away where it is not stated
``{color!}`` ...      the same, and the template serves only where it is stated
====================  ===========================================================================
"""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mmreid_text.procedural.attributes import ATTRIBUTES, INDEX, NAMES
from mmreid_text.procedural.lexicon import BAG_PLACE, BAG_VERB, LEXICON, OWN_WORDS
from mmreid_text.randomness import Draws

_PRONOUNS = {"{P}": ("he", "she"), "{his}": ("his", "her"), "{him}": ("him", "her")}
#: What an item is called when its kind is not stated.
_GENERIC = {"upper": "top", "lower": "bottoms", "shoes": "shoes", "hat": "hat", "bag": "bag"}
_SLOT = re.compile(r"(\{[^}]*\})")
_CLOSING = (",", ".", ";", ":", "!", "?", ")", "'")


class Piece(NamedTuple):
    """A run of text and the column of the attribute that it states, -1 for none."""

    text: str
    attribute: int = -1


@dataclass(frozen=True)
class Style:
    """How one author writes.

    Attributes:
        name: Of the style.
        a_person: First mentions with an indefinite article, ``{sex}`` stands for the noun.
        the_person: First mentions with a definite one.
        frames: Sentences that can open a caption; the slots say how many units each takes.
        later: Sentences that can follow.
        forms: Form letter -> kind of unit -> templates; kind "worn" serves hat, upper, lower, shoes and groups.
        nouns: Item -> noun phrases; ``{color}``, ``{kind}`` and ``{pattern}`` fall away where they are not stated.
        orders: Orders in which units come.
        pairs: Joins of two worn things in a group.
        lists: Joins before the last of several things.
        clauses: Joins before the last of several verb or prepositional phrases.
        units: Chances of 1, 2, 3, ... units in a sentence.
        group: Chance that neighbouring worn things share a verb.
        together: Most things in a group.
        mention: Attribute or item -> chance of mention, if visible.
        habit: Which phrase of a value the style prefers (its place in the lexicon), and how often.
        neutral: Nouns for a person of unstated sex.
        pair_of: Chance of "a pair of" before plural clothes.
        capital: Whether sentences begin with a capital letter.
    """

    name: str
    frames: tuple[str, ...]
    forms: dict[str, dict[str, tuple[str, ...]]]
    nouns: dict[str, tuple[str, ...]]
    later: tuple[str, ...] = ()
    a_person: tuple[str, ...] = ("{a} {sex}",)
    the_person: tuple[str, ...] = ("the {sex}",)
    orders: tuple[tuple[str, ...], ...] = (("hair", "hat", "upper", "lower", "shoes", "bag"),)
    pairs: tuple[str, ...] = ("and",)
    lists: tuple[str, ...] = (", and", "and")
    clauses: tuple[str, ...] = (", and", "and")
    units: tuple[float, ...] = (0.0, 0.4, 0.4, 0.2)
    group: float = 0.7
    together: int = 3
    mention: dict[str, float] = field(default_factory=dict)
    habit: tuple[int, float] = (0, 0.5)
    neutral: tuple[str, ...] = ("person",)
    pair_of: float = 0.25
    capital: bool = True


Unit = tuple[str, ...]  # items that share a verb


@functools.lru_cache(maxsize=4096)
def _parse(template: str) -> tuple[str, ...]:
    """Literal runs and ``{slots}`` in order, without the marks of what must be stated."""
    return tuple(part for part in _SLOT.split(template.replace("!}", "}")) if part.strip())


@functools.lru_cache(maxsize=4096)
def _needs(template: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\{(\w+)!\}", template))


@functools.lru_cache(maxsize=4096)
def _slots(frame: str) -> tuple[int, bool]:
    """How many units a frame needs at least, and whether it takes more."""
    slots = [part for part in _parse(frame) if re.fullmatch(r"\{[VGWCN]\*?\}", part)]
    return len(slots), any(slot.endswith("*}") for slot in slots)


@functools.lru_cache(maxsize=1024)
def _fitting(frames: tuple[str, ...], count: int) -> tuple[str, ...]:
    fits = [f for f in frames if _slots(f)[0] == count or (_slots(f)[0] < count and _slots(f)[1])]
    return tuple(fits)


class Writer:
    """Writes one caption.

    Args:
        style: The author.
        stated: A codes that the caption states, -1 where it is silent.
        draws: The caption's random numbers.
    """

    def __init__(self, style: Style, stated: Sequence[int], draws: Draws) -> None:
        self.style, self.draws = style, draws
        self.value = {name: ATTRIBUTES[name][stated[i]] if stated[i] >= 0 else "" for i, name in enumerate(NAMES)}
        self.plural = False  # the noun phrase written last
        self.pieces: list[Piece] = []

    def write(self, units: list[Unit]) -> list[Piece]:
        """Deal the units out to sentences."""
        rest = list(units)
        frames = self.style.frames
        while rest or not self.pieces:
            count = self._count(len(rest), frames)
            self._expand(self.draws.pick(_fitting(frames, count)), rest[:count])
            rest = rest[count:]
            frames = self.style.later or self.style.frames
        return self.pieces

    def _count(self, left: int, frames: tuple[str, ...]) -> int:
        draw, limit = self.draws(), len(self.style.units)
        for count, chance in enumerate(self.style.units, 1):
            draw -= chance
            if draw < 0:
                limit = count
                break
        count = min(left, limit)
        while not _fitting(frames, count) and count < left:
            count += 1
        while not _fitting(frames, count) and count > 0:
            count -= 1
        return count

    # ---- templates ------------------------------------------------------------------------------------------------
    def _expand(self, template: str, units: list[Unit]) -> None:
        queue = list(units)
        singles = _slots(template)[0]
        for part in _parse(template):
            if part[0] != "{":
                self.pieces.append(Piece(part))
            elif part in ("{A}", "{T}"):
                self._words(self.draws.pick(self.style.a_person if part == "{A}" else self.style.the_person), "")
            elif part[1] in "VGWCN" and (len(part) == 3 or part[2] == "*"):
                take = len(queue) - singles + 1 if part[2] == "*" else 1
                self._form(part[1], queue[:take])
                queue, singles = queue[take:], singles - 1
            else:
                self._part(part, "")

    def _form(self, form: str, units: list[Unit]) -> None:
        joins = self.style.lists if form == "N" else self.style.clauses
        for i, unit in enumerate(units):
            if i:
                last = i == len(units) - 1
                self.pieces.append(Piece(self.draws.pick(joins) if last else ","))
            self._unit(form, unit)

    def _unit(self, form: str, unit: Unit) -> None:
        if form == "N":
            self._things(unit)
            return
        kinds = self.style.forms[form]
        kind = "group" if len(unit) > 1 else unit[0]
        if kind in ("hat", "bag") and self.value[kind] == "none":
            kind = f"no {kind}"
        if kind == "hair" and self.value["hair_style"] == "bald":
            kind = "bald"
        templates = kinds.get(kind) or kinds["worn"]
        for part in _parse(self._choose(templates, unit[0])):
            if part == "{N}":
                self._things(unit)
            else:
                self._part(part, unit[0])

    def _choose(self, templates: Sequence[str], item: str) -> str:
        """One of the templates whose needs are stated."""
        return self.draws.pick([t for t in templates if all(self.value[_name(item, n)] for n in _needs(t))])

    def _things(self, unit: Unit) -> None:
        for i, item in enumerate(unit):
            if i == len(unit) - 1 and i:
                self.pieces.append(Piece(self.draws.pick(self.style.pairs if len(unit) == 2 else self.style.lists)))
            elif i:
                self.pieces.append(Piece(","))
            self._noun(item)
        self.plural = self.plural or len(unit) > 1

    def _noun(self, item: str) -> None:
        """The noun phrase of one item; sets ``self.plural``."""
        value = self.value[_name(item, "kind")]
        self.plural = False
        if item in ("hat", "bag") and value == "none":
            self._attribute(item)
            return
        shape = item
        if item == "hair" and value in ("ponytail", "bun", "bald"):
            shape = value
        self._words(self._choose(self.style.nouns[shape], item), item)
        if item == "upper" and self.value["inner"]:
            self._words(self.draws.pick(self.style.nouns["inner"]), "inner")

    def _words(self, template: str, item: str) -> None:
        for part in _parse(template):
            self._part(part, item)

    def _part(self, part: str, item: str) -> None:
        """One literal or slot of a noun phrase or unit template."""
        name = _name(item, part[1:-1])
        if part[0] != "{":
            self.pieces.append(Piece(part))
        elif part == "{sex}":
            if self.value["sex"]:
                self._attribute("sex")
            else:
                self.pieces.append(Piece(self.draws.pick(self.style.neutral)))
        elif part == "{a}":
            self._article(item)
        elif part == "{is}":
            self.pieces.append(Piece("are" if self.plural else "is"))
        elif part == "{with pattern}":
            if self.value["upper_pattern"]:
                self._words("with {a} {pattern} design", "upper")
        elif part == "{kind}" and item != "hair" and not self.value[item]:
            self.plural = item in ("lower", "shoes")
            self.pieces.append(Piece(_GENERIC[item]))
        elif name in ATTRIBUTES:
            if self.value[name]:
                self._attribute(name)
        else:
            self._pronoun(part)

    def _article(self, item: str) -> None:
        if item == "shoes" or (item == "lower" and self.value["lower"] not in ("skirt", "long skirt")):
            if self.draws() < self.style.pair_of:
                self.pieces.append(Piece("a pair of"))
        else:
            self.pieces.append(Piece("~a"))

    def _attribute(self, name: str) -> None:
        """Say the value of an attribute."""
        key = (name, self.value[name])
        phrases, (place, share) = LEXICON[key], self.style.habit
        draw = self.draws()
        own = OWN_WORDS.get(self.style.name, {}).get(key)
        if self.style.name == "web":
            phrases = phrases + tuple(p for words in OWN_WORDS.values() for p in words.get(key, ()))
        if own and draw > 0.85:
            phrase, plural = own[0]
        elif draw < share:
            phrase, plural = phrases[place % len(phrases)]
        else:
            phrase, plural = phrases[int(self.draws() * len(phrases))]
        if name in ("lower", "shoes", "hat", "bag", "upper"):
            self.plural = plural
        self.pieces.append(Piece(phrase, INDEX[name]))

    def _pronoun(self, part: str) -> None:
        """Pronouns and what depends on the stated bag."""
        sex, bag = self.value["sex"], self.value["bag"]
        if part in _PRONOUNS:
            if sex:
                self.pieces.append(Piece(_PRONOUNS[part][sex == "woman"], INDEX["sex"]))
            else:
                self.pieces.append(Piece("the" if part == "{his}" else f"the {self.style.neutral[0]}"))
        elif part in ("{carries}", "{carrying}"):
            verbs = BAG_VERB.get(bag, ("carries", "carrying"))
            self.pieces.append(Piece(verbs[part == "{carrying}"]))
        elif part == "{place}":
            self._words(BAG_PLACE.get(bag, "with {him}"), "")
        else:
            raise ValueError(f"style {self.style.name!r}: unknown slot {part}")


def _name(item: str, slot: str) -> str:
    """The attribute that a slot of an item's template stands for."""
    if slot == "color":
        return "inner" if item == "inner" else f"{item}_color"
    if slot == "kind":
        return "hair_style" if item == "hair" else item
    return "upper_pattern" if slot == "pattern" else slot


def join(pieces: Sequence[Piece], capital: bool) -> tuple[str, list[tuple[int, int, int]]]:
    """Put pieces together: single spaces, articles and capital letters.

    Returns:
        The text and the spans (start, end, attribute column) of its attribute words.
    """
    text, spans = "", []
    for place, (piece, attribute) in enumerate(pieces):
        words = piece.strip()
        if not words:
            continue
        if words == "~a":
            following = next((p.text.strip() for p in pieces[place + 1 :] if p.text.strip()), "")
            words = "an" if following[:1].lower() in "aeiou" else "a"
        if text.endswith(",") and words[0] in ",.;:":  # an apposition that closes with its clause
            text = text[:-1]
        if text and not words.startswith(_CLOSING) and text[-1] != "(":
            text += " "
        if capital and (not text or text[-2:] in (". ", "! ", "? ")):
            words = words[0].upper() + words[1:]
        if attribute >= 0:
            spans.append((len(text), len(text) + len(words), attribute))
        text += words
    return text, spans
