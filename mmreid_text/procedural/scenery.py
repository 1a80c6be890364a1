"""Backgrounds and things in front of a person, as coloured polygons in the unit frame (x right, y down, both 0..1)."""

from collections.abc import Callable, Iterator

import numpy as np

from mmreid_text.procedural.body import capsule
from mmreid_text.procedural.palette import Color, darker, mix

Polygons = Iterator[tuple[np.ndarray, Color]]


def _box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])


def _grey(level: float, tint: float) -> Color:
    """A grey of brightness 0..1 that leans to blue (tint 0) or to yellow (tint 1)."""
    lean = 14.0 * (tint - 0.5)
    return (255 * level + lean, 255 * level + 0.3 * lean, 255 * level - lean)


def _floor(top: float, near: Color, bands: int = 5) -> Polygons:
    """A floor from ``top`` down, brighter towards the viewer."""
    for i in range(bands):
        y = top + (1 - top) * i / bands
        yield _box(0, y, 1, 1), darker(near, 0.8 + 0.2 * i / (bands - 1))


def _plain(u: tuple[float, ...]) -> Polygons:
    tone = _grey(0.35 + 0.5 * u[0], u[1])
    for i in range(6):
        yield _box(0, i / 6, 1, 1), darker(tone, 0.82 + 0.06 * i * (u[2] - 0.2))


def _wall(u: tuple[float, ...]) -> Polygons:
    wall, line = _grey(0.45 + 0.4 * u[0], u[1]), 0.6 + 0.25 * u[2]
    yield _box(0, 0, 1, line), mix(wall, (170.0, 90.0, 60.0), 0.45 * (u[3] > 0.6))
    if u[3] > 0.6:  # bricks
        for row in range(int(line / 0.06)):
            for brick in range(4):
                left = brick * 0.3 - 0.15 * (row % 2)
                yield _box(left, row * 0.06, left + 0.012, row * 0.06 + 0.06), darker(wall, 0.8)
            yield _box(0, row * 0.06, 1, row * 0.06 + 0.006), darker(wall, 0.8)
    elif u[3] > 0.3:  # panels
        for at in (0.15 + 0.2 * u[4], 0.55 + 0.3 * u[5]):
            yield _box(at, 0, at + 0.02, line), darker(wall, 0.75)
    yield from _floor(line, _grey(0.3 + 0.35 * u[6], u[7]))


def _street(u: tuple[float, ...]) -> Polygons:
    horizon = 0.35 + 0.25 * u[0]
    yield _box(0, 0, 1, horizon), _grey(0.62 + 0.25 * u[1], 0.2)
    for i in range(3):  # houses with windows
        left, top, house = i * 0.36 - 0.1 + 0.1 * u[2], 0.05 + 0.15 * u[3 + i], _grey(0.35 + 0.3 * u[4 + i], u[5 + i])
        yield _box(left, top, left + 0.33, horizon + 0.02), house
        for row in range(3):
            for column in range(2):
                x, y = left + 0.05 + 0.14 * column, top + 0.04 + 0.09 * row
                yield _box(x, y, x + 0.08, y + 0.045), darker(house, 0.6)
    yield from _floor(horizon, _grey(0.32 + 0.25 * u[9], u[10]))
    kerb = horizon + 0.12 + 0.2 * u[11]
    yield _box(0, kerb, 1, kerb + 0.02), _grey(0.7, 0.5)


def _crossing(u: tuple[float, ...]) -> Polygons:
    road = _grey(0.25 + 0.15 * u[0], u[1])
    yield _box(0, 0, 1, 1), darker(road, 1.25)
    yield from _floor(0.25 + 0.2 * u[2], road)
    slant = 0.25 * (u[3] - 0.5)
    for i in range(6):
        y = 0.4 + 0.1 * i + 0.05 * u[4]
        stripe = np.array([(0, y - slant), (1, y + slant), (1, y + slant + 0.045), (0, y - slant + 0.045)])
        yield stripe, _grey(0.72 + 0.15 * u[5], 0.5)


def _tiles(u: tuple[float, ...]) -> Polygons:
    line = 0.3 + 0.25 * u[0]
    yield _box(0, 0, 1, line), _grey(0.5 + 0.35 * u[1], u[2])
    floor = _grey(0.5 + 0.35 * u[3], u[4])
    yield from _floor(line, floor)
    joint, vanish = darker(floor, 0.82), 0.3 + 0.4 * u[5]
    for i in range(-4, 6):
        foot = vanish + 0.3 * i
        yield (
            np.array([(vanish + 0.05 * i, line), (foot, 1), (foot + 0.02, 1), (vanish + 0.05 * i + 0.008, line)]),
            joint,
        )
    for i in range(1, 6):
        y = line + (1 - line) * (i / 6) ** 1.8
        yield _box(0, y, 1, y + 0.008), joint


def _shop(u: tuple[float, ...]) -> Polygons:
    line = 0.55 + 0.2 * u[0]
    yield _box(0, 0, 1, line), _grey(0.7 + 0.2 * u[1], 0.7)
    for row in range(3):
        for column in range(4):
            share = u[2 + (row * 4 + column) % 12]
            goods = (
                60 + 190 * share,
                60 + 190 * u[3 + (5 * row + column) % 12],
                60 + 190 * u[4 + (3 * row + column) % 12],
            )
            left, top = column * 0.26 + 0.02, 0.06 + row * 0.17
            yield _box(left, top, left + 0.2, top + 0.12), mix(goods, (205.0, 200.0, 195.0), 0.5)
        yield _box(0, 0.185 + row * 0.17, 1, 0.2 + row * 0.17), _grey(0.5, 0.6)
    yield from _floor(line, _grey(0.6 + 0.25 * u[5], 0.7))


def _platform(u: tuple[float, ...]) -> Polygons:
    line = 0.45 + 0.15 * u[0]
    yield _box(0, 0, 1, line), _grey(0.25 + 0.25 * u[1], 0.3)
    train = mix(_grey(0.6, 0.3), (60.0, 90.0, 140.0), 0.6 * u[2])
    if u[3] > 0.4:
        yield _box(0, 0.12, 1, line - 0.02), train
        for i in range(3):
            left = 0.04 + 0.35 * i + 0.1 * u[4]
            yield _box(left, 0.18, left + 0.2, 0.3), darker(train, 0.45)
    else:
        for i in range(3):
            left = 0.1 + 0.38 * i + 0.1 * u[4]
            yield _box(left, 0, left + 0.07, line), _grey(0.5, 0.4)
    yield from _floor(line, _grey(0.38 + 0.2 * u[5], 0.35))
    yield _box(0, line + 0.07, 1, line + 0.1), (196.0, 176.0, 70.0)


def _park(u: tuple[float, ...]) -> Polygons:
    horizon = 0.4 + 0.2 * u[0]
    yield _box(0, 0, 1, horizon), (165 + 50 * u[1], 190 + 40 * u[1], 210 + 30 * u[1])
    for i in range(6):
        x, y = 0.2 * i - 0.02 + 0.08 * u[2 + i], horizon - 0.12 - 0.2 * u[3 + i]
        leaf = (50 + 45 * u[4 + i], 85 + 55 * u[4 + i], 45 + 25 * u[5 + i])
        yield capsule(x, y, x + 0.02, horizon, (0.16, 0.12)), leaf
    yield from _floor(horizon, mix((105.0, 125.0, 80.0), _grey(0.5, 0.6), u[10]))


_KINDS: dict[str, Callable[[tuple[float, ...]], Polygons]] = {
    "plain": _plain,
    "wall": _wall,
    "street": _street,
    "crossing": _crossing,
    "tiles": _tiles,
    "shop": _shop,
    "platform": _platform,
    "park": _park,
}


def background(kind: str, scene: tuple[float, ...]) -> Polygons:
    """Polygons of a background; the first one covers what no later one does.

    Args:
        kind: One of plain, wall, street, crossing, tiles, shop, platform, park.
        scene: At least 16 numbers in [0, 1).
    """
    yield _box(0, 0, 1, 1), _grey(0.5, 0.5)
    yield from _KINDS[kind](scene)


def occluder(kind: str, scene: tuple[float, ...]) -> Polygons:
    """Polygons of what stands in front of the person: "pole", "passer-by" or "box" (which hides the feet)."""
    u = scene[::-1]
    if kind == "pole":
        x, tone = 0.12 + 0.76 * u[0], _grey(0.3 + 0.4 * u[1], u[2])
        yield _box(x, 0, x + 0.05, 1), tone
        yield _box(x + 0.03, 0, x + 0.05, 1), darker(tone, 0.7)
    elif kind == "passer-by":
        left = u[0] < 0.5
        x = -0.06 if left else 1.06
        cloth = _grey(0.15 + 0.5 * u[1], u[2])
        yield capsule(x, 0.62, x, 1.1, (0.16, 0.13)), darker(cloth, 0.6)
        yield capsule(x, 0.34, x, 0.66, (0.2, 0.17)), cloth
        yield capsule(x, 0.17, x, 0.2, (0.1, 0.1)), (190.0, 150.0, 125.0)
    elif kind == "box":
        y, tone = 0.80 + 0.05 * u[0], mix(_grey(0.25 + 0.4 * u[1], u[2]), (60.0, 95.0, 70.0), 0.5 * u[3])
        yield _box(-0.1, y, 1.1, 1.1), tone
        yield _box(-0.1, y, 1.1, y + 0.025), mix(tone, (255.0, 255.0, 255.0), 0.25)
