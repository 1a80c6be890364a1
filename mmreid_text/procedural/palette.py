"""Colours of procedural people: what each colour word looks like, and how it varies between garments and domains."""

from dataclasses import dataclass

import numpy as np

from mmreid_text.procedural.attributes import COLORS
from mmreid_text.randomness import uniform

Color = tuple[float, float, float]

#: Typical RGB of each value of :data:`~mmreid_text.procedural.attributes.COLORS`.
CLOTH = np.array(
    [
        (30, 30, 34),
        (242, 242, 240),
        (128, 131, 136),
        (196, 34, 40),
        (240, 128, 28),
        (238, 208, 50),
        (38, 138, 62),
        (38, 82, 186),
        (122, 56, 152),
        (240, 142, 182),
        (108, 68, 40),
        (212, 186, 146),
    ],
    dtype=np.float64,
)
#: Black, brown, blond, gray, red.
HAIR = np.array([(26, 23, 22), (92, 58, 34), (218, 184, 104), (168, 168, 172), (166, 74, 32)], dtype=np.float64)
_SKIN = np.array([(246, 214, 190), (228, 184, 150), (198, 146, 108), (150, 102, 70), (98, 66, 48)], dtype=np.float64)
_GARMENTS = ("hat", "upper", "inner", "lower", "shoes", "bag", "hair", "skin")


@dataclass(frozen=True)
class Look:
    """What of an identity no caption tells: shades, build and proportions, the same in all its images."""

    shade: dict[str, Color]  # garment -> factor on each RGB channel
    skin: Color
    build: float  # width, 1 average
    legs: float  # length of the legs, 1 average
    pattern: float  # size of the pattern, 1 average
    loose: float  # width of trousers, 1 average
    side: int  # -1 or 1: which hand or shoulder carries


def draw_look(seed: int, pid: int, stream: str) -> Look:
    """The look of identity ``pid`` (any integer) of a stream."""
    count = len(_GARMENTS)
    u = uniform(seed, 0, np.array([pid]), f"{stream}/look", 4 * count + 7)[0].tolist()
    shade = {}
    for i, garment in enumerate(_GARMENTS):
        bright = 0.88 + 0.26 * u[i]
        tint = [0.96 + 0.08 * u[count + 3 * i + channel] for channel in range(3)]
        shade[garment] = (bright * tint[0], bright * tint[1], bright * tint[2])
    rest = u[4 * count :]
    tone = rest[0] * (len(_SKIN) - 1)
    low = int(tone)
    skin = _SKIN[low] + (tone - low) * (_SKIN[low + 1] - _SKIN[low])
    return Look(
        shade=shade,
        skin=(float(skin[0]), float(skin[1]), float(skin[2])),
        build=0.9 + 0.25 * rest[1],
        legs=0.96 + 0.08 * rest[2],
        pattern=0.8 + 0.5 * rest[3],
        loose=0.9 + 0.35 * rest[4],
        side=1 if rest[5] < 0.5 else -1,
    )


def garment_color(color: int, shade: Color, table: np.ndarray = CLOTH) -> Color:
    """RGB of one garment: the typical colour, multiplied by its shade.

    Args:
        color: Code of the colour.
        shade: Factor per channel (:class:`Look`).
        table: float64 (V, 3), RGB per code.
    """
    red, green, blue = table[color]
    return (red * shade[0], green * shade[1], blue * shade[2])


def darker(color: Color, factor: float = 0.8) -> Color:
    return (color[0] * factor, color[1] * factor, color[2] * factor)


def mix(one: Color, other: Color, share: float) -> Color:
    """``one`` with a share (0 to 1) of ``other``."""
    keep = 1.0 - share
    return (
        one[0] * keep + other[0] * share,
        one[1] * keep + other[1] * share,
        one[2] * keep + other[2] * share,
    )


def pattern_color(color: int, rgb: Color) -> Color:
    """Second colour of a pattern: white on dark cloth, a dark tone on light cloth."""
    light = 0.3 * rgb[0] + 0.59 * rgb[1] + 0.11 * rgb[2] > 150
    if color == COLORS.index("white"):
        return (60.0, 64.0, 84.0)
    return mix(rgb, (40.0, 30.0, 40.0), 0.75) if light else mix(rgb, (245.0, 243.0, 238.0), 0.85)
