"""Dataset sheets: augmented images beside their captions, with the words that training masks."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from mmreid_text.atomic_write import written_beside
from mmreid_text.visualization.chips import STYLE, Cell, Chip, Colour, chips_html, draw_chips, ink_on
from mmreid_text.visualization.html_page import image_tag, save_page
from mmreid_text.visualization.rank_strips import FADED, GAP, INK, MARGIN, PAPER, load_font
from mmreid_text.visualization.training_view import Sample, Token

MASKED = (240, 150, 40)
REPLACED = (150, 90, 190)
STAYS = (110, 170, 225)
LEGEND = {"masked": MASKED, "replaced by another word": REPLACED, "drawn, but stays": STAYS}
CROP_HEIGHT = 176  # pixels
COLUMNS = 2
TEXT_WIDTH = 430
_HEADER = 78
_TITLE_HEIGHT = 20  # of a sample's line above its words
_MASK = ("<|mask|>", "[MASK]", "[mask]")


def masked_chips(tokens: Sequence[Token]) -> list[Chip]:
    """Tokens as chips: under each that is drawn for masking stands what the model reads in its place."""
    chips = []
    for token in tokens:
        cells: tuple[Cell, ...] = ()
        if token.instead in _MASK:
            cells = (Cell("mask", MASKED),)
        elif token.instead == token.text:
            cells = (Cell("stays", STAYS),)
        elif token.instead:
            cells = (Cell(token.instead, REPLACED),)
        chips.append(Chip(token.text, cells, token.joined))
    return chips


def draw_dataset_sheet(samples: Sequence[Sample], title: str) -> np.ndarray:
    """Draw samples in :data:`COLUMNS` columns.

    Args:
        samples: At least one.
        title: Heading, such as the config's name, the epoch and the seed.

    Returns:
        The picture, uint8 (H, W, 3) RGB.
    """
    if not samples:
        raise ValueError("there is no sample to draw")
    crops = [fit_height(sample.image, CROP_HEIGHT) for sample in samples]
    chips = [masked_chips(sample.tokens) for sample in samples]
    crop_width = max(crop.width for crop in crops)
    column = crop_width + GAP + TEXT_WIDTH + MARGIN
    heights = [
        max(CROP_HEIGHT, _TITLE_HEIGHT + draw_chips(None, words, (0, 0), TEXT_WIDTH)) + 2 * GAP for words in chips
    ]
    rows = [max(heights[i : i + COLUMNS]) for i in range(0, len(heights), COLUMNS)]
    columns = min(COLUMNS, len(samples))
    canvas = Image.new("RGB", (MARGIN + columns * column, _HEADER + sum(rows)), PAPER)
    pen = ImageDraw.Draw(canvas)
    draw_header(pen, title, _legend(samples))
    for i, sample in enumerate(samples):
        x, y = MARGIN + i % COLUMNS * column, _HEADER + sum(rows[: i // COLUMNS])
        pen.line((x, y, x + column - MARGIN, y), fill=(222, 224, 228))
        canvas.paste(crops[i], (x, y + GAP))
        left = x + crop_width + GAP
        pen.text((left, y + GAP), f"caption {sample.row:,}", fill=FADED, font=load_font(12))
        draw_chips(pen, chips[i], (left, y + GAP + _TITLE_HEIGHT), TEXT_WIDTH)
    return np.asarray(canvas)


def save_dataset_sheet(samples: Sequence[Sample], title: str, path: Path) -> None:
    """Write samples as a picture (``.png``) or as a page that stands alone (``.html``), whole or not at all."""
    if path.suffix == ".html":
        save_page(path, title, legend_html(_legend(samples)), [_section(sample) for sample in samples], STYLE)
    else:
        save_png(draw_dataset_sheet(samples, title), path)


def save_png(picture: np.ndarray, path: Path) -> None:
    """Write a picture, uint8 (H, W, 3) RGB, whole or not at all; its folder is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_beside(path) as beside:
        Image.fromarray(picture).save(beside, format="PNG")


def fit_height(image: np.ndarray, height: int) -> Image.Image:
    """A picture, uint8 (H, W, 3) RGB, scaled to a height in its own shape."""
    width = max(1, round(image.shape[1] * height / image.shape[0]))
    return Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC)


def draw_header(pen: ImageDraw.ImageDraw, title: str, legend: Mapping[str, Colour]) -> None:
    """A heading, and below it what the colours stand for."""
    pen.text((MARGIN, 16), title, fill=INK, font=load_font(18, bold=True))
    x = MARGIN
    for label, colour in legend.items():
        pen.rectangle((x, 49, x + 11, 60), fill=colour)
        pen.text((x + 18, 46), label, fill=FADED, font=load_font(13))
        x += 18 + int(load_font(13).getlength(label)) + 22


def legend_html(legend: Mapping[str, Colour]) -> str:
    """What the colours stand for, as HTML."""
    return " &nbsp; ".join(
        f'<span style="background:rgb{colour};color:rgb{ink_on(colour)};padding:0 6px">{escape(label)}</span>'
        for label, colour in legend.items()
    )


def _legend(samples: Sequence[Sample]) -> Mapping[str, Colour]:
    """Nothing where no word is masked."""
    return LEGEND if any(token.instead for sample in samples for token in sample.tokens) else {}


def _section(sample: Sample) -> str:
    words = chips_html(masked_chips(sample.tokens))
    image = image_tag(sample.image, CROP_HEIGHT, f"image of caption {sample.row}")
    return f"{image}<div><h2>caption {sample.row:,}: {escape(sample.caption)}</h2>{words}</div>"
