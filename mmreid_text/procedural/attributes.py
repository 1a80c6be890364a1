"""What a procedural pedestrian looks like, as integer codes: the attribute space and the drawing of identities."""

from collections.abc import Mapping, Sequence

import numpy as np

from mmreid_text.randomness import uniform

COLORS = ("black", "white", "gray", "red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "beige")

#: Name -> values, in the order of the columns of a code array. Value 0 of ``inner``, ``hat`` and ``bag`` means none.
ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "sex": ("man", "woman"),
    "hair_style": ("short", "long", "ponytail", "bun", "curly", "bald"),
    "hair_color": ("black", "brown", "blond", "gray", "red"),
    "hat": ("none", "cap", "beanie", "brimmed hat", "helmet"),
    "hat_color": COLORS,
    "upper": ("t-shirt", "shirt", "sweater", "hoodie", "jacket", "coat", "tank top", "dress"),
    "upper_color": COLORS,
    "upper_pattern": ("plain", "striped", "checked", "dotted", "printed"),
    "inner": ("none", *COLORS),
    "lower": ("trousers", "jeans", "shorts", "skirt", "long skirt"),
    "lower_color": COLORS,
    "shoes": ("sneakers", "boots", "leather shoes", "sandals"),
    "shoes_color": COLORS,
    "bag": ("none", "backpack", "handbag", "shoulder bag", "suitcase"),
    "bag_color": COLORS,
}
NAMES = tuple(ATTRIBUTES)
NUM_ATTRIBUTES = len(NAMES)
INDEX = {name: column for column, name in enumerate(NAMES)}
NUM_VALUES = tuple(len(values) for values in ATTRIBUTES.values())
#: Kinds that can be worn open over an inner layer.
OPEN_KINDS = ("jacket", "coat", "hoodie")

#: Relative frequencies; a pair of tables stands for (men, women), a name that is missing for all alike.
Frequencies = Mapping[str, Mapping[str, float] | tuple[Mapping[str, float], Mapping[str, float]]]

_JEANS_COLORS = {"blue": 6.0, "black": 2.0, "gray": 1.5, "white": 0.5}


def code(name: str, value: str) -> int:
    """The integer code of a value, such as ``code("bag", "backpack") == 1``."""
    return ATTRIBUTES[name].index(value)


def _cumulative(name: str, table: Mapping[str, float]) -> np.ndarray:
    unknown = sorted(set(table) - set(ATTRIBUTES[name]))
    if unknown:
        raise ValueError(
            f"attribute {name!r} has no value {unknown[0]!r}; its values are {', '.join(ATTRIBUTES[name])}"
        )
    weights = np.array([table.get(value, 0.0) for value in ATTRIBUTES[name]])
    return np.cumsum(weights) / weights.sum()  # (V,)


def _choose(name: str, table: Mapping[str, float], draw: np.ndarray) -> np.ndarray:
    """Codes (B,) int8 for the draws (B,) in [0, 1)."""
    return np.searchsorted(_cumulative(name, table), draw, side="right").clip(0, len(ATTRIBUTES[name]) - 1)


def draw_identities(frequencies: Frequencies, num_ids: int, seed: int, stream: str) -> np.ndarray:
    """Draw the codes of identities 0..num_ids-1; a larger ``num_ids`` continues the same identities.

    Args:
        frequencies: Per attribute, relative frequencies of values (see :data:`Frequencies`).
        num_ids: Number of identities.
        seed: Seed of the world.
        stream: Name that keeps domains and splits apart.

    Returns:
        int8 (num_ids, A), columns as :data:`ATTRIBUTES`; -1 where an attribute does not apply (the colour of no hat,
        the hair colour of a bald head, lower clothes under a dress, the inner layer of what cannot be open).

    Raises:
        ValueError: A frequency is given for an unknown value.
    """
    draws = uniform(seed, 0, np.arange(num_ids), f"{stream}/identity", NUM_ATTRIBUTES)
    codes = np.zeros((num_ids, NUM_ATTRIBUTES), dtype=np.int8)
    for column, name in enumerate(NAMES):
        everything = dict.fromkeys(ATTRIBUTES[name], 1.0)
        table = frequencies.get(name, everything)
        by_sex: Sequence[Mapping[str, float]] = table if isinstance(table, tuple) else (table, table)
        for sex, one in enumerate(by_sex):
            rows = codes[:, 0] == sex if column else np.full(num_ids, sex == 0)
            codes[rows, column] = _choose(name, one, draws[rows, column])
    _make_consistent(codes, draws)
    return codes


def _make_consistent(codes: np.ndarray, draws: np.ndarray) -> None:
    column = {name: codes[:, INDEX[name]] for name in NAMES}  # views
    jeans = column["lower"] == code("lower", "jeans")
    column["lower_color"][jeans] = _choose("lower_color", _JEANS_COLORS, draws[jeans, INDEX["lower_color"]])
    # An inner layer of the outer one's colour could not be seen.
    same = column["inner"] == column["upper_color"] + 1
    column["inner"][same] = (column["inner"][same] + 3) % len(COLORS) + 1
    column["inner"][~np.isin(column["upper"], [code("upper", kind) for kind in OPEN_KINDS])] = -1
    dress = column["upper"] == code("upper", "dress")
    for name, missing in (
        ("hair_color", column["hair_style"] == code("hair_style", "bald")),
        ("hat_color", column["hat"] == 0),
        ("bag_color", column["bag"] == 0),
        ("lower", dress),
        ("lower_color", dress),
    ):
        column[name][missing] = -1
