"""Cluster sheets: members of some clusters beside each other, each an image with a caption of it."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from mmreid_text.atomic_write import written_beside
from mmreid_text.visualization.rank_strips import (
    FADED,
    FRAME,
    GAP,
    INK,
    MARGIN,
    PAPER,
    RIGHT,
    TARGET,
    WRONG,
    Picture,
    load_font,
    open_picture,
    wrap,
)

CROP = (80, 160)  # width and height, pixels
CELL_WIDTH = 170
TITLE_WIDTH = 170
LINES = 6  # of a caption
_LINE = 14
_TOP = 76
_ROW_HEIGHT = CROP[1] + 2 * FRAME + 18 + LINES * _LINE + 2 * GAP
_MARKS = ((RIGHT, "most frequent identity"), (WRONG, "other identity"), (TARGET, "identity unknown"))


@dataclass(frozen=True)
class ClusterMember:
    """An image, uint8 (H, W, 3) RGB or a path, with a caption of it.

    ``right`` says whether it shows the identity that is most frequent in its cluster, None where that is not known;
    ``rescued`` whether refinement put it there.
    """

    picture: Picture
    caption: str
    right: bool | None = None
    rescued: bool = False


@dataclass(frozen=True)
class ClusterRow:
    """A cluster: some of its members, and lines that describe it."""

    lines: Sequence[str]
    members: Sequence[ClusterMember]


def draw_cluster_sheet(rows: Sequence[ClusterRow], title: str) -> np.ndarray:
    """Draw clusters below each other.

    Args:
        rows: At least one, each with at least one member.
        title: Heading.

    Returns:
        The picture, uint8 (H, W, 3) RGB.
    """
    if not rows or not all(row.members for row in rows):
        raise ValueError("a cluster sheet needs at least one cluster, and each cluster a member")
    columns = max(len(row.members) for row in rows)
    size = (2 * MARGIN + TITLE_WIDTH + columns * CELL_WIDTH, _TOP + len(rows) * _ROW_HEIGHT + MARGIN)
    canvas = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(canvas)
    pen.text((MARGIN, 16), title, fill=INK, font=load_font(20, bold=True))
    x = MARGIN
    for colour, label in _MARKS:
        pen.rectangle((x, 51, x + 11, 62), fill=colour)
        pen.text((x + 18, 48), label, fill=FADED, font=load_font(13))
        x += 18 + int(load_font(13).getlength(label)) + 22
    for i, row in enumerate(rows):
        top = _TOP + i * _ROW_HEIGHT
        pen.line((MARGIN, top, canvas.width - MARGIN, top), fill=(222, 224, 228))
        for j, line in enumerate(row.lines):
            font = load_font(14, bold=not j)
            pen.text((MARGIN, top + GAP + 20 * j), line, fill=FADED if j else INK, font=font)
        for j, member in enumerate(row.members):
            _draw_member(canvas, pen, member, member_origin(i, j))
    return np.asarray(canvas)


def member_origin(row: int, column: int) -> tuple[int, int]:
    """Left and top pixel of a member's frame."""
    return MARGIN + TITLE_WIDTH + column * CELL_WIDTH, _TOP + row * _ROW_HEIGHT + GAP


def _draw_member(canvas: Image.Image, pen: ImageDraw.ImageDraw, member: ClusterMember, corner: tuple[int, int]) -> None:
    x, y = corner
    colour = TARGET if member.right is None else RIGHT if member.right else WRONG
    pen.rectangle((x, y, x + CROP[0] + 2 * FRAME - 1, y + CROP[1] + 2 * FRAME - 1), fill=colour)
    picture = ImageOps.pad(open_picture(member.picture), CROP, color=(235, 236, 238))
    canvas.paste(picture, (x + FRAME, y + FRAME))
    y += CROP[1] + 2 * FRAME + 3
    if member.rescued:
        pen.text((x, y), "rescued", fill=INK, font=load_font(11, bold=True))
    for i, line in enumerate(wrap(member.caption, load_font(11), CELL_WIDTH - GAP, LINES)):
        pen.text((x, y + 15 + i * _LINE), line, fill=INK, font=load_font(11))


def save_cluster_sheet(rows: Sequence[ClusterRow], title: str, path: str | os.PathLike[str]) -> None:
    """Write :func:`draw_cluster_sheet` as PNG, whole or not at all."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(draw_cluster_sheet(rows, title))
    with written_beside(path) as beside:
        picture.save(beside, format="PNG")
