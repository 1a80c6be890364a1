"""Grammar of sentence patterns: composes templates by order, opening, voice, clause structure and sentence count.

A template is planned as *units*, one slot each or a few worn things that share a verb, which are dealt out to sentence
frames. A frame holds literal words and marks:

==================  =============================================================
``{A}``             the person, first mention             (``[person]``)
``{P}``             the person again                      (the person)
``{V}``, ``{V*}``   next unit, or all that are left, as verb phrase (wears [clothing])
``{G}``, ``{G*}``   the same as participle                (wearing [clothing])
``{W}``, ``{W*}``   the same as prepositional phrase      (in [clothing])
``{C}``, ``{C*}``   the same as clause of its own         (the outfit consists of [clothing])
``{N}``, ``{N*}``   the same as noun phrase               ([clothing])
==================  =============================================================

Nobody knows whether a slot will be filled in singular or plural, so no verb agrees with a slot.
"""

import functools
import re
from collections.abc import Sequence

from mmreid_text.randomness import Draws, uniform_row

#: Sentences that bring the person in; the slots say how many units each takes.
OPENINGS = (
    "{A} {V*}.", "{A}, {G}, {V*}.", "{A} {W} {V*}.", "{A}, who {V}, {V*}.", "{A} {V}; {C*}.",
    "{A} {V}, while {C*}.", "{A}, {W}, {V*}.", "{A} is passing by, {G*}.", "{A}, {G*}, goes along the way.",
    "{G}, {A} {V*}.", "{G*}, {A} passes by.", "{W}, {A} {V*}.", "{W*}, {A} comes into view.",
    "{W}, {A} can be seen {G*}.", "{C}, and {A} {V*}.",
    "There is {A} {G*}.", "There is {A} who {V*}.", "In view is {A} {W}, {G*}.", "On the scene is {A} {W*}.",
    "Somewhere in this picture is {A} {G*}.", "There goes {A} {W*}.",
    "We see {A} {G*}.", "One can make out {A} {W}, {G*}.", "You can see {A} who {V*}.", "The picture shows {A} {G*}.",
    "The camera caught {A} {W*}.", "A glance at {A} reveals {N*}.", "The viewer meets {A} {W}, {G*}.",
    "Whoever looks at {A} will notice {N*}.",
    "Look for {A} {W*}.", "Find {A} who {V*}.", "Imagine {A} {G*}.", "Note {A} {W}, {G*}.", "Keep an eye on {A} {G*}.",
    "Search for {A}, {G*}.",
    "{N} can be seen on {A}, who {V*}.", "{A} can be recognised by {N*}.", "{A} is characterised by {N*}.",
    "What sets {A} apart is {N*}.", "{A} was photographed {G*}.", "{A} is shown {W}, {G*}.",
    "{A} has been spotted {W*}.", "With {A}, attention goes to {N*}.",
    "It is {A} who {V*}.", "The one who {V*} is {A}.", "The one {G*} is {A}.", "Among all, {A} is the one who {V*}.",
    "A view of {A}: {N*}.", "{A}: {N*}.", "{A} - {W*}.", "In brief, {A}, {W*}.", "Features of {A}: {N*}.",
)  # fmt: skip
#: Sentences that bring the person in and nothing else.
BARE_OPENINGS = (
    "This is {A}.", "Here comes {A}.", "Let us turn to {A}.", "The scene belongs to {A}.", "{A} is in the picture.",
    "Someone is passing, namely {A}.",
)  # fmt: skip
#: Sentences that can follow.
LATER = (
    "{P} {V*}.", "{P} also {V*}.", "In addition, {P} {V*}.", "{C*}.", "Also visible: {N*}.", "One also notices {N*}.",
    "The look is completed by {N*}.", "Besides, {C*}.", "{G*}, {P} is easy to find.", "Worth a note: {N*}.",
    "{P} can also be told by {N*}.", "Not to be missed: {N*}.", "As for the rest, {P} {V*}.", "{C}; {P} {V*}.",
    "{P} {V}, and {C*}.", "On closer inspection, {C*}.", "{W}, {P} {V*}.",
    "{P} is also seen {G*}.", "A second look finds {N*}.", "{P}, {G}, {V*}.", "Looking further, you find {N*}.",
)  # fmt: skip
#: Sentences that can come last of several, beside those above.
CLOSING = ("Finally, {P} {V*}.", "To finish, {C*}.", "All this is rounded off by {N*}.", "Last, there is {N*} to see.")
AGAIN = ("the person", "this person", "the pedestrian", "the individual", "that person")
#: Form -> slot -> phrases; ``~`` stands for the slot, or for several worn ones.
FORMS: dict[str, dict[str, tuple[str, ...]]] = {
    "V": {
        "clothing": ("wears ~", "is wearing ~", "is dressed in ~", "has on ~", "is clad in ~", "has put on ~"),
        "footwear": ("walks in ~", "wears ~", "has ~ on the feet", "steps along in ~", "is shod in ~"),
        "hair": ("has ~", "shows ~", "sports ~"),
        "accessory": ("wears ~", "has added ~", "sports ~", "has ~ on", "is adorned with ~"),
        "belongings": ("carries ~", "is carrying ~", "holds ~", "has ~ along", "brings ~ along", "keeps ~ close"),
    },
    "G": {
        "clothing": ("wearing ~", "dressed in ~", "clad in ~", "clothed in ~"),
        "footwear": ("walking in ~", "wearing ~", "stepping along in ~"),
        "hair": ("having ~", "showing ~"),
        "accessory": ("wearing ~", "sporting ~", "adorned with ~"),
        "belongings": ("carrying ~", "holding ~", "bringing ~ along", "keeping ~ close"),
    },
    "W": {
        "clothing": ("in ~", "with ~ on"),
        "footwear": ("in ~", "with ~ on the feet", "with ~ below"),
        "hair": ("with ~",),
        "accessory": ("with ~", "with ~ as an extra"),
        "belongings": ("with ~ in hand", "with ~", "with ~ along"),
    },
    "C": {
        "clothing": ("the outfit consists of ~", "the outfit is made up of ~", "what is worn is ~"),
        "footwear": ("the feet are in ~", "at the bottom one finds ~", "the ground is met by ~"),
        "hair": ("the head shows ~", "the head comes with ~", "higher up one sees ~"),
        "accessory": ("a further detail is ~", "~ can be noticed as an extra", "a finishing touch comes from ~"),
        "belongings": ("what is carried along is ~", "~ can be seen close by", "the luggage consists of ~"),
    },
}  # fmt: skip
ITEMS = ("clothing", "footwear", "hair", "accessory", "belongings")
WORN = ("clothing", "footwear", "accessory")
_PAIRS = ("and", "with", "together with", "along with", "as well as", "plus")
_LISTS = (" and ", ", and ", ", plus ", " as well as ")
_CLAUSES = (" and ", ", and ")
_NUM_DRAWS = 72
_MARK = re.compile(r"(\{[A-Z]\*?\})")

Unit = tuple[str, ...]  # slots that share a verb


def pattern_key(template: str) -> str:
    """What two templates share if they are the same pattern: words and slots without case and punctuation.

    >>> pattern_key("In [clothing], [person]...") == pattern_key("in [clothing] [person].")
    True
    """
    return " ".join(re.findall(r"\[\w+\]|\w+", template.lower()))


def compose(n: int, seed: int) -> list[str]:
    """Distinct patterns (by :func:`pattern_key`).

    More continue the same sequence: the first 10 of ``compose(100, 0)`` are ``compose(10, 0)``. Every pattern holds
    ``[person]`` and ``[clothing]`` and at most each of the other slots, none twice; it begins with a capital letter or
    a slot and ends with a full stop.

    Args:
        n: How many.
        seed: Seed of the sequence.

    Raises:
        ValueError: ``n`` is negative, or more than the grammar gives within 20 draws per pattern.

    >>> compose(1, 0) == compose(3, 0)[:1]
    True
    """
    if n < 0:
        raise ValueError(f"n={n} patterns: the number must not be negative")
    patterns: dict[str, str] = {}
    for row in range(20 * n):
        if len(patterns) == n:
            break
        pattern = _compose_one(Draws(uniform_row(seed, 0, row, "compose", _NUM_DRAWS)))
        patterns.setdefault(pattern_key(pattern), pattern)
    if len(patterns) < n:
        raise ValueError(f"the grammar gave {len(patterns):,} distinct patterns in {20 * n:,} draws, asked for {n:,}")
    return list(patterns.values())


def _compose_one(draws: Draws) -> str:
    units = _units(draws)
    bare = draws() < 0.12
    most = min(len(units), 3 if bare else 4)
    sentences = min(most, 1 + sum(draws() < chance for chance in (0.62, 0.42, 0.3)))
    shares = _deal(len(units), sentences, draws)
    again = draws.pick(AGAIN)
    written = [_expand(draws.pick(BARE_OPENINGS), [], again, draws)] if bare else []
    used: set[str] = set()
    for share in shares:
        closing = CLOSING if share == len(units) else ()
        frames = _fitting(LATER + closing if written else OPENINGS, share)
        frame = draws.pick([f for f in frames if f not in used] or frames)
        used.add(frame)
        sentence = _expand(frame, units[:share], again, draws)
        written.append(sentence[0].upper() + sentence[1:])
        units = units[share:]
    return " ".join(written)


def _units(draws: Draws) -> list[Unit]:
    """Clothing and two to four other slots in random order, neighbouring worn things joined at times."""
    chosen = ["clothing", *_shuffled(ITEMS[1:], draws)[: 2 + draws.below(3)]]
    units: list[Unit] = []
    for item in _shuffled(chosen, draws):
        joins = units and item in WORN and units[-1][-1] in WORN
        if joins and draws() < 0.6:
            units[-1] = (*units[-1], item)
        else:
            units.append((item,))
    return units


def _shuffled(items: Sequence[str], draws: Draws) -> list[str]:
    order = [(draws(), item) for item in items]
    return [item for _, item in sorted(order)]


def _deal(units: int, sentences: int, draws: Draws) -> list[int]:
    """How many units each sentence takes: at least one, the rest at random."""
    shares = [1] * sentences
    for _ in range(units - sentences):
        shares[draws.below(sentences)] += 1
    return shares


@functools.cache
def _fitting(frames: tuple[str, ...], count: int) -> tuple[str, ...]:
    """The frames that take ``count`` units."""

    def fits(frame: str) -> bool:
        marks = re.findall(r"\{[VGWCN](\*?)\}", frame)
        return len(marks) == count or (len(marks) < count and "*" in marks)

    return tuple(frame for frame in frames if fits(frame))


def _expand(frame: str, units: Sequence[Unit], again: str, draws: Draws) -> str:
    left = list(units)
    parts = []
    for part in _MARK.split(frame):
        if part == "{A}":
            parts.append("[person]")
        elif part == "{P}":
            parts.append(again)
        elif _MARK.fullmatch(part):
            taken = left if part.endswith("*}") else left[:1]
            left = left[len(taken) :]
            parts.append(_phrase(part[1], taken, draws))
        else:
            parts.append(part)
    return "".join(parts)


def _phrase(form: str, units: Sequence[Unit], draws: Draws) -> str:
    """Units in one form, as a list."""
    phrases = [_things(unit, draws) if form == "N" else _unit(form, unit, draws) for unit in units]
    if len(phrases) == 1:
        return phrases[0]
    last = draws.pick(_LISTS if form == "N" else _CLAUSES if len(phrases) > 2 else _CLAUSES[:1])
    return ", ".join(phrases[:-1]) + last + phrases[-1]


def _unit(form: str, unit: Unit, draws: Draws) -> str:
    # A verb for clothes suits shoes and accessories beside them; one for shoes alone would not.
    kind = "clothing" if len(unit) > 1 else unit[0]
    return draws.pick(FORMS[form][kind]).replace("~", _things(unit, draws))


def _things(unit: Unit, draws: Draws) -> str:
    things = [f"[{item}]" for item in unit]
    if len(things) == 1:
        return things[0]
    if len(things) == 2:
        return f"{things[0]} {draws.pick(_PAIRS)} {things[1]}"
    return ", ".join(things[:-1]) + draws.pick(_LISTS) + things[-1]
