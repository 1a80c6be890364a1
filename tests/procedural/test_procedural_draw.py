"""Drawing: sizes, views, visible attributes, differences between domains."""

import dataclasses
import math

import cv2
import numpy as np
import pytest

from mmreid_text.procedural import DOMAINS, World
from mmreid_text.procedural.attributes import ATTRIBUTES, COLORS, INDEX, code
from mmreid_text.procedural.draw import render
from mmreid_text.procedural.palette import CLOTH, draw_look
from mmreid_text.procedural.scenery import _KINDS
from mmreid_text.procedural.shots import NUM_DRAWS, Camera, take_shot

CAMERA = Camera(noise=(0, 0), blur=(0, 0), shadow=0, occlusion=0, rotation=(0, 0), gain=(1, 1), gamma=(1, 1),
                warmth=(0, 0), saturation=(1, 1), contrast=(1, 1), pitch=(0, 0), shift=(0, 0))  # fmt: skip
PLAIN = dataclasses.replace(take_shot(CAMERA, [0.5] * NUM_DRAWS), yaw=0.0)
PERSON = {
    "sex": "man", "hair_style": "short", "hair_color": "black", "hat": "none", "upper": "t-shirt",
    "upper_color": "red", "upper_pattern": "plain", "lower": "trousers", "lower_color": "blue", "shoes": "sneakers",
    "shoes_color": "white", "bag": "none",
}  # fmt: skip


def person(**changes: str) -> list[int]:
    codes = [-1] * len(ATTRIBUTES)
    for name, value in {**PERSON, **changes}.items():
        codes[INDEX[name]] = code(name, value)
    return codes


def picture(size: tuple[int, int] = (384, 128), yaw: float = 0.0, **changes: str) -> np.ndarray:
    return render(person(**changes), draw_look(0, 0, "test"), dataclasses.replace(PLAIN, yaw=yaw), size)


@pytest.mark.parametrize("size", [(384, 128), (64, 32), (8, 8), (97, 41), (256, 256), (700, 233)])
def test_any_size(size: tuple[int, int]) -> None:
    for domain in DOMAINS:
        image = World(domain, 3, size=size).render(1)
        assert image.shape == (*size, 3)
        assert image.dtype == np.uint8
        assert image.std() > 10


def test_another_size_is_the_same_picture() -> None:
    large, small = World("street", 6, size=(384, 128)), World("street", 6, size=(96, 32))
    for index in range(0, 18, 4):
        resized = cv2.resize(large.render(index), (32, 96), interpolation=cv2.INTER_AREA).astype(float)
        assert np.corrcoef(resized.ravel(), small.render(index).ravel())[0, 1] > 0.95


@pytest.mark.parametrize("color", COLORS)
def test_clothes_show_their_colour_at_64x32(color: str) -> None:
    image = picture((64, 32), upper_color=color, lower_color=color).astype(float)
    for part in (image[20:27, 14:18], image[38:44, 14:18]):
        nearest = np.linalg.norm(CLOTH - part.reshape(-1, 3).mean(0), axis=1).argmin()
        assert COLORS[nearest] == color


@pytest.mark.parametrize(
    ("changes", "rows"),
    [
        ({"hat": "beanie", "hat_color": "yellow"}, (0, 14)),
        ({"hair_style": "bald", "hair_color": "black"}, (0, 14)),
        ({"upper": "coat"}, (10, 46)),
        ({"upper": "tank top"}, (10, 34)),
        ({"upper_pattern": "striped"}, (12, 36)),
        ({"upper": "jacket", "inner": "yellow"}, (12, 36)),
        ({"lower": "shorts"}, (42, 60)),
        ({"lower": "skirt"}, (34, 60)),
        ({"shoes": "boots", "shoes_color": "red"}, (50, 64)),
        ({"bag": "suitcase", "bag_color": "green"}, (40, 64)),
        ({"bag": "handbag", "bag_color": "green"}, (28, 46)),
        ({"bag": "shoulder bag", "bag_color": "green"}, (12, 40)),
    ],
)
def test_an_attribute_changes_the_picture_where_it_is_worn(changes: dict[str, str], rows: tuple[int, int]) -> None:
    change = np.abs(picture((64, 32)).astype(int) - picture((64, 32), **changes)).max(axis=2) > 25
    assert change.sum() >= 4
    assert change[rows[0] : rows[1]].sum() >= 0.75 * change.sum()


def test_a_rear_view_hides_face_print_and_inner_layer() -> None:
    for changes in ({"upper_pattern": "printed"}, {"upper": "jacket", "inner": "yellow"}):
        base = {
            name: "none" if name == "inner" else "plain" if name == "upper_pattern" else v
            for name, v in changes.items()
        }
        front = np.abs(picture(**changes).astype(int) - picture(**base)).max()
        back = np.abs(picture(yaw=math.pi, **changes).astype(int) - picture(yaw=math.pi, **base)).max()
        assert front > 60
        assert back == 0


def test_a_backpack_shows_from_behind_and_barely_from_the_front() -> None:
    bag = {"bag": "backpack", "bag_color": "green"}
    share = {
        yaw: (np.abs(picture(yaw=yaw, **bag).astype(int) - picture(yaw=yaw)).max(axis=2) > 25).mean()
        for yaw in (0.0, math.pi / 2, math.pi)
    }
    assert share[math.pi] > 0.04
    assert share[math.pi / 2] > 0.015
    assert share[0.0] < 0.5 * share[math.pi]


def test_pictures_of_an_identity_differ_and_keep_its_colours() -> None:
    world = World("street", 30, images_per_id=3, size=(64, 32))
    for pid in range(30):
        one, other = world.render(3 * pid), world.render(3 * pid + 1)
        assert np.abs(one.astype(int) - other).mean() > 5


@pytest.mark.parametrize("kind", _KINDS)
def test_every_background_covers_the_frame(kind: str) -> None:
    image = render(person(), draw_look(0, 0, "test"), dataclasses.replace(PLAIN, background=kind), (192, 64))
    assert (image.reshape(-1, 3).max(axis=1) > 0).all()
    assert image[:, :10].std() > 3 or kind == "plain"


def test_domains_look_different() -> None:
    """The targets' mean brightness and warmth stand apart by more than images of one domain vary by chance."""
    mean = {}
    for domain in ("street", "mall", "station"):
        world = World(domain, 120, images_per_id=1, size=(64, 32))
        pixels = np.stack([world.render(i).reshape(-1, 3).mean(0) for i in range(120)])  # (images, 3)
        mean[domain] = pixels.mean(0)
    assert mean["mall"].mean() > mean["station"].mean() + 20
    assert mean["street"][0] - mean["street"][2] > mean["station"][0] - mean["station"][2] + 8
