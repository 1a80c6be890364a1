"""What is known of procedural people, in the words of a vocabulary."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mmreid_text.procedural.attributes import ATTRIBUTES, INDEX
from mmreid_text.procedural.domains import World
from mmreid_text.procedural.shots import Shot, visible_attributes
from mmreid_text.pseudo_text.vocabulary import Attribute, Vocabulary

UNKNOWN = -1
"""Truth of a part that cannot be judged: hidden, not drawn, or without a class in the vocabulary."""
_COLOURS = {colour: (colour,) for colour in ATTRIBUTES["upper_color"]} | {"beige": ("beige", "khaki")}

#: Attribute or list of a vocabulary -> the procedural attribute that decides it, and for each of its values the classes
#: that say so: the first one that the vocabulary has is true. Values that are missing here cannot be judged.
TRUTH: Mapping[tuple[str, str], tuple[str, Mapping[str, tuple[str, ...]]]] = {
    ("gender", "gender"): ("sex", {"man": ("man",), "woman": ("woman",)}),
    ("upper", "colour"): ("upper_color", _COLOURS),
    ("upper", "pattern"): (
        "upper_pattern",
        {
            "plain": ("plain",),
            "striped": ("striped",),
            "checked": ("checked", "plaid"),
            "dotted": ("dotted", "patterned"),
            "printed": ("printed", "patterned"),
        },
    ),
    ("upper", "upper garment"): (
        "upper",
        {
            **{kind: (kind,) for kind in ("t-shirt", "shirt", "jacket", "coat", "tank top", "sweater", "dress")},
            "hoodie": ("hoodie", "sweater"),
        },
    ),
    ("lower", "colour"): ("lower_color", _COLOURS),
    ("lower", "lower garment"): (
        "lower",
        {
            "trousers": ("trousers",),
            "jeans": ("jeans", "trousers"),
            "shorts": ("shorts",),
            "skirt": ("short skirt",),
            "long skirt": ("long skirt",),
        },
    ),
    ("hair", "hair"): (
        "hair_style",
        {
            "short": ("short",),
            "long": ("long",),
            "ponytail": ("ponytail", "long"),
            "bun": ("bun",),
            "curly": ("curly",),
            "bald": ("bald",),
        },
    ),
    ("bag", "bag"): (
        "bag",
        {kind: (kind,) for kind in ATTRIBUTES["bag"]},
    ),
    ("hat", "hat"): (
        "hat",
        {
            "none": ("none",),
            "cap": ("cap", "hat"),
            "beanie": ("beanie", "hat"),
            "brimmed hat": ("hat",),
            "helmet": ("helmet",),
        },
    ),
}
#: Attributes of things that are never drawn.
ABSENT = ("cellphone", "glasses", "vehicle", "gloves", "umbrella", "smoke")
_STANDING = 0.3
"""Steps below this length of a shot are standing people's, see :func:`~mmreid_text.procedural.shots.take_shot`."""


def truth_of(world: World, rows: Iterable[int], vocabulary: Vocabulary) -> dict[str, np.ndarray]:
    """True classes of the parts of each attribute, as far as pictures show them.

    Args:
        world: The people.
        rows: n images.
        vocabulary: The attributes.

    Returns:
        By attribute, int64 (n, parts): for each of ``part_names`` the position among its names in
        :func:`part_classes`, or :data:`UNKNOWN`.
    """
    shots = [world.shot(row) for row in rows]
    codes = [world.attributes[world.pid[row]].tolist() for row in rows]
    seen = [visible_attributes(shot, values) for shot, values in zip(shots, codes)]
    truth = {}
    for attribute in vocabulary.attributes:
        columns = []
        for part, names in zip(attribute.part_names, part_classes(attribute)):
            columns.append([_true_class(attribute.slot, part, names, *facts) for facts in zip(shots, codes, seen)])
        truth[attribute.slot] = np.array(columns, dtype=np.int64).T
    return truth


def part_classes(attribute: Attribute) -> list[tuple[str, ...]]:
    """The names of each part's classes, in their order; the absence of an optional attribute is the last one."""
    names = zip(*(each.parts for each in attribute.classes))
    return [tuple(dict.fromkeys(part)) for part in names]


def _true_class(
    slot: str, part: str, names: Sequence[str], shot: Shot, codes: Sequence[int], seen: Sequence[bool]
) -> int:
    if slot in ABSENT:
        return names.index("none")
    if slot == "action":
        says: tuple[str, ...] = ("standing",) if shot.stride < _STANDING else ("walking",)
    elif (slot, part) in TRUTH:
        name, values = TRUTH[slot, part]
        column = INDEX[name]
        if not seen[column]:
            return UNKNOWN
        says = values.get(ATTRIBUTES[name][codes[column]], ())
    else:
        return UNKNOWN
    return next((names.index(each) for each in says if each in names), UNKNOWN)
