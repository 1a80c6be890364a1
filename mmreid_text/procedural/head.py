"""Head, hair and hat of a figure."""

import math

import numpy as np

from mmreid_text.procedural.body import Point
from mmreid_text.procedural.figure import DISC, Figure, box, moved
from mmreid_text.procedural.palette import Color, darker, mix

_ARC = np.linspace(math.pi, 2 * math.pi, 11)
_DOME = np.stack([np.cos(_ARC), np.sin(_ARC)], 1)  # upper half of a unit circle
_RIM = box(-1.0, -0.010, 1.0, 0.008)


def draw_head(figure: Figure, turn: float) -> None:
    """Draw head, hair and hat.

    Args:
        figure: The figure.
        turn: Yaw of the head against the body, radians.
    """
    canvas, skin, style = figure.canvas, figure.color["skin"], figure.value["hair_style"]
    x, y, z = figure.bones.head
    canvas.blob((x, y, z), (0.044, 0.058), skin, 0.012)
    face = (x + 0.018 * turn, y + 0.016, z + 0.016)
    if style != "bald":
        front = 0.018 if canvas.cos > 0.5 else 0.03
        canvas.blob((x, y - 0.014, z - 0.006), (0.050, 0.059), figure.color["hair"], 0.013)
        canvas.blob(face, (0.035 + 0.005 * abs(canvas.cos), 0.043), skin, front if canvas.cos > -0.5 else 0.0)
        _draw_hair(figure, style)
    if canvas.cos > 0.35:
        for side in (-0.016, 0.016):
            canvas.blob((face[0] + side, y + 0.002, z + 0.04), (0.0055, 0.0045), (45.0, 38.0, 36.0), 0.02)
        mouth = (190.0, 70.0, 80.0) if figure.woman else darker(skin, 0.68)
        canvas.blob((face[0], y + 0.034, z + 0.038), (0.011, 0.0035), mouth, 0.02)
    if figure.value["hat"] != "none":
        _draw_hat(figure, figure.bones.head, figure.value["hat"])


def _draw_hair(figure: Figure, style: str) -> None:
    canvas, hair = figure.canvas, figure.color["hair"]
    x, y, z = figure.bones.head
    if style == "curly":
        for angle in np.linspace(0.15, math.pi - 0.15, 6) + math.pi:
            out = 0.045 * math.cos(angle)
            lock = (x + out * canvas.cos, y - 0.008 + 0.05 * math.sin(angle), z - 0.01 + out * canvas.sin)
            canvas.blob(lock, (0.026, 0.026), hair, 0.008)
        for side in (-0.048, 0.048):
            canvas.blob((side, y + 0.015, z - 0.012), (0.022, 0.034), hair, 0.004)
    if style in ("long", "ponytail", "bun") or figure.woman:
        for side in (-0.039, 0.039):  # a fringe, parted
            canvas.limb((x, y - 0.045, z + 0.02), (x + side, y - 0.018, z + 0.022), (0.015, 0.014), hair, 0.02)
    if style == "long":
        canvas.limb((x, y, z - 0.035), (x, 0.25, z - 0.055), (0.047, 0.05), hair)
        for side in (-0.046, 0.046):
            canvas.limb((side, y, z), (side * 1.15, 0.225, z + 0.03), (0.018, 0.016), hair, 0.024)
    elif style == "ponytail":
        canvas.limb((x, y - 0.015, z - 0.055), (x, 0.22, z - 0.095), (0.022, 0.016), hair, 0.012)
    elif style == "bun":
        canvas.blob((x, y - 0.062, z - 0.028), (0.028, 0.025), hair)


def _draw_hat(figure: Figure, head: Point, kind: str) -> None:
    canvas, cloth = figure.canvas, figure.color["hat"]
    x, y, z = head
    middle, _, _ = canvas.project((x, y, z - 0.004))

    def add(points: np.ndarray, below: float, color: Color, layer: float = 0.063) -> None:
        canvas.polygon(moved(points, middle, y + below), color, layer)

    size, base = {
        "cap": ((0.052, 0.058), -0.016),
        "beanie": ((0.053, 0.078), 0.0),
        "brimmed hat": ((0.047, 0.062), -0.022),
        "helmet": ((0.064, 0.075), 0.002),
    }[kind]
    add(_DOME * size, base, cloth, 0.06)
    if kind == "cap":
        start, end = (x, y - 0.018, z + 0.035), (x, y - 0.010, z + 0.098)
        canvas.limb(start, end, (0.012, 0.011), darker(cloth, 0.7), 0.062 if canvas.cos > -0.5 else -0.1)
        if canvas.cos > 0.5:
            add(_RIM * (0.044, 1.0), -0.014, darker(cloth, 0.7))
    elif kind == "beanie":
        add(_RIM * (0.055, 1.25), -0.004, darker(cloth, 0.75))
        add(DISC * 0.016, -0.082, darker(cloth, 0.9), 0.064)
    elif kind == "brimmed hat":
        add(DISC * (0.095, 0.017), -0.022, darker(cloth, 0.9), 0.061)
        add(_RIM * (0.047, 0.9), -0.032, darker(cloth, 0.5))
    else:
        stripe = mix(cloth, (20.0, 20.0, 22.0), 0.7)
        add(_RIM * (0.062, 0.7), -0.004, stripe)
        for side in (-0.028, 0.0, 0.028):
            add(box(side - 0.005, -0.055, side + 0.006, -0.02), 0.0, stripe)
