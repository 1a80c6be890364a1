"""Pair sheets: images of two collections that may be one and the same, side by side."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from mmreid_text.atomic_write import written_beside
from mmreid_text.visualization.rank_strips import (
    FADED,
    GAP,
    INK,
    MARGIN,
    PAPER,
    TARGET,
    WRONG,
    Picture,
    cut,
    load_font,
    open_picture,
)

COLUMNS = 4
CROP = (88, 192)  # width and height, pixels
_CELL = (2 * CROP[0] + 3 * GAP, CROP[1] + 72)
_TOP = 64


@dataclass(frozen=True)
class ImagePair:
    """Two images, uint8 (H, W, 3) RGB or paths, with their names and a label such as how far apart they are."""

    left: Picture
    right: Picture
    left_name: str
    right_name: str
    label: str


def draw_pair_sheet(pairs: Sequence[ImagePair], title: str, sides: tuple[str, str]) -> np.ndarray:
    """Draw pairs in rows of :data:`COLUMNS`.

    Args:
        pairs: At least one.
        title: Heading.
        sides: What the left and the right images are.

    Returns:
        The picture, uint8 (H, W, 3) RGB.
    """
    if not pairs:
        raise ValueError("there is no pair to draw")
    rows = -(-len(pairs) // COLUMNS)
    canvas = Image.new("RGB", (2 * MARGIN + COLUMNS * _CELL[0], _TOP + rows * _CELL[1] + MARGIN), PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN, 14), title, fill=INK, font=load_font(18, bold=True))
    pen.text((MARGIN, 40), f"left: {sides[0]}", fill=WRONG, font=load_font(13))
    pen.text((MARGIN + 2 * _CELL[0], 40), f"right: {sides[1]}", fill=TARGET, font=load_font(13))
    for i, pair in enumerate(pairs):
        x, y = MARGIN + i % COLUMNS * _CELL[0], _TOP + i // COLUMNS * _CELL[1]
        for j, (picture, colour) in enumerate(((pair.left, WRONG), (pair.right, TARGET))):
            corner = (x + j * (CROP[0] + GAP), y)
            pen.rectangle((*corner, corner[0] + CROP[0] + 1, corner[1] + CROP[1] + 1), outline=colour)
            canvas.paste(ImageOps.pad(open_picture(picture), CROP, color=PAPER), (corner[0] + 1, corner[1] + 1))
        below = y + CROP[1] + 4
        pen.text((x, below), pair.label, fill=INK, font=load_font(12, bold=True))
        for name, colour in ((pair.left_name, WRONG), (pair.right_name, TARGET)):
            below += 16
            pen.text((x, below), cut(name, load_font(11), _CELL[0] - GAP), fill=colour, font=load_font(11))
        pen.line((x, below + 20, x + _CELL[0] - GAP, below + 20), fill=FADED)
    return np.asarray(canvas)


def save_pair_sheet(
    pairs: Sequence[ImagePair], title: str, sides: tuple[str, str], path: str | os.PathLike[str]
) -> None:
    """Write :func:`draw_pair_sheet` as PNG, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(draw_pair_sheet(pairs, title, sides))
    with written_beside(path) as beside:
        picture.save(beside, format="PNG")
