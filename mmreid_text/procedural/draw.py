"""Draws the picture of a shot: scenery, person, light, blur and sensor noise at any resolution."""

import functools
import math

import cv2
import numpy as np

from mmreid_text.procedural.palette import Color, Look
from mmreid_text.procedural.person import draw_person
from mmreid_text.procedural.scenery import background, occluder
from mmreid_text.procedural.shots import ASPECT, Shot
from mmreid_text.randomness import uniform

_SHIFT = 4  # fractional bits of polygon corners
_FINEST = 160  # pictures lower than this are drawn larger and averaged down
_NOISE_SIDE = 640


def render(codes: list[int], look: Look, shot: Shot, size: tuple[int, int]) -> np.ndarray:
    """Draw one person.

    Args:
        codes: A attribute codes.
        look: The identity's shades and proportions.
        shot: Pose, camera, light and scene.
        size: Height and width in pixels, each at least 8. Everything scales with it: the same shot at another size is
            the same picture, stretched as resizing would.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    factor = math.ceil(_FINEST / size[0])
    height, width = size[0] * factor, size[1] * factor
    image = _scenery(shot, height, width)
    _fill(image, _placed(draw_person(codes, look, shot), shot), (height, width))
    _fill(image, list(occluder(shot.occluder, shot.scene)), (height, width))
    if shot.shadow:
        _cast_shadow(image, shot)
    sigma = shot.blur * height
    if sigma > 0.4:
        image = cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    if factor > 1:
        image = cv2.resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA)
    return _develop(image, shot)


def _fill(image: np.ndarray, parts: list[tuple[np.ndarray, Color]], size: tuple[int, int]) -> None:
    """Paint polygons given in the unit frame."""
    if not parts:
        return
    # OpenCV's pixel centres lie on whole numbers.
    corners = np.concatenate([points for points, _ in parts]) * (size[1], size[0]) - 0.5
    fixed = np.rint(corners * (1 << _SHIFT)).astype(np.int32)
    start = 0
    for points, color in parts:
        stop = start + len(points)
        cv2.fillPoly(image, [fixed[start:stop]], color, cv2.LINE_AA, _SHIFT)
        start = stop


def _placed(parts: list[tuple[np.ndarray, Color]], shot: Shot) -> list[tuple[np.ndarray, Color]]:
    """Body coordinates to the unit frame: perspective, rotation, scale and shift."""
    if not parts:
        return parts
    every = np.concatenate([points for points, _ in parts])
    x = every[:, 0] * (1.0 + 0.25 * shot.pitch * (0.5 - every[:, 1]))  # a camera above: heads wide, feet narrow
    y = every[:, 1] - 0.5
    cos, sin = math.cos(shot.rotation), math.sin(shot.rotation)
    across = 0.5 + shot.shift + shot.scale * ASPECT * (x * cos - y * sin)
    down = shot.top + shot.scale * (0.5 + x * sin + y * cos)
    placed = np.stack([across, down], 1)
    ends = np.cumsum([len(points) for points, _ in parts])
    return [(piece, color) for piece, (_, color) in zip(np.split(placed, ends[:-1]), parts)]


def _scenery(shot: Shot, height: int, width: int) -> np.ndarray:
    """The background, drawn coarsely and enlarged: it lies out of focus."""
    low = (max(8, height // 3), max(8, width // 3))
    image = np.empty((*low, 3), np.uint8)
    _fill(image, list(background(shot.background, shot.scene)), low)
    ground = shot.top + shot.scale * 0.975
    if ground < 1.05:
        turn = np.linspace(0, 2 * math.pi, 16, endpoint=False)
        ellipse = np.stack([0.5 + shot.shift + 0.28 * np.cos(turn) * shot.scale, ground + 0.014 * np.sin(turn)], 1)
        at = min(low[0] - 1, max(0, int(ground * low[0])))
        red, green, blue = (0.6 * image[at, low[1] // 2].astype(float)).tolist()
        _fill(image, [(ellipse, (red, green, blue))], low)
    return _grained(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))


def _grained(image: np.ndarray) -> np.ndarray:
    """A coarse texture over the background."""
    height, width = image.shape[:2]
    coarse = _noise_tile()[: min(_NOISE_SIDE, height // 2 + 1), : min(_NOISE_SIDE, width // 2 + 1)]
    grain = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.addWeighted(image, 1.0, grain, 0.12, -0.12 * 128)


def _cast_shadow(image: np.ndarray, shot: Shot) -> None:
    """Darken one side of a slanted soft edge."""
    at, slant, upper = shot.scene[0], 2.0 * (shot.scene[1] - 0.5), shot.scene[2] < 0.5
    y, x = np.mgrid[0:1:24j, 0:1:10j]
    side = (y - 0.25 - 0.5 * at) + 0.4 * slant * (x - 0.5)
    mask = 1.0 / (1.0 + np.exp((side if upper else -side) * 25.0))
    factor = (1.0 - 0.45 * shot.shadow * mask).astype(np.float32)
    full = cv2.resize(factor, (image.shape[1], image.shape[0]), interpolation=cv2.INTER_LINEAR)
    cv2.multiply(image, cv2.merge([full, full, full]), dst=image, dtype=cv2.CV_8U)


def _develop(image: np.ndarray, shot: Shot) -> np.ndarray:
    """Light, colour and noise of the sensor."""
    if shot.saturation != 1.0:
        grey = np.array([0.299, 0.587, 0.114]) * (1.0 - shot.saturation)
        image = cv2.transform(image, np.tile(grey, (3, 1)) + np.eye(3) * shot.saturation)
    level = np.arange(256) / 255.0
    tone = 0.5 + shot.contrast * (level**shot.gamma - 0.5)
    cast = np.array([1.0 + 0.10 * shot.warmth, 1.0 + 0.02 * shot.warmth, 1.0 - 0.12 * shot.warmth])
    curve = np.rint(255 * shot.gain * tone[:, None] * cast).clip(0, 255).astype(np.uint8)  # (256, 3)
    image = cv2.LUT(image, curve[None])
    if shot.noise > 0.5:
        height, width = image.shape[:2]
        tile = _noise_tile()
        if height > _NOISE_SIDE or width > _NOISE_SIDE:
            tile = np.tile(tile, (height // _NOISE_SIDE + 2, width // _NOISE_SIDE + 2, 1))
        top, left = (int(u * (side - length)) for u, side, length in zip(shot.scene[3:5], tile.shape, (height, width)))
        grain = tile[top : top + height, left : left + width]
        strength = shot.noise / 32.0 * min(1.0, math.sqrt(height / 256))  # averaging pixels averages noise
        image = cv2.addWeighted(image, 1.0, grain, strength, -128.0 * strength)
    return image


@functools.lru_cache(maxsize=1)
def _noise_tile() -> np.ndarray:
    """uint8 (640, 640, 3): Gaussian noise of mean 128 and standard deviation 32, the same in every process."""
    draws = uniform(0, 0, np.arange(_NOISE_SIDE), "sensor noise", _NOISE_SIDE * 3 * 2).reshape(
        2, _NOISE_SIDE, _NOISE_SIDE, 3
    )
    normal = np.sqrt(-2.0 * np.log1p(-draws[0])) * np.cos(2 * math.pi * draws[1])  # Box and Muller (1958)
    return np.rint(128 + 32 * normal).clip(0, 255).astype(np.uint8)
