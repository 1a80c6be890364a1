"""Clothes of a figure: legs and shoes, trunk, pattern and sleeves."""

import math

import numpy as np

from mmreid_text.procedural.attributes import INDEX
from mmreid_text.procedural.body import Canvas, Point, Strip
from mmreid_text.procedural.figure import ARMS, DISC, LEGS, SKIRT, Figure, band, between, box, moved
from mmreid_text.procedural.palette import Color, darker, mix, pattern_color


def draw_legs(figure: Figure) -> None:
    """Draw legs, lower clothes and shoes."""
    canvas, bones, color, kind = figure.canvas, figure.bones, figure.color, figure.value["lower"]
    cloth, skin = color["lower"], color["skin"]
    loose = figure.look.loose * (0.92 if kind == "jeans" else 1.06)
    covered = kind in ("trousers", "jeans")
    for side in (0, 1):
        hip, knee, ankle, toe = bones.hips[side], bones.knees[side], bones.ankles[side], bones.toes[side]
        tone = 0.86 if canvas.project(knee)[2] < 0 else 1.0
        leg, bare = darker(cloth, tone), darker(skin, tone)
        if covered:
            canvas.limb(knee, ankle, (0.038 * loose, 0.029 * loose), leg, LEGS)
            canvas.limb(hip, knee, (0.05, 0.039 * loose), leg, LEGS + 0.001)
            if kind == "jeans":  # the worn, lighter front of denim
                faded = mix(leg, (235.0, 238.0, 245.0), 0.28)
                canvas.limb(between(hip, knee, 0.35), between(knee, ankle, 0.2), (0.012, 0.014), faded, LEGS + 0.002)
        else:
            canvas.limb(knee, ankle, (0.028, 0.019), bare, LEGS)
            canvas.limb(hip, knee, (0.045, 0.030), bare, LEGS)
            if kind == "shorts":
                hem = between(hip, knee, 0.78)
                canvas.limb(hip, hem, (0.052, 0.046 * figure.look.loose), leg, LEGS + 0.06)
        _draw_shoe(figure, ankle, toe, tone)
    if kind in ("skirt", "long skirt"):
        _draw_skirt(figure, bones.hips[0][1] - 0.06, 0.74 if kind == "skirt" else 0.91, cloth)
    elif kind in ("trousers", "jeans", "shorts"):
        seat = canvas.strip([(0.46, 0.072 * figure.look.build, 0.058), (0.55, 0.088 * figure.look.build, 0.066)])
        canvas.polygon(seat.outline(), cloth, LEGS + 0.15)


def _draw_skirt(figure: Figure, top: float, hem: float, cloth: Color) -> None:
    canvas, bones, build = figure.canvas, figure.bones, figure.look.build
    reach = max(abs(bones.knees[0][2]), abs(bones.knees[1][2]))
    flare = 0.092 + 0.11 * (hem - top)
    waist, hips = 0.068 * build, 0.09 * build
    rows = [
        (top, waist, 0.055),
        (top + 0.09, hips, 0.07),
        (hem - 0.02, flare, 0.07 + reach),
        (hem, flare * 1.01, 0.07 + reach),
    ]
    strip = canvas.strip(rows)
    canvas.polygon(strip.outline(), cloth, SKIRT)
    for across in (-0.55, 0.0, 0.5):  # folds
        y = np.array([top + 0.12, hem, hem, top + 0.12])
        fold = strip.point(np.array([across, across - 0.04, across + 0.12, across + 0.03]), y)
        canvas.polygon(fold, darker(cloth, 0.85), SKIRT + 0.001)


def _draw_shoe(figure: Figure, ankle: Point, toe: Point, tone: float) -> None:
    canvas, kind = figure.canvas, figure.value["shoes"]
    shoe = darker(figure.color["shoes"], 0.5 + 0.5 * tone)
    heel = (ankle[0], ankle[1] + 0.018, ankle[2] - 0.018)
    bias = LEGS + 0.01
    if kind == "boots":
        shaft = (ankle[0], ankle[1] - 0.1, ankle[2] - 0.1 * (ankle[2] - figure.bones.hips[0][2]) * 0.4)
        canvas.limb(shaft, (ankle[0], ankle[1], ankle[2]), (0.037, 0.031), shoe, bias + 0.002)
        canvas.limb(shaft, shaft, (0.038, 0.038), darker(shoe, 0.85), bias + 0.001)
        canvas.limb(heel, toe, (0.026, 0.023), shoe, bias + 0.003)
    elif kind == "sandals":
        canvas.limb(heel, toe, (0.019, 0.019), darker(figure.color["skin"], tone), bias)
        sole = ((heel[0], heel[1] + 0.012, heel[2]), (toe[0], toe[1] + 0.012, toe[2]))
        canvas.limb(sole[0], sole[1], (0.013, 0.013), shoe, bias + 0.001)
        strap = between(heel, toe, 0.55)
        canvas.limb((strap[0], strap[1] - 0.02, strap[2]), strap, (0.012, 0.016), shoe, bias + 0.002)
    else:
        canvas.limb(heel, toe, (0.025, 0.022), shoe, bias)
        if kind == "sneakers":  # a thick sole of the other brightness
            edge = (240.0, 240.0, 238.0) if sum(figure.color["shoes"]) < 560 else (120.0, 122.0, 128.0)
            sole = ((heel[0], heel[1] + 0.02, heel[2]), (toe[0], toe[1] + 0.018, toe[2]))
            canvas.limb(sole[0], sole[1], (0.009, 0.009), edge, bias + 0.001)
        else:
            gloss = between(heel, toe, 0.75)
            canvas.blob(
                (gloss[0], gloss[1] - 0.008, gloss[2]),
                (0.008, 0.004),
                mix(shoe, (255.0, 255.0, 255.0), 0.45),
                bias + 0.02,
            )


def _trunk_rows(figure: Figure, hem: float, flare: float) -> list[tuple[float, float, float]]:
    build = figure.look.build
    shoulder, chest, waist, hips = (0.080, 0.083, 0.068, 0.086) if figure.woman else (0.092, 0.096, 0.085, 0.083)
    rows = [
        (0.148, 0.030, 0.028),
        (0.166, shoulder * build, 0.048),
        (0.25, chest * build, 0.062),
        (0.39, waist * build, 0.058 * build),
        (0.50, hips * build * 1.04, 0.068 * build),
    ]
    return [row for row in rows if row[0] < hem - 0.01] + [(hem, hips * build * 1.06 + flare, 0.07 * build + flare)]


def draw_trunk(figure: Figure) -> None:
    """Draw neck and upper clothes, sleeves aside."""
    canvas, kind, cloth = figure.canvas, figure.value["upper"], figure.color["upper"]
    hem = {"coat": 0.72, "dress": 0.73, "jacket": 0.545, "hoodie": 0.55, "tank top": 0.52}.get(kind, 0.54)
    strip = canvas.strip(_trunk_rows(figure, hem, {"coat": 0.03, "dress": 0.055}.get(kind, 0.004)))
    canvas.polygon(strip.outline(), cloth, 0.0)
    heights = strip.y[0] + (strip.y[-1] - strip.y[0]) * np.array([0.12, 0.5, 1.0, 1.0, 0.5, 0.12])
    canvas.polygon(strip.patch([0.62, 0.5, 0.55, 1.0, 1.0, 1.0], heights), darker(cloth, 0.86), 0.0001)
    _draw_pattern(figure, strip, figure.value["upper_pattern"])
    is_open = figure.value["inner"] not in ("", "none")
    if canvas.cos > 0.3 or (abs(canvas.cos) <= 0.3 and is_open):
        _draw_opening(figure, strip, is_open)
        _draw_neckline(figure, strip)
    if kind in ("sweater", "hoodie", "jacket"):
        band(canvas, strip, hem - 0.025, hem, darker(cloth, 0.72), 0.0005)
    if kind in ("dress", "coat") and figure.look.pattern > 1.05:  # a belt
        band(canvas, strip, 0.40, 0.42, darker(cloth, 0.6), 0.0005)
    if kind == "tank top":  # bare shoulders
        for side in (-1.0, 1.0):
            corners = side * np.array([1.0, 1.02, 1.02, 0.72])
            canvas.polygon(strip.point(corners, np.array([0.15, 0.165, 0.225, 0.19])), figure.color["skin"], 0.0006)
    if kind == "hoodie":
        canvas.blob((0.0, 0.16, -0.045), (0.06, 0.035), darker(cloth, 0.85))
    neck = -0.004 if canvas.cos < 0 else 0.0008
    canvas.limb((0.0, 0.11, 0.0), (0.0, 0.155, 0.0), (0.026, 0.028), darker(figure.color["skin"], 0.9), neck)


def _draw_opening(figure: Figure, strip: Strip, is_open: bool) -> None:
    """An inner layer, or the zip, buttons and pocket of a closed front."""
    canvas, kind, cloth = figure.canvas, figure.value["upper"], figure.color["upper"]
    middle, hem = _middle(figure), float(strip.y[-1])
    if is_open:
        width = max(0.55, canvas.cos) * np.array([0.6, 0.30, 0.30, 0.40, -0.40, -0.30, -0.30, -0.6])
        edges = [0.15, 0.2, 0.4, hem, hem, 0.4, 0.2, 0.15]
        canvas.polygon(strip.patch(middle + width, edges), figure.color["inner"], 0.0006)
    elif kind in ("jacket", "coat"):
        line = mix(cloth, (230.0, 230.0, 230.0), 0.5) if kind == "jacket" else darker(cloth, 0.6)
        zip_line = middle + np.array([-0.05, -0.05, 0.05, 0.05])
        canvas.polygon(strip.patch(zip_line, [0.17, hem, hem, 0.17]), line, 0.0006)
    if kind in ("shirt", "coat") and not is_open:
        button = darker(cloth, 0.45) if sum(cloth) > 240 else (190.0, 190.0, 190.0)
        heights = np.arange(0.23, hem - 0.02, 0.055)
        for x, y in strip.point(np.full(len(heights), middle), heights):
            canvas.polygon(box(x - 0.006, y - 0.005, x + 0.006, y + 0.005), button, 0.0009)
    if kind == "hoodie":
        pocket = middle + np.array([-0.3, -0.5, 0.5, 0.3])
        canvas.polygon(strip.patch(pocket, [0.42, 0.5, 0.5, 0.42]), darker(cloth, 0.78), 0.0007)
        for side in (-0.16, 0.16):
            cord = middle + side + np.array([-0.02, -0.02, 0.03, 0.03])
            canvas.polygon(strip.patch(cord, [0.17, 0.25, 0.25, 0.17]), (235.0, 235.0, 230.0), 0.0009)


def _draw_neckline(figure: Figure, strip: Strip) -> None:
    """A collar, or the skin that a round neck shows."""
    canvas, kind, cloth = figure.canvas, figure.value["upper"], figure.color["upper"]
    middle = _middle(figure)
    if kind in ("shirt", "coat", "jacket"):
        collar = mix(cloth, (250.0, 250.0, 250.0), 0.35) if kind == "shirt" else darker(cloth, 0.7)
        for side in (-1.0, 1.0):
            corners = middle + side * np.array([0.02, 0.55, 0.35, 0.05])
            canvas.polygon(strip.patch(corners, [0.152, 0.15, 0.19, 0.20]), collar, 0.0009)
    deep = {"t-shirt": 0.172, "tank top": 0.2, "dress": 0.19, "sweater": 0.163}.get(kind)
    if deep:
        corners = middle + np.array([-0.9, -0.4, 0.0, 0.4, 0.9])
        skin = darker(figure.color["skin"], 0.95)
        canvas.polygon(strip.patch(corners, [0.147, 0.155, deep, 0.155, 0.147]), skin, 0.0009)


def _middle(figure: Figure) -> float:
    """Where across the strip the front's middle line lies: it wanders to the side that the figure faces."""
    return 0.75 * figure.canvas.sin


def _draw_pattern(figure: Figure, strip: Strip, pattern: str) -> None:
    canvas, cloth = figure.canvas, figure.color["upper"]
    second = pattern_color(figure.codes[INDEX["upper_color"]], cloth)
    step, hem, depth = 0.036 * figure.look.pattern, float(strip.y[-1]), 0.0003
    if pattern in ("striped", "checked"):
        thick = step * (0.5 if pattern == "striped" else 0.3)
        for top in np.arange(0.19, hem - thick, step * (1.25 if pattern == "striped" else 1.1)):
            band(canvas, strip, top, top + thick, second, depth)
    if pattern == "checked":
        wide = 0.3 * step / 0.085
        for across in np.arange(-0.85, 0.95, 0.42):
            edges = across + np.array([0, 0, 0, wide, wide, wide])
            canvas.polygon(strip.patch(edges, [0.168, 0.26, hem, hem, 0.26, 0.168]), mix(second, cloth, 0.25), depth)
    elif pattern == "dotted":
        rows = np.arange(0.195, hem - 0.01, step * 0.95)
        for number, height in enumerate(rows):
            across = np.arange(-0.8 + 0.22 * (number % 2), 0.95, 0.44)
            for x, y in strip.point(across, np.full(len(across), height)):
                canvas.polygon(moved(DISC * (0.3 * step), x, y), second, depth)
    elif pattern == "printed" and canvas.cos > -0.3:
        (x, y) = strip.point(np.array([0.7 * canvas.sin]), np.array([0.29]))[0]
        badge = DISC * (0.05 * max(0.45, abs(canvas.cos)), 0.05)
        accent = (235.0, 190.0, 40.0) if figure.look.pattern > 1.0 else second
        canvas.polygon(moved(badge, x, y), second, 0.0007)
        canvas.polygon(moved(badge * 0.55, x, y), mix(accent, cloth, 0.3), 0.0008)


def draw_arms(figure: Figure) -> None:
    """Draw arms, hands and sleeves."""
    canvas, bones, kind = figure.canvas, figure.bones, figure.value["upper"]
    cloth, skin = figure.color["upper"], figure.color["skin"]
    thick = {"coat": 1.2, "jacket": 1.15, "hoodie": 1.15, "sweater": 1.1}.get(kind, 1.0) * figure.look.build
    bare = kind == "tank top" or (kind == "dress" and figure.look.loose > 1.05)
    short = kind in ("t-shirt", "dress")
    second = pattern_color(figure.codes[INDEX["upper_color"]], cloth)
    for side in (0, 1):
        shoulder, elbow, wrist = bones.shoulders[side], bones.elbows[side], bones.wrists[side]
        far = canvas.project(shoulder)[2] < -0.04
        tone = 0.82 if far else 0.93
        sleeve, arm = darker(cloth, tone), darker(skin, tone + 0.05)
        canvas.blob(wrist, (0.019, 0.022), arm, ARMS + 0.001)
        if bare or short:
            canvas.limb(elbow, wrist, (0.021, 0.016), arm, ARMS)
            canvas.limb(shoulder, elbow, (0.026, 0.022), arm, ARMS)
            if short and not bare:
                canvas.limb(shoulder, between(shoulder, elbow, 0.62), (0.028, 0.034), sleeve, ARMS + 0.03)
        else:
            canvas.limb(elbow, between(elbow, wrist, 0.93), (0.025 * thick, 0.021 * thick), sleeve, ARMS + 0.002)
            canvas.limb(shoulder, elbow, (0.028 * thick, 0.026 * thick), sleeve, ARMS + 0.001)
        if figure.value["upper_pattern"] in ("striped", "checked") and not bare:
            for at in (0.2, 0.45) if short else (0.2, 0.5, 0.8):
                _ring(canvas, shoulder, elbow, at, 0.028 * thick, darker(second, tone))


def _ring(canvas: Canvas, start: Point, end: Point, at: float, radius: float, color: Color) -> None:
    """A stripe across a sleeve."""
    x0, y0, near = canvas.project(between(start, end, at))
    x1, y1, far = canvas.project(between(start, end, at + 0.13))
    length = math.hypot(x1 - x0, y1 - y0) or 1e-9
    dx, dy = radius * (y1 - y0) / length, -radius * (x1 - x0) / length
    band = np.array([(x0 + dx, y0 + dy), (x1 + dx, y1 + dy), (x1 - dx, y1 - dy), (x0 - dx, y0 - dy)])
    canvas.polygon(band, color, 0.5 * (near + far) + ARMS + 0.03)
