"""The figure that is dressed: skeleton, view, colours and values, and the shapes that clothes and bags share."""

import math
from dataclasses import dataclass

import numpy as np

from mmreid_text.procedural.body import Canvas, Point, Skeleton, Strip
from mmreid_text.procedural.palette import Color, Look

#: Painting order against the trunk at depth 0: legs lie under skirts, skirts under the upper clothes.
LEGS, SKIRT, ARMS = -0.35, -0.2, 0.003
_ANGLES = np.linspace(0, 2 * math.pi, 8, endpoint=False)
#: float64 (8, 2): a small disc of radius 1.
DISC = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], 1)


@dataclass(frozen=True)
class Figure:
    """What the drawing functions share."""

    canvas: Canvas
    bones: Skeleton
    look: Look
    value: dict[str, str]  # attribute -> value, "" where none applies
    color: dict[str, Color]  # garment -> RGB
    codes: list[int]

    @property
    def woman(self) -> bool:
        return self.value["sex"] == "woman"


def between(start: Point, end: Point, share: float) -> Point:
    """The place a share (0 to 1) of the way from ``start`` to ``end``."""
    return (
        start[0] + share * (end[0] - start[0]),
        start[1] + share * (end[1] - start[1]),
        start[2] + share * (end[2] - start[2]),
    )


def moved(points: np.ndarray, x: float, y: float = 0.0) -> np.ndarray:
    """Points (n, 2) shifted."""
    return points + np.array((x, y))


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """float64 (4, 2): corners of a rectangle."""
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def trapeze(half_top: float, top: float, half_bottom: float, bottom: float) -> np.ndarray:
    """float64 (4, 2): corners of an upright trapeze around x = 0."""
    return np.array([(-half_top, top), (half_top, top), (half_bottom, bottom), (-half_bottom, bottom)])


def band(canvas: Canvas, strip: Strip, top: float, bottom: float, color: Color, depth: float) -> None:
    """Add a stripe around the trunk."""
    canvas.polygon(strip.patch([-1.0, 1.0, 1.0, -1.0], [top, top, bottom, bottom]), color, depth)
