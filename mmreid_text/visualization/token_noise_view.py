"""Token noise of captions: which words noise-aware masking masks, epoch by epoch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image, ImageDraw

from mmreid_text.visualization.chips import STYLE, Cell, Chip, Colour, chips_html, draw_chips
from mmreid_text.visualization.dataset_sheet import draw_header, fit_height, legend_html, save_png
from mmreid_text.visualization.html_page import image_tag, save_page
from mmreid_text.visualization.rank_strips import GAP, MARGIN, PAPER, WRONG
from mmreid_text.visualization.training_view import Sample

COLOURS = "OrRd"
_DARKEST = 0.5  # probability from which the colour stays the same
_DEEP = 0.85  # share of the colours in use
CROP_HEIGHT = 128  # pixels
TEXT_WIDTH = 900
_HEADER = 78


@dataclass(frozen=True)
class TokenNoise:
    """How a caption is masked over epochs.

    Attributes:
        sample: Its image and tokens; the image is that of one of the epochs.
        probability: float (E, len(sample.tokens)) in [0, 1], chance of every token to be drawn, by epoch.
        wrong: bool (len(sample.tokens),), the tokens of words that are known to be wrong; None where it is not known.
    """

    sample: Sample
    probability: np.ndarray
    wrong: np.ndarray | None = None


def probability_chips(noise: TokenNoise, epochs: Sequence[int]) -> list[Chip]:
    """Tokens as chips with a cell per epoch, in percent; known wrong words are marked."""
    chips = []
    for i, token in enumerate(noise.sample.tokens):
        cells = [
            Cell(f"{100 * p:.0f}", probability_colour(p), f"epoch {epoch}: {100 * p:.1f}%")
            for epoch, p in zip(epochs, noise.probability[:, i].tolist())
        ]
        marked = noise.wrong is not None and bool(noise.wrong[i])
        chips.append(Chip(token.text, cells, token.joined, marked))
    return chips


def probability_colour(p: float) -> Colour:
    """Colour of a masking probability in [0, 1]: pale at 0, the same from one half on."""
    red, green, blue, _ = colormaps[COLOURS](_DEEP * min(p / _DARKEST, 1.0))
    return round(255 * red), round(255 * green), round(255 * blue)


def draw_token_noise(captions: Sequence[TokenNoise], epochs: Sequence[int], title: str) -> np.ndarray:
    """Draw captions below each other, a row per epoch under their words.

    Args:
        captions: At least one.
        epochs: E epochs, from 1.
        title: Heading.

    Returns:
        The picture, uint8 (H, W, 3) RGB.

    Raises:
        ValueError: There is no caption, or probabilities are not (E, tokens).
    """
    _check(captions, epochs)
    heads = _heads(epochs)
    chips = [probability_chips(caption, epochs) for caption in captions]
    crops = [fit_height(caption.sample.image, CROP_HEIGHT) for caption in captions]
    left = MARGIN + max(crop.width for crop in crops) + GAP
    heights = [max(CROP_HEIGHT, draw_chips(None, words, (0, 0), TEXT_WIDTH, heads)) + 2 * GAP for words in chips]
    canvas = Image.new("RGB", (left + TEXT_WIDTH + MARGIN, _HEADER + sum(heights)), PAPER)
    pen = ImageDraw.Draw(canvas)
    draw_header(pen, title, _legend(captions))
    for i, (words, crop) in enumerate(zip(chips, crops)):
        y = _HEADER + sum(heights[:i])
        pen.line((MARGIN, y, canvas.width - MARGIN, y), fill=(222, 224, 228))
        canvas.paste(crop, (MARGIN, y + GAP))
        draw_chips(pen, words, (left, y + GAP), TEXT_WIDTH, heads)
    return np.asarray(canvas)


def save_token_noise(captions: Sequence[TokenNoise], epochs: Sequence[int], title: str, path: Path) -> None:
    """Write captions as a picture (``.png``) or as a page that stands alone (``.html``), whole or not at all."""
    if path.suffix != ".html":
        save_png(draw_token_noise(captions, epochs, title), path)
        return
    _check(captions, epochs)
    sections = []
    for caption in captions:
        sample = caption.sample
        image = image_tag(sample.image, CROP_HEIGHT, f"image of caption {sample.row}")
        words = chips_html(probability_chips(caption, epochs), _heads(epochs))
        sections.append(f"{image}<div><h2>caption {sample.row:,}: {escape(sample.caption)}</h2>{words}</div>")
    save_page(path, title, legend_html(_legend(captions)), sections, STYLE)


def _check(captions: Sequence[TokenNoise], epochs: Sequence[int]) -> None:
    if not captions:
        raise ValueError("there is no caption to draw")
    for caption in captions:
        shape = (len(epochs), len(caption.sample.tokens))
        if caption.probability.shape != shape:
            raise ValueError(
                f"caption {caption.sample.row}: probabilities of {len(epochs)} epochs and {shape[1]} tokens must be "
                f"{shape}, got {caption.probability.shape}"
            )


def _heads(epochs: Sequence[int]) -> list[str]:
    return [f"epoch {epoch}" for epoch in epochs]


def _legend(captions: Sequence[TokenNoise]) -> Mapping[str, Colour]:
    levels = (0.0, 0.15, 0.3, _DARKEST)
    legend = {f"{100 * p:.0f}%{' or more' * (p == _DARKEST)}": probability_colour(p) for p in levels}
    if any(caption.wrong is not None for caption in captions):
        legend["word is known to be wrong"] = WRONG
    return legend
