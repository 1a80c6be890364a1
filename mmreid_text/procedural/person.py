"""Draws a person: poses the skeleton, dresses it and orders the polygons."""

import numpy as np

from mmreid_text.procedural.attributes import ATTRIBUTES, INDEX
from mmreid_text.procedural.bags import draw_bag
from mmreid_text.procedural.body import Canvas, stand
from mmreid_text.procedural.clothes import draw_arms, draw_legs, draw_trunk
from mmreid_text.procedural.figure import Figure
from mmreid_text.procedural.head import draw_head
from mmreid_text.procedural.palette import HAIR, Color, Look, garment_color
from mmreid_text.procedural.shots import Shot


def draw_person(codes: list[int], look: Look, shot: Shot) -> list[tuple[np.ndarray, Color]]:
    """Polygons (n, 2) of a person from far to near, in units of the person's height, with the crown at y = 0.

    Args:
        codes: A attribute codes.
        look: What of the identity no caption tells.
        shot: The pose.
    """
    value = {name: ATTRIBUTES[name][c] if c >= 0 else "" for name, c in zip(ATTRIBUTES, codes)}
    color = {"skin": look.skin}
    for garment in ("hat", "upper", "lower", "shoes", "bag"):
        number = codes[INDEX[f"{garment}_color"]]
        color[garment] = garment_color(max(number, 0), look.shade[garment])
    color["inner"] = garment_color(max(codes[INDEX["inner"]] - 1, 0), look.shade["inner"])
    color["hair"] = garment_color(max(codes[INDEX["hair_color"]], 0), look.shade["hair"], HAIR)
    # A hand that holds something hangs; the other one may be bent.
    bent = -look.side if shot.arms > 0.75 else 0
    bones = stand(value["sex"] == "woman", look.build, look.legs, shot.phase, shot.stride, shot.arms, bent)
    figure = Figure(Canvas(shot.yaw, shot.pitch), bones, look, value, color, codes)
    draw_legs(figure)
    draw_trunk(figure)
    draw_arms(figure)
    draw_head(figure, shot.head)
    draw_bag(figure)
    return figure.canvas.painted()
