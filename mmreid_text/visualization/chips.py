"""Sentences as chips: every token with a stack of coloured cells under it, for pictures and for HTML pages."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from math import ceil

from PIL import ImageDraw, ImageFont

from mmreid_text.visualization.contrast import is_light
from mmreid_text.visualization.rank_strips import FADED, INK, WRONG, cut, load_font

Colour = tuple[int, int, int]
TEXT_SIZE = 14
CELL_SIZE = 10
CELL_HEIGHT = 15
_TEXT_HEIGHT = 22
_PAD = 3  # on both sides of a chip's text
_SPACE = 6  # between words
_LINE_GAP = 10

STYLE = """
.chips{display:flex;flex-wrap:wrap;row-gap:10px;line-height:1.35}
.chip{margin-right:6px;text-align:center}
.chip.joined{margin-right:0}
.chip.joined b{padding-right:0}
.chip.joined+.chip b{padding-left:0}
.chip b{display:block;padding:0 3px;font-weight:400;white-space:pre}
.chip.marked b{color:#cd2d28;text-decoration:underline 2px}
.chips.headed{padding-left:64px}
.chip.heads{margin:0 10px 0 -64px;width:54px;text-align:right;color:#696e76}
.chip i{display:block;min-width:16px;height:15px;padding:0 2px;font:10px/15px sans-serif;white-space:nowrap}
"""


@dataclass(frozen=True)
class Cell:
    """A coloured field under a token: what stands in it, its colour (None for paper), and what pointing at it says."""

    text: str = ""
    fill: Colour | None = None
    title: str = ""


@dataclass(frozen=True)
class Chip:
    """A token: its text, cells below it from top to bottom, whether the next chip continues its word, and whether it is
    marked, red and underlined."""

    text: str
    cells: Sequence[Cell] = ()
    joined: bool = False
    marked: bool = False


def draw_chips(
    pen: ImageDraw.ImageDraw | None,
    chips: Sequence[Chip],
    corner: tuple[int, int],
    width: int,
    heads: Sequence[str] = (),
) -> int:
    """Draw chips in lines of at most ``width`` pixels; words are kept whole where a line holds them.

    Args:
        pen: Where to draw; None only measures.
        chips: Tokens, all with equally many cells.
        corner: Left and top pixel.
        width: Pixels; a chip that is wider is cut with an ellipsis.
        heads: Names of the rows of cells, written left of every line.

    Returns:
        The top pixel of what follows.
    """
    font, small = load_font(TEXT_SIZE), load_font(CELL_SIZE)
    margin = int(max((small.getlength(head) for head in heads), default=0)) + (8 if heads else 0)
    height = _TEXT_HEIGHT + CELL_HEIGHT * max((len(chip.cells) for chip in chips), default=0)
    left, y = corner[0] + margin, corner[1]
    x = left
    for word in _words(chips):
        sizes = [min(_chip_width(chip, font, small, i > 0), width - margin) for i, chip in enumerate(word)]
        if x > left and x + sum(sizes) > corner[0] + width:
            x, y = left, y + height + _LINE_GAP
        for chip, size in zip(word, sizes):
            if x > left and x + size > corner[0] + width:  # a word that is longer than the line
                x, y = left, y + height + _LINE_GAP
            if pen is not None and x == left:
                _draw_heads(pen, heads, (left - 8, y + _TEXT_HEIGHT), small)
            if pen is not None:
                _draw_chip(pen, chip, (x, y, size), font, small)
            x += size
        x += _SPACE
    return y + height + _LINE_GAP


def chips_html(chips: Sequence[Chip], heads: Sequence[str] = ()) -> str:
    """HTML of the same, to stand in a page with :data:`STYLE`; all text is escaped."""
    parts = []
    if heads:
        names = "".join(f"<i>{escape(head)}</i>" for head in heads)
        parts.append(f'<span class="chip heads"><b>&nbsp;</b>{names}</span>')
    for chip in chips:
        classes = "chip" + " joined" * chip.joined + " marked" * chip.marked
        cells = "".join(_cell_html(cell) for cell in chip.cells)
        parts.append(f'<span class="{classes}"><b>{escape(chip.text)}</b>{cells}</span>')
    return f'<div class="chips{" headed" * bool(heads)}">{"".join(parts)}</div>'


def ink_on(fill: Colour | None) -> Colour:
    """Black or white, whichever is legible on a colour; on paper, ink."""
    if fill is None:
        return INK
    return (0, 0, 0) if is_light([value / 255 for value in fill]) else (255, 255, 255)


def _words(chips: Sequence[Chip]) -> list[list[Chip]]:
    words: list[list[Chip]] = []
    continues = False
    for chip in chips:
        if continues:
            words[-1].append(chip)
        else:
            words.append([chip])
        continues = chip.joined
    return words


def _chip_width(chip: Chip, font: ImageFont.FreeTypeFont, small: ImageFont.FreeTypeFont, continues: bool) -> int:
    cells = max((ceil(small.getlength(cell.text)) for cell in chip.cells), default=0)
    padding = _PAD * (2 - chip.joined - continues)  # a word that BPE splits is written in one
    return max(ceil(font.getlength(chip.text)) + padding, cells + 4, 16 if chip.cells else 0)


def _draw_chip(
    pen: ImageDraw.ImageDraw,
    chip: Chip,
    place: tuple[int, int, int],
    font: ImageFont.FreeTypeFont,
    small: ImageFont.FreeTypeFont,
) -> None:
    x, y, width = place
    text = cut(chip.text, font, width)
    centre = x + width / 2
    pen.text((centre, y + 2), text, fill=WRONG if chip.marked else INK, font=font, anchor="ma")
    if chip.marked:
        half = font.getlength(text) / 2
        pen.line((centre - half, y + _TEXT_HEIGHT - 3, centre + half, y + _TEXT_HEIGHT - 3), fill=WRONG, width=2)
    for i, cell in enumerate(chip.cells):
        top = y + _TEXT_HEIGHT + i * CELL_HEIGHT
        if cell.fill is not None:
            pen.rectangle((x, top, x + width - 2, top + CELL_HEIGHT - 2), fill=cell.fill)
        middle = (x + (width - 2) / 2, top + CELL_HEIGHT / 2 - 1)
        pen.text(middle, cell.text, fill=ink_on(cell.fill), font=small, anchor="mm")


def _draw_heads(
    pen: ImageDraw.ImageDraw, heads: Sequence[str], corner: tuple[int, int], small: ImageFont.FreeTypeFont
) -> None:
    """Names right-aligned at ``corner``, one per row of cells."""
    for i, head in enumerate(heads):
        middle = corner[1] + i * CELL_HEIGHT + CELL_HEIGHT / 2 - 1
        pen.text((corner[0], middle), head, fill=FADED, font=small, anchor="rm")


def _cell_html(cell: Cell) -> str:
    style = ""
    if cell.fill is not None:
        style = f' style="background:{_hex(cell.fill)};color:{_hex(ink_on(cell.fill))}"'
    title = f' title="{escape(cell.title)}"' if cell.title else ""
    return f"<i{style}{title}>{escape(cell.text)}</i>"


def _hex(colour: Colour) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)
