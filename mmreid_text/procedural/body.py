"""A person as a list of coloured polygons: an orthographic view of a small walking skeleton in clothes.

Body coordinates are in units of the person's height: x to the person's side, y down from the crown (0) to the ground
(1), z forward. Seen under a yaw they become (x', y') in the picture and a depth towards the camera, by which parts are
painted from far to near.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmreid_text.procedural.palette import Color

Point = tuple[float, float, float]
_ARC = np.linspace(-math.pi / 2, math.pi / 2, 7)
_HALF = np.stack([np.cos(_ARC), np.sin(_ARC)], 1)  # (7, 2), the right half of a unit circle
_TURN = np.linspace(0, 2 * math.pi, 18, endpoint=False)
_CIRCLE = np.stack([np.cos(_TURN), np.sin(_TURN)], 1)  # (18, 2)


@dataclass(frozen=True)
class Strip:
    """A garment around the trunk: rows of ``y``, projected half widths and centres, between which a pattern lies."""

    y: np.ndarray  # (R,)
    half: np.ndarray  # (R,)
    centre: np.ndarray  # (R,)

    def outline(self) -> np.ndarray:
        """float64 (2 R, 2), down the right side and up the left one."""
        right = np.stack([self.centre + self.half, self.y], 1)
        left = np.stack([self.centre - self.half, self.y], 1)
        return np.concatenate([right, left[::-1]])

    def point(self, across: np.ndarray, y: np.ndarray) -> np.ndarray:
        """float64 (n, 2): places ``across`` the cloth (-1 left edge .. 1 right edge) at heights ``y``."""
        half = np.interp(y, self.y, self.half)
        return np.stack([np.interp(y, self.y, self.centre) + across * half, y], 1)

    def patch(self, across: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> np.ndarray:
        """float64 (n, 2): corners of a piece of the cloth, see :meth:`point`."""
        return self.point(np.clip(across, -1.0, 1.0), np.asarray(y))


class Canvas:
    """Collects polygons with depths under one yaw."""

    def __init__(self, yaw: float, pitch: float) -> None:
        self.cos, self.sin, self.pitch = math.cos(yaw), math.sin(yaw), pitch
        self.parts: list[tuple[float, np.ndarray, Color]] = []

    def project(self, point: Point) -> tuple[float, float, float]:
        """(x', y', depth) of a body point."""
        x, y, z = point
        depth = z * self.cos - x * self.sin
        return x * self.cos + z * self.sin, y + 0.25 * self.pitch * depth, depth

    def polygon(self, points: np.ndarray, color: Color, depth: float) -> None:
        """Add a polygon (n, 2) in picture coordinates."""
        self.parts.append((depth, points, color))

    def limb(self, start: Point, end: Point, radii: tuple[float, float], color: Color, bias: float = 0.0) -> None:
        """Add a rounded, tapered limb between two body points; ``bias`` moves it in the painting order."""
        x0, y0, d0 = self.project(start)
        x1, y1, d1 = self.project(end)
        self.parts.append((0.5 * (d0 + d1) + bias, capsule(x0, y0, x1, y1, radii), color))

    def blob(self, centre: Point, radii: tuple[float, float], color: Color, bias: float = 0.0) -> None:
        """Add an ellipse around a body point with radii (x', y')."""
        x, y, depth = self.project(centre)
        self.parts.append((depth + bias, _CIRCLE * radii + (x, y), color))

    def width(self, side: float, front: float) -> float:
        """Half width in the picture of an elliptic section with half axes ``side`` (x) and ``front`` (z)."""
        return math.hypot(side * self.cos, front * self.sin)

    def strip(self, rows: list[tuple[float, float, float]], z: float = 0.0) -> Strip:
        """The strip of elliptic sections (y, half x axis, half z axis)."""
        half = np.array([self.width(side, front) for _, side, front in rows])
        y = np.array([row[0] for row in rows]) + 0.25 * self.pitch * z * self.cos
        return Strip(y, half, np.full(len(rows), z * self.sin))

    def painted(self) -> list[tuple[np.ndarray, Color]]:
        """Polygons from far to near."""
        return [(points, color) for _, points, color in sorted(self.parts, key=lambda part: part[0])]


def capsule(x0: float, y0: float, x1: float, y1: float, radii: tuple[float, float]) -> np.ndarray:
    """float64 (14, 2): outline of a limb with round ends of the given radii."""
    length = math.hypot(x1 - x0, y1 - y0) or 1e-9
    ux, uy = (x1 - x0) / length, (y1 - y0) / length
    turn = np.array([[ux, uy], [-uy, ux]])
    far = (_HALF * radii[1]) @ turn + (x1, y1)
    near = (_HALF * -radii[0]) @ turn + (x0, y0)
    return np.concatenate([far, near])


@dataclass(frozen=True)
class Skeleton:
    """Joints of one pose, each limb as (left, right)."""

    shoulders: tuple[Point, Point]
    elbows: tuple[Point, Point]
    wrists: tuple[Point, Point]
    hips: tuple[Point, Point]
    knees: tuple[Point, Point]
    ankles: tuple[Point, Point]
    toes: tuple[Point, Point]
    head: Point


def stand(woman: bool, build: float, legs: float, phase: float, stride: float, arms: float, bent: int) -> Skeleton:
    """Pose the skeleton.

    Args:
        woman: Narrower shoulders, wider hips.
        build: Factor on widths.
        legs: Factor on the length of the legs.
        phase: Of the walk, radians.
        stride: 0 standing .. 1 long steps.
        arms: 0 hanging .. 1 swinging fully.
        bent: -1 or 1: the arm that is bent forward, 0 none.
    """
    hip_y = 0.53 - 0.47 * (legs - 1)
    thigh = shank = (0.955 - hip_y) * 0.5
    shoulder = (0.080 if not woman else 0.069) * build
    columns: list[list[Point]] = [[], [], [], [], [], [], []]
    for side, swing in ((-1, math.sin(phase)), (1, -math.sin(phase))):
        lift = max(0.0, math.cos(phase) * side)
        angle = 0.42 * stride * swing
        knee_bend = stride * (0.15 + 0.7 * lift) * (0.4 if swing > 0 else 1.0)
        hip = (side * 0.042 * build, hip_y, 0.0)
        knee = (hip[0] * 1.05, hip_y + thigh * math.cos(angle), thigh * math.sin(angle))
        low = angle - knee_bend
        ankle = (hip[0] * 1.1, knee[1] + shank * math.cos(low), knee[2] + shank * math.sin(low))
        pointing = -0.35 * knee_bend
        toe = (ankle[0] * 1.25, ankle[1] + 0.022 - 0.06 * pointing, ankle[2] + 0.062 * math.cos(pointing))
        arm = -angle * (0.5 + 0.7 * arms) + 0.06
        bow = 0.055 + 0.05 * arms
        forward = 1.15 if side == bent else 0.15 + 0.35 * arms
        joint = (side * shoulder, 0.190, 0.0)
        elbow = (joint[0] + side * (0.012 + bow * 0.4), 0.19 + 0.142 * math.cos(arm), 0.142 * math.sin(arm))
        wrist = (
            elbow[0] + side * bow * 0.1,
            elbow[1] + 0.135 * math.cos(arm + forward),
            elbow[2] + 0.135 * math.sin(arm + forward),
        )
        for column, point in zip(columns, (joint, elbow, wrist, hip, knee, ankle, toe)):
            column.append(point)
    shoulders, elbows, wrists, hips, knees, ankles, toes = ((left, right) for left, right in columns)
    return Skeleton(shoulders, elbows, wrists, hips, knees, ankles, toes, head=(0.0, 0.075, 0.008))
