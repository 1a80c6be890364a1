"""Captions of procedural pedestrians, with the attribute words that they state and those that are wrong."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmreid_text.procedural.attributes import INDEX, NAMES, NUM_ATTRIBUTES, NUM_VALUES, code
from mmreid_text.procedural.grammar import Style, Unit, Writer, join
from mmreid_text.procedural.styles_source import DYNAMIC, STATIC_QWEN, STATIC_SHIKRA
from mmreid_text.procedural.styles_targets import MALL, STATION, STREET
from mmreid_text.procedural.styles_web import WEB_PHRASES, WEB_TAGS
from mmreid_text.randomness import Draws

#: Uniform numbers that one caption consumes.
NUM_DRAWS = 192
_CHOOSING, _WORDING = 32, 44  # the first choose what is mentioned, those between order it, the others word it
#: Items of a person and the attributes that tell of each, its kind first.
ITEMS: dict[str, tuple[str, ...]] = {
    "hair": ("hair_style", "hair_color"),
    "hat": ("hat", "hat_color"),
    "upper": ("upper", "upper_color", "upper_pattern", "inner"),
    "lower": ("lower", "lower_color"),
    "shoes": ("shoes", "shoes_color"),
    "bag": ("bag", "bag_color"),
}
#: Domain and caption source -> the authors that share the work.
STYLES: dict[tuple[str, str], tuple[Style, ...]] = {
    ("web", ""): (WEB_TAGS, WEB_PHRASES),
    ("source", "Ts-qwen"): (STATIC_QWEN,),
    ("source", "Td-qwen"): (DYNAMIC,),
    ("source", "Ts-shikra"): (STATIC_SHIKRA,),
    ("source", "Td-shikra"): (DYNAMIC,),
    ("street", ""): (STREET,),
    ("mall", ""): (MALL,),
    ("station", ""): (STATION,),
}
# CLIP's BPE cuts few of these words; 60 words and marks leave room under 75 tokens for those that it does.
_LONGEST = 60
_TOKENS = re.compile(r"[a-z0-9]+|[^a-z0-9\s]", re.IGNORECASE)


@dataclass(frozen=True)
class Caption:
    """A sentence about one picture.

    Attributes:
        text: Clean ASCII.
        words: Spans (start, end, column of the attribute) of all words that state an attribute, pronouns included.
        wrong: Spans (start, end) of those that state what is not so.
        mentioned: int8 (A,), the stated code per attribute, -1 where the sentence is silent.
    """

    text: str
    words: list[tuple[int, int, int]]
    wrong: list[tuple[int, int]]
    mentioned: np.ndarray


def describe(
    style: Style,
    codes: Sequence[int],
    visible: Sequence[bool],
    draws: Sequence[float],
    errors: Sequence[float],
    noise_rate: float,
) -> Caption:
    """Write one caption.

    Args:
        style: The author.
        codes: A true attribute codes.
        visible: A flags; only what is visible is mentioned.
        draws: ``NUM_DRAWS`` uniform numbers for the wording. The same numbers give the same sentence pattern.
        errors: 2 A uniform numbers for mistakes: whether, and which value instead.
        noise_rate: Chance that a stated value is replaced by another one of its attribute, from 0 to 1.

    Returns:
        The caption.
    """
    choosing, ordering, wording = draws[:_CHOOSING], draws[_CHOOSING:_WORDING], draws[_WORDING:]
    truth = [value if seen else -1 for value, seen in zip(codes, visible)]
    lots = Draws(choosing)
    chosen = _choose_few(truth, lots) if style.name == "web" else _choose(style.mention, truth, lots)
    stated = _mistake(chosen, errors, noise_rate)
    while True:
        units = _units(style, stated, Draws(ordering))
        text, words = join(Writer(style, stated, Draws(wording)).write(units), style.capital)
        items = [item for unit in units for item in unit]
        if len(_TOKENS.findall(text)) <= _LONGEST or len(items) < 3:
            break
        dropped = next(item for item in ("shoes", "hair", "hat", "bag", "lower") if item in items)
        for name in ITEMS[dropped]:
            stated[INDEX[name]] = -1
    mentioned = np.full(NUM_ATTRIBUTES, -1, dtype=np.int8)
    for _, _, column in words:
        mentioned[column] = stated[column]
    wrong = [(start, end) for start, end, column in words if stated[column] != codes[column]]
    return Caption(text, words, wrong, mentioned)


def _choose(mention: Mapping[str, float], truth: Sequence[int], draws: Draws) -> list[int]:
    """Codes of what the caption will speak of, -1 elsewhere."""
    stated = [-1] * NUM_ATTRIBUTES
    if draws() < mention["sex"]:
        stated[0] = truth[0]
    for item, names in ITEMS.items():
        lot, kind = draws(), truth[INDEX[names[0]]]
        none = item in ("hat", "bag") and kind == 0
        if lot >= (mention[f"no {item}"] if none else mention[item]):
            continue
        if item != "hair":
            stated[INDEX[names[0]]] = kind
        for name in names if item == "hair" else names[1:]:
            value = truth[INDEX[name]]
            chance = mention["plain"] if name == "upper_pattern" and value == 0 else mention[name]
            if value >= 0 and draws() < chance and not (name == "inner" and value == 0):
                stated[INDEX[name]] = value
    if max(stated[1:]) < 0:  # a caption speaks of something
        for name in ("upper", "upper_color"):
            stated[INDEX[name]] = truth[INDEX[name]]
    return stated


def _choose_few(truth: Sequence[int], draws: Draws) -> list[int]:
    """One to nine attributes, as tags and alt texts tell them: one to four things, each by kind and often colour."""
    stated = [-1] * NUM_ATTRIBUTES
    items = [
        i
        for i in ITEMS
        if any(truth[INDEX[n]] >= 0 for n in ITEMS[i]) and not (i in ("hat", "bag") and truth[INDEX[i]] == 0)
    ]
    stated[0] = truth[0]
    left = 8
    for _ in range(min(len(items), 1 + sum(draws() < chance for chance in (0.8, 0.6, 0.4)))):
        weights = [{"upper": 2.0, "lower": 1.6}.get(item, 1.0) for item in items]
        place = draws() * sum(weights)
        item = items[-1]
        for candidate, weight in zip(items, weights):
            if place < weight:
                item = candidate
                break
            place -= weight
        items.remove(item)
        names = [
            n
            for n in ITEMS[item]
            if truth[INDEX[n]] >= 0 and not (n in ("upper_pattern", "inner") and truth[INDEX[n]] == 0)
        ]
        for rank, name in enumerate(names):
            if left > 0 and (rank == 0 or draws() < 0.8):
                stated[INDEX[name]] = truth[INDEX[name]]
                left -= 1
        if not items:
            break
    return stated


def _mistake(chosen: list[int], errors: Sequence[float], noise_rate: float) -> list[int]:
    """Replace stated values; one that says "none" may become a thing, never the other way round."""
    stated = list(chosen)
    for column, name in enumerate(NAMES):
        value = stated[column]
        if value < 0 or errors[column] >= noise_rate:
            continue
        first = 1 if name in ("hat", "inner", "bag") else 0
        others = [v for v in range(first, NUM_VALUES[column]) if v != value]
        stated[column] = others[int(errors[NUM_ATTRIBUTES + column] * len(others))]
    if stated[INDEX["hair_style"]] == code("hair_style", "bald"):  # a bald head has no hair colour to speak of
        stated[INDEX["hair_color"]] = -1
    return stated


def _units(style: Style, stated: Sequence[int], draws: Draws) -> list[Unit]:
    """What is spoken of, in the style's order, neighbouring worn things joined at times."""
    order = style.orders[int(draws() * len(style.orders))]
    spoken = [item for item in order if any(stated[INDEX[name]] >= 0 for name in ITEMS[item] if name != "inner")]
    worn = ("upper", "lower", "shoes") if stated[INDEX["hat"]] == 0 else ("hat", "upper", "lower", "shoes")
    units: list[list[str]] = []
    for item in spoken:
        joins = units and item in worn and units[-1][-1] in worn and len(units[-1]) < style.together
        if joins and draws() < style.group:
            units[-1].append(item)
        else:
            units.append([item])
    return [tuple(unit) for unit in units]
