"""Which ink is legible on a colour."""

from collections.abc import Sequence


def is_light(colour: Sequence[float]) -> bool:
    """Whether black contrasts more than white with a colour, red, green and blue in [0, 1].

    WCAG 2.1's relative luminance decides; where it is 0.179 both contrast alike.
    """
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3])
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179
