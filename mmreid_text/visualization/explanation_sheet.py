"""Explanation sheets: what each word of a sentence adds to an image's score, and where in the crop it is seen."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw

from mmreid_text.visualization.chips import Cell, Chip, Colour, draw_chips
from mmreid_text.visualization.dataset_sheet import draw_header, fit_height, save_png
from mmreid_text.visualization.rank_strips import FADED, GAP, INK, MARGIN, PAPER, cut, load_font
from mmreid_text.visualization.similarity_map import overlay

if TYPE_CHECKING:
    from mmreid_text.apis.explain import Explanation

COLOURS = "RdBu"
NUM_MAPS = 12
CROP_HEIGHT = 192  # pixels
MAP_HEIGHT = 128
TEXT_WIDTH = 560
_DEEP = 0.85  # share of the colours in use
_HEADER = 78
_LABEL = 18


@dataclass(frozen=True)
class ExplainedImage:
    """An image uint8 (H, W, 3) RGB with its name, the explanation of its score, and, where the image encoder has such,
    the attention (rows, columns) of its [CLS] token."""

    image: np.ndarray
    name: str
    explanation: "Explanation"
    attention: np.ndarray | None = None


def contribution_chips(explanation: "Explanation", largest: float) -> list[Chip]:
    """Words as chips over their contributions: blue speaks for the image, red against it, deepest at ``largest``."""
    values = zip(explanation.words, explanation.contributions.tolist())
    return [Chip(word, [Cell(_signed(value), contribution_colour(value, largest))]) for word, value in values]


def contribution_colour(value: float, largest: float) -> Colour:
    """Colour of a contribution: blue above 0, red below, white at 0."""
    share = value / largest if largest > 0 else 0.0
    red, green, blue, _ = colormaps[COLOURS](0.5 + 0.5 * _DEEP * min(max(share, -1.0), 1.0))
    return round(255 * red), round(255 * green), round(255 * blue)


def _signed(value: float) -> str:
    text = f"{value:+.3f}"
    return text[1:] if float(text) == 0 else text


def heaviest_words(explanation: "Explanation", count: int = NUM_MAPS) -> list[int]:
    """Indices of the words whose contributions are furthest from 0, in the order of the sentence."""
    order = np.argsort(-np.abs(explanation.contributions), kind="stable")
    return sorted(order[:count].tolist())


def draw_explanations(images: Sequence[ExplainedImage], title: str) -> np.ndarray:
    """Draw images below each other: crop, attention, map of the sentence, contributions, maps of the heaviest words.

    The maps of a row's words share one scale of colours, from the least to the greatest similarity among them.

    Args:
        images: At least one.
        title: Heading, such as the sentence.

    Returns:
        The picture, uint8 (H, W, 3) RGB.
    """
    if not images:
        raise ValueError("there is no image to draw")
    largest = max((float(np.abs(one.explanation.contributions).max(initial=0)) for one in images), default=0.0)
    chips = [contribution_chips(one.explanation, largest) for one in images]
    panels = [_panels(one) for one in images]
    maps = [_word_maps(one) for one in images]
    left = MARGIN + max(sum(picture.width + GAP for picture, _ in row) for row in panels)
    texts = [draw_chips(None, words, (0, 0), TEXT_WIDTH) for words in chips]
    tops = [2 * GAP + _LABEL + max(CROP_HEIGHT + _LABEL, text) for text in texts]
    heights = [top + (MAP_HEIGHT + _LABEL + GAP) * bool(row) for top, row in zip(tops, maps)]
    widest = max(sum(picture.width + GAP for picture, _ in row) for row in maps)
    width = max(left + TEXT_WIDTH, MARGIN + widest) + MARGIN
    canvas = Image.new("RGB", (width, _HEADER + sum(heights)), PAPER)
    pen = ImageDraw.Draw(canvas)
    draw_header(pen, cut(title, load_font(18, bold=True), width - 2 * MARGIN), {})
    about = "under each word: the score with it less the score without it; maps: cosine similarity with each patch"
    pen.text((MARGIN, 46), cut(about, load_font(13), width - 2 * MARGIN), fill=FADED, font=load_font(13))
    for i, one in enumerate(images):
        y = _HEADER + sum(heights[:i])
        pen.line((MARGIN, y, width - MARGIN, y), fill=(222, 224, 228))
        heading = cut(f"{one.explanation.score:.3f}   {one.name}", load_font(13, bold=True), width - 2 * MARGIN)
        pen.text((MARGIN, y + 5), heading, fill=INK, font=load_font(13, bold=True))
        _paste_row(canvas, pen, panels[i], (MARGIN, y + _LABEL + GAP))
        draw_chips(pen, chips[i], (left, y + _LABEL + GAP), TEXT_WIDTH)
        _paste_row(canvas, pen, maps[i], (MARGIN, y + tops[i]))
    return np.asarray(canvas)


def save_explanations(images: Sequence[ExplainedImage], title: str, path: Path) -> None:
    """Write :func:`draw_explanations` as PNG, whole or not at all."""
    save_png(draw_explanations(images, title), path)


def _panels(one: ExplainedImage) -> list[tuple[Image.Image, str]]:
    crop = np.asarray(fit_height(one.image, CROP_HEIGHT))
    panels = [(crop, "image")]
    if one.attention is not None:
        panels.append((overlay(crop, one.attention), "attention"))
    panels.append((overlay(crop, one.explanation.sentence_map), "sentence"))
    return [(Image.fromarray(picture), label) for picture, label in panels]


def _word_maps(one: ExplainedImage) -> list[tuple[Image.Image, str]]:
    found = one.explanation
    shown = heaviest_words(found)
    if not shown:
        return []
    crop = np.asarray(fit_height(one.image, MAP_HEIGHT))
    limits = float(found.maps[shown].min()), float(found.maps[shown].max())
    return [(Image.fromarray(overlay(crop, found.maps[i], limits)), found.words[i]) for i in shown]


def _paste_row(
    canvas: Image.Image, pen: ImageDraw.ImageDraw, pictures: Sequence[tuple[Image.Image, str]], corner: tuple[int, int]
) -> None:
    """Pictures from left to right, each with its label below."""
    x, y = corner
    for picture, label in pictures:
        canvas.paste(picture, (x, y))
        text = cut(label, load_font(11), picture.width + GAP - 2)
        pen.text((x + picture.width / 2, y + picture.height + 3), text, fill=FADED, font=load_font(11), anchor="ma")
        x += picture.width + GAP
