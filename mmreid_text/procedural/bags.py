"""The bag of a figure."""

from mmreid_text.procedural.figure import DISC, Figure, band, box, moved, trapeze
from mmreid_text.procedural.palette import darker


def draw_bag(figure: Figure) -> None:
    """Draw the bag, if there is one."""
    draw = {
        "backpack": _draw_backpack,
        "handbag": _draw_handbag,
        "shoulder bag": _draw_shoulder_bag,
        "suitcase": _draw_suitcase,
    }.get(figure.value["bag"])
    if draw:
        draw(figure)


def _draw_backpack(figure: Figure) -> None:
    canvas, cloth = figure.canvas, figure.color["bag"]
    rows = [(0.175, 0.052, 0.036), (0.19, 0.068, 0.046), (0.39, 0.074, 0.052), (0.42, 0.062, 0.042)]
    sack = canvas.strip(rows, z=-0.105)
    depth = -0.105 * canvas.cos
    canvas.polygon(sack.outline(), cloth, depth)
    if canvas.cos < 0.35:
        band(canvas, sack, 0.23, 0.24, darker(cloth, 0.6), depth + 0.001)
        canvas.polygon(sack.patch([-0.6, 0.6, 0.6, -0.6], [0.30, 0.30, 0.395, 0.395]), darker(cloth), depth + 0.001)
    for side in (-0.055, 0.055):
        canvas.limb((side, 0.163, 0.04), (side * 1.15, 0.34, 0.066), (0.012, 0.011), darker(cloth, 0.85))


def _draw_handbag(figure: Figure) -> None:
    canvas, cloth = figure.canvas, figure.color["bag"]
    x, y, depth = canvas.project(figure.bones.wrists[0 if figure.look.side < 0 else 1])
    top, half = y + 0.055, 0.05 + 0.012 * abs(canvas.sin)
    depth += 0.02 if depth > -0.03 else -0.05
    for lean in (-0.6, 0.6):
        handle = moved(box(-0.004, y, 0.006, top), x)
        handle[2:, 0] += lean * half
        canvas.polygon(handle, darker(cloth, 0.75), depth)
    canvas.polygon(moved(trapeze(half * 0.85, top, half, top + 0.085), x), cloth, depth + 0.001)
    canvas.polygon(moved(trapeze(half * 0.85, top, half * 0.9, top + 0.025), x), darker(cloth), depth + 0.002)


def _draw_shoulder_bag(figure: Figure) -> None:
    canvas, cloth, side = figure.canvas, figure.color["bag"], figure.look.side
    for z in (-0.068, 0.068):
        start, end = (-side * 0.06, 0.16, z * 0.7), (side * 0.095, 0.43, z)
        canvas.limb(start, end, (0.010, 0.010), darker(cloth, 0.85), 0.004 if z * canvas.cos > 0 else -0.004)
    x, y, depth = canvas.project((side * 0.112, 0.47, 0.0))
    half = 0.045 + 0.025 * abs(canvas.sin)
    depth += 0.05 if depth > -0.05 else -0.02
    canvas.polygon(moved(trapeze(half, -0.045, half, 0.05), x, y), cloth, depth)
    canvas.polygon(moved(trapeze(half, -0.045, half * 0.8, 0.0), x, y), darker(cloth, 0.75), depth + 0.001)


def _draw_suitcase(figure: Figure) -> None:
    canvas, cloth, side = figure.canvas, figure.color["bag"], figure.look.side
    x, _, depth = canvas.project((side * 0.165, 0.8, -0.05))
    hand_x, hand_y, _ = canvas.project(figure.bones.wrists[0 if side < 0 else 1])
    half = canvas.width(0.05, 0.062)
    depth -= 0.1
    pole = moved(box(-0.006, hand_y, 0.006, 0.68), x)
    pole[:2, 0] += hand_x - x
    canvas.polygon(pole, (90.0, 90.0, 95.0), depth)
    canvas.polygon(moved(trapeze(half * 0.85, 0.67, half, 0.685), x), cloth, depth + 0.001)
    canvas.polygon(moved(trapeze(half, 0.685, half, 0.95), x), cloth, depth + 0.001)
    for across in (-0.4, 0.3):
        groove = box(half * across, 0.69, half * (across + 0.12), 0.94)
        canvas.polygon(moved(groove, x), darker(cloth, 0.75), depth + 0.002)
    for wheel in (-0.7, 0.7):
        canvas.polygon(moved(DISC * 0.013, x + wheel * half, 0.962), (35.0, 35.0, 38.0), depth + 0.002)
