"""How one picture is taken: pose, camera, light and scene of an image, and what of the person it shows."""

import math
from dataclasses import dataclass

from mmreid_text.procedural.attributes import INDEX, NUM_ATTRIBUTES, code

#: Uniform numbers that one shot consumes.
NUM_DRAWS = 48
#: Height over width of the frame in which people have natural proportions; other sizes stretch it, as resizing does.
ASPECT = 2.5

Range = tuple[float, float]


@dataclass(frozen=True)
class Camera:
    """Ranges of what a domain's cameras do; lengths are fractions of the frame height.

    Attributes:
        scale: Person's height in the frame.
        top: Distance from the upper edge to the crown.
        shift: Sideways shift (fraction of the frame width).
        rotation: Degrees.
        pitch: How far the camera looks down, 0 level to 1 steep.
        crop: Chance of a shot that shows only the upper part.
        front: Chance of a frontal view; the rest is shared by back and side views.
        gain: Factor on brightness.
        gamma: Exponent on brightness.
        warmth: From -1 (blue light) to 1 (yellow light).
        saturation: Factor on the distance to grey.
        contrast: Factor on the distance to mid-grey.
        shadow: Chance of a cast shadow over part of the picture.
        blur: Standard deviation, in thousandths of the frame height.
        noise: Standard deviation, in grey levels.
        occlusion: Chance of something in front of the person.
        backgrounds: Kind -> relative frequency.
    """

    scale: Range = (0.84, 0.94)
    top: Range = (0.02, 0.07)
    shift: Range = (-0.06, 0.06)
    rotation: Range = (-3.0, 3.0)
    pitch: Range = (0.0, 0.5)
    crop: float = 0.0
    front: float = 0.4
    gain: Range = (0.8, 1.15)
    gamma: Range = (0.9, 1.1)
    warmth: Range = (-0.3, 0.3)
    saturation: Range = (0.85, 1.05)
    contrast: Range = (0.9, 1.05)
    shadow: float = 0.2
    blur: Range = (0.0, 3.0)
    noise: Range = (0.0, 8.0)
    occlusion: float = 0.1
    backgrounds: tuple[tuple[str, float], ...] = (("plain", 1.0),)


@dataclass(frozen=True)
class Shot:
    """One picture's pose (``yaw`` 0 = facing the camera, pi / 2 = facing right, radians), camera, light and scene."""

    yaw: float
    phase: float  # of the walk, radians
    stride: float  # 0 standing .. 1 long steps
    arms: float  # 0 hanging .. 1 swinging or bent
    head: float  # yaw of the head against the body
    scale: float
    top: float
    shift: float
    rotation: float  # radians
    pitch: float
    gain: float
    gamma: float
    warmth: float
    saturation: float
    contrast: float
    shadow: float  # 0 none .. 1 strong
    blur: float  # fraction of the frame height
    noise: float  # grey levels
    occluder: str  # "", "pole", "passer-by" or "box"
    background: str
    scene: tuple[float, ...]  # draws that the scenery spends


def take_shot(camera: Camera, draws: list[float]) -> Shot:
    """Turn ``NUM_DRAWS`` uniform numbers into a shot.

    Args:
        camera: Ranges of the domain.
        draws: Numbers in [0, 1).
    """
    u = iter(draws)

    def within(bounds: Range) -> float:
        return bounds[0] + (bounds[1] - bounds[0]) * next(u)

    yaw = _draw_yaw(camera.front, next(u), next(u))
    walking, phase, arms, head = next(u), 2 * math.pi * next(u), next(u), (next(u) - 0.5) * 0.8
    cropped, how_much = next(u) < camera.crop, next(u)
    scale = within(camera.scale) * (1.25 + 0.8 * how_much if cropped else 1.0)
    top, shift, rotation, pitch = (within(r) for r in (camera.top, camera.shift, camera.rotation, camera.pitch))
    gain, gamma, warmth = within(camera.gain), within(camera.gamma), within(camera.warmth)
    saturation, contrast = within(camera.saturation), within(camera.contrast)
    shadowed, depth = next(u) < camera.shadow, next(u)
    blur, noise = within(camera.blur) / 1000, within(camera.noise)
    occluded, which = next(u) < camera.occlusion, next(u)
    occluder = ("pole", "passer-by", "box")[int(which * 3)] if occluded else ""
    total = sum(weight for _, weight in camera.backgrounds)
    place, background = next(u) * total, camera.backgrounds[-1][0]
    for kind, weight in camera.backgrounds:
        if place < weight:
            background = kind
            break
        place -= weight
    return Shot(
        yaw=yaw,
        phase=phase,
        stride=0.12 if walking < 0.3 else 0.45 + 0.75 * (walking - 0.3),
        arms=arms,
        head=head,
        scale=scale,
        top=top,
        shift=shift,
        rotation=math.radians(rotation),
        pitch=pitch,
        gain=gain,
        gamma=gamma,
        warmth=warmth,
        saturation=saturation,
        contrast=contrast,
        shadow=0.3 + 0.5 * depth if shadowed else 0.0,
        blur=blur,
        noise=noise,
        occluder=occluder,
        background=background,
        scene=tuple(u),
    )


def _draw_yaw(front: float, which: float, where: float) -> float:
    """Frontal with chance ``front``; of the rest 40% from behind, 30% from each side; all within 35 degrees."""
    rest = (which - front) / (1.0 - front)
    centre = 0.0 if rest < 0 else math.pi if rest < 0.4 else math.pi / 2 if rest < 0.7 else -math.pi / 2
    return centre + (where - 0.5) * 2 * math.radians(35)


def visible_attributes(shot: Shot, codes: list[int]) -> list[bool]:
    """Which attributes the picture shows well enough to speak of.

    Args:
        shot: The picture.
        codes: The person's A codes.

    Returns:
        A flags, in the order of :data:`~mmreid_text.procedural.attributes.ATTRIBUTES`. An attribute that does not
        apply (code -1) is not visible.
    """
    seen = [value >= 0 for value in codes]
    facing = math.cos(shot.yaw)  # 1 frontal, -1 from behind

    def hide(*names: str) -> None:
        for name in names:
            seen[INDEX[name]] = False

    hair = codes[INDEX["hair_style"]]
    if codes[INDEX["hat"]] and hair in (code("hair_style", "short"), code("hair_style", "bald")):
        hide("hair_style")
    if codes[INDEX["hat"]] and hair in (code("hair_style", "bun"), code("hair_style", "curly")):
        hide("hair_style")
    if hair == code("hair_style", "ponytail") and facing > 0.6:
        hide("hair_style")
    if facing < -0.3:
        hide("inner")
        if codes[INDEX["upper_pattern"]] == code("upper_pattern", "printed"):
            hide("upper_pattern")
    if codes[INDEX["bag"]] == code("bag", "backpack") and facing > 0.6:
        hide("bag", "bag_color")
    if codes[INDEX["bag"]] == 0 and facing > 0.3:
        hide("bag")  # there might be a backpack behind
    bottom = 0.62 if shot.occluder == "box" else 1.0
    if shot.top + shot.scale * 0.97 > 1.02 or shot.occluder == "box":
        hide("shoes", "shoes_color")
    if shot.top + shot.scale * 0.74 > max(bottom, 0.9):
        hide("lower")
    if shot.top + shot.scale * 0.60 > 1.0:
        hide("lower_color")
        if codes[INDEX["bag"]] in (code("bag", "handbag"), code("bag", "suitcase"), 0):
            hide("bag", "bag_color")
    assert len(seen) == NUM_ATTRIBUTES
    return seen
