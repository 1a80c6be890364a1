"""Rank strips: a caption and the gallery images ranked first for it, right ones framed green and wrong ones red."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.font_manager
import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from mmreid_text.atomic_write import written_beside

RIGHT = (22, 150, 70)
WRONG = (205, 45, 40)
TARGET = (90, 105, 130)
INK = (25, 28, 33)
FADED = (105, 110, 118)
PAPER = (255, 255, 255)
CROP_HEIGHT = 192
CROP_WIDTHS = (56, 112)  # least and largest; between them a crop keeps the shape of the first described image
FRAME = 5
GAP = 10
CAPTION_WIDTH = 330
MARGIN = 22
HEADER = 74
LABEL = 20  # height of the line under a crop
_ROW_HEIGHT = CROP_HEIGHT + 2 * FRAME + LABEL + 2 * GAP

Picture = np.ndarray | str | os.PathLike[str]


@dataclass(frozen=True)
class RankStrip:
    """One query and its answers, best first.

    ``images``, ``right`` and ``scores`` are equally long; an image is uint8 (H, W, 3) RGB or a path. ``right`` says
    whether the image shows the caption's person, ``scores`` are cosine similarities, ``first_right`` is the rank of
    the first right image in the whole gallery of ``gallery_size``, and ``target`` is the image that was described.
    """

    caption: str
    images: Sequence[Picture]
    right: Sequence[bool]
    scores: Sequence[float]
    first_right: int
    gallery_size: int
    target: Picture

    def __post_init__(self) -> None:
        if not len(self.images) == len(self.right) == len(self.scores):
            raise ValueError(
                f"a strip needs as many marks and scores as images, got {len(self.images)} images, "
                f"{len(self.right)} marks and {len(self.scores)} scores"
            )


def draw_rank_strips(strips: Sequence[RankStrip], title: str) -> np.ndarray:
    """Draw queries below each other.

    Args:
        strips: At least one.
        title: Heading, such as the dataset's name and its R1.

    Returns:
        The picture, uint8 (H, W, 3) RGB.
    """
    if not strips:
        raise ValueError("there is no query to draw")
    first = open_picture(strips[0].target)
    crop_width = round(min(max(CROP_HEIGHT * first.width / first.height, CROP_WIDTHS[0]), CROP_WIDTHS[1]))
    right, _ = crop_origin(0, 1 + max(len(strip.images) for strip in strips), crop_width)
    canvas = Image.new("RGB", (right - GAP + MARGIN, HEADER + len(strips) * _ROW_HEIGHT + MARGIN // 2), PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN, 16), title, fill=INK, font=load_font(20, bold=True))
    x = MARGIN
    for colour, label in ((TARGET, "described image"), (RIGHT, "same identity"), (WRONG, "other identity")):
        pen.rectangle((x, 49, x + 11, 60), fill=colour)
        pen.text((x + 18, 46), label, fill=FADED, font=load_font(13))
        x += 18 + int(load_font(13).getlength(label)) + 22
    pen.text((x, 46), "below each image: rank and cosine similarity", fill=FADED, font=load_font(13))
    for i, strip in enumerate(strips):
        _draw_strip(canvas, pen, strip, i, crop_width)
    return np.asarray(canvas)


def save_rank_strips(strips: Sequence[RankStrip], title: str, path: str | os.PathLike[str]) -> None:
    """Write :func:`draw_rank_strips` as PNG, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(draw_rank_strips(strips, title))
    with written_beside(path) as beside:
        picture.save(beside, format="PNG")


def crop_origin(row: int, rank: int, crop_width: int) -> tuple[int, int]:
    """Left and top pixel of a crop's frame: ``rank`` from 1 in strip ``row``; rank 0 is the described image."""
    x = MARGIN + CAPTION_WIDTH + GAP + rank * (crop_width + 2 * FRAME + GAP) + (2 * GAP if rank else 0)
    return x, HEADER + row * _ROW_HEIGHT + GAP


def _draw_strip(canvas: Image.Image, pen: ImageDraw.ImageDraw, strip: RankStrip, row: int, crop_width: int) -> None:
    top = HEADER + row * _ROW_HEIGHT
    pen.line((MARGIN, top, canvas.width - MARGIN, top), fill=(222, 224, 228))
    verdict = f"first right at rank {strip.first_right:,} of {strip.gallery_size:,}"
    pen.text(
        (MARGIN, top + GAP), verdict, fill=RIGHT if strip.first_right == 1 else WRONG, font=load_font(14, bold=True)
    )
    line_height = 19
    lines = wrap(strip.caption, load_font(14), CAPTION_WIDTH - GAP, (_ROW_HEIGHT - 2 * GAP - 26) // line_height)
    for i, line in enumerate(lines):
        pen.text((MARGIN, top + GAP + 26 + i * line_height), line, fill=INK, font=load_font(14))
    _draw_crop(canvas, pen, strip.target, TARGET, (row, 0, crop_width), "described")
    for i, (image, right, score) in enumerate(zip(strip.images, strip.right, strip.scores), start=1):
        _draw_crop(canvas, pen, image, RIGHT if right else WRONG, (row, i, crop_width), f"{i}   {score:.3f}")


def _draw_crop(
    canvas: Image.Image,
    pen: ImageDraw.ImageDraw,
    image: Picture,
    colour: tuple[int, int, int],
    place: tuple[int, int, int],
    label: str,
) -> None:
    x, y = crop_origin(*place)
    size = (place[2], CROP_HEIGHT)
    right, bottom = x + size[0] + 2 * FRAME - 1, y + size[1] + 2 * FRAME - 1
    pen.rectangle((x, y, right, bottom), fill=colour)
    canvas.paste(ImageOps.pad(open_picture(image), size, color=(235, 236, 238)), (x + FRAME, y + FRAME))
    pen.text(((x + right) / 2, bottom + 4), label, fill=colour, font=load_font(12, bold=True), anchor="mt")


def open_picture(image: Picture) -> Image.Image:
    """A picture as Pillow's, RGB."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"an image must be uint8 (H, W, 3) RGB, got {image.dtype} {image.shape}")
        return Image.fromarray(image)
    with Image.open(image) as file:
        return file.convert("RGB")


def wrap(text: str, font: ImageFont.FreeTypeFont, width: int, max_lines: int) -> list[str]:
    """Break text into lines of at most ``width`` pixels; what does not fit is cut with an ellipsis."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > max_lines:
        lines = lines[:max_lines]
        while " " in lines[-1] and font.getlength(f"{lines[-1]} …") > width:
            lines[-1] = lines[-1].rpartition(" ")[0]
        lines[-1] += " …"
    return [cut(line, font, width) for line in lines]


def cut(word: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """The word, or as much of it as ``width`` pixels hold, and an ellipsis."""
    if font.getlength(word) <= width:
        return word
    while word and font.getlength(f"{word}…") > width:
        word = word[:-1]
    return f"{word}…"


def load_font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib and covers accents and most scripts."""
    name = matplotlib.font_manager.findfont(
        matplotlib.font_manager.FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    )
    return ImageFont.truetype(name, size)
