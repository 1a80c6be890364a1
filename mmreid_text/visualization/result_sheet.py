"""Result sheets: a sentence and the crops that a search found for it, best first."""

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
    Picture,
    cut,
    load_font,
    open_picture,
)

COLUMNS = 10
CROP = (88, 192)  # width and height, pixels
_CELL = (CROP[0] + GAP, CROP[1] + 50)
_HEAD = 44
_NOTHING = 40


@dataclass(frozen=True)
class FoundImage:
    """An image, uint8 (H, W, 3) RGB or a path, None where its file is gone, with its name and cosine similarity."""

    image: Picture | None
    name: str
    score: float


def draw_result_sheet(results: Sequence[tuple[str, Sequence[FoundImage]]]) -> np.ndarray:
    """Draw queries below each other, each with its images in rows of :data:`COLUMNS`.

    Args:
        results: At least one query, with what was found for it, best first.

    Returns:
        The picture, uint8 (H, W, 3) RGB.
    """
    if not results:
        raise ValueError("there is no query to draw")
    heights = [_HEAD + (-(-len(found) // COLUMNS) * _CELL[1] if found else _NOTHING) for _, found in results]
    width = 2 * MARGIN + COLUMNS * _CELL[0] - GAP
    canvas = Image.new("RGB", (width, MARGIN + sum(heights)), PAPER)
    pen = ImageDraw.Draw(canvas)
    top = MARGIN
    for (query, found), height in zip(results, heights):
        pen.text((MARGIN, top), cut(query, load_font(16, bold=True), width - 2 * MARGIN), INK, load_font(16, bold=True))
        if not found:
            pen.text((MARGIN, top + _HEAD - GAP), "nothing was found", FADED, load_font(13))
        for i, image in enumerate(found):
            place = (MARGIN + i % COLUMNS * _CELL[0], top + _HEAD - GAP + i // COLUMNS * _CELL[1])
            _draw_image(canvas, pen, image, i + 1, place)
        top += height
    return np.asarray(canvas)


def save_result_sheet(results: Sequence[tuple[str, Sequence[FoundImage]]], path: str | os.PathLike[str]) -> None:
    """Write :func:`draw_result_sheet` as PNG, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(draw_result_sheet(results))
    with written_beside(path) as beside:
        picture.save(beside, format="PNG")


def _draw_image(
    canvas: Image.Image, pen: ImageDraw.ImageDraw, found: FoundImage, rank: int, place: tuple[int, int]
) -> None:
    x, y = place
    pen.rectangle((x, y, x + CROP[0] - 1, y + CROP[1] - 1), fill=(235, 236, 238))
    if found.image is None:
        pen.text((x + CROP[0] / 2, y + CROP[1] / 2), "file is gone", FADED, load_font(11), anchor="mm")
    else:
        canvas.paste(ImageOps.pad(open_picture(found.image), CROP, color=(235, 236, 238)), (x, y))
    pen.text((x, y + CROP[1] + 4), f"{rank}", INK, load_font(12, bold=True))
    pen.text((x + CROP[0], y + CROP[1] + 4), f"{found.score:.3f}", TARGET, load_font(12, bold=True), anchor="ra")
    pen.text((x, y + CROP[1] + 20), cut(found.name[::-1], load_font(10), CROP[0])[::-1], FADED, load_font(10))
