"""Attributes, shots and worlds: determinism, consistency, prefixes, errors."""

import numpy as np
import pytest

from mmreid_text.procedural import ATTRIBUTES, DOMAINS, World
from mmreid_text.procedural.attributes import INDEX, NUM_VALUES, code, draw_identities
from mmreid_text.procedural.shots import NUM_DRAWS, take_shot, visible_attributes

TARGETS = ("street", "mall", "station")


@pytest.mark.parametrize("domain", DOMAINS)
def test_codes_lie_in_the_attribute_space_and_agree_with_each_other(domain: str) -> None:
    codes = World(domain, 2000).attributes
    assert codes.dtype == np.int8
    assert codes.shape == (2000, len(ATTRIBUTES))
    assert (codes < np.array(NUM_VALUES)).all()
    column = {name: codes[:, i] for name, i in INDEX.items()}
    assert np.array_equal(column["hat_color"] < 0, column["hat"] == 0)
    assert np.array_equal(column["bag_color"] < 0, column["bag"] == 0)
    assert np.array_equal(column["hair_color"] < 0, column["hair_style"] == code("hair_style", "bald"))
    assert np.array_equal(column["lower"] < 0, column["upper"] == code("upper", "dress"))
    assert not (column["inner"] == column["upper_color"] + 1).any()
    men = column["sex"] == 0
    assert 0.3 < men.mean() < 0.7
    skirts = np.isin(column["lower"], [code("lower", "skirt"), code("lower", "long skirt")])
    assert not skirts[men].any()
    assert skirts[~men].any()
    assert len(np.unique(codes[:300], axis=0)) >= 299, "300 people must be told apart by their attributes"


def test_frequencies_are_followed() -> None:
    codes = draw_identities({"hat": {"none": 3.0, "cap": 1.0}, "sex": {"woman": 1.0}}, 20_000, 3, "test")
    assert (codes[:, 0] == 1).all()
    shares = np.bincount(codes[:, INDEX["hat"]], minlength=5) / len(codes)
    assert shares[:2] == pytest.approx([0.75, 0.25], abs=0.015)
    assert not shares[2:].any()


def test_an_unknown_value_is_named() -> None:
    with pytest.raises(ValueError, match=r"'hat' has no value 'crown'.*beanie"):
        draw_identities({"hat": {"crown": 1.0}}, 3, 0, "test")


def test_a_larger_world_begins_with_the_same_people() -> None:
    small, large = World("mall", 20, size=(32, 16)), World("mall", 50, size=(32, 16))
    assert np.array_equal(small.attributes, large.attributes[:20])
    assert np.array_equal(small.render(7), large.render(7))
    assert _texts(small, 7) == _texts(large, 7)


def _texts(world: World, index: int) -> list[str]:
    return [caption.text for caption in world.captions(index)]


def test_the_same_seed_gives_the_same_and_another_gives_others() -> None:
    one, again, other = (World("source", 30, seed=seed, size=(48, 24)) for seed in (1, 1, 2))
    for index in (0, 13, 29):
        assert np.array_equal(one.render(index), again.render(index))
        assert _texts(one, index) == _texts(again, index)
    assert not np.array_equal(one.attributes, other.attributes)
    assert not np.array_equal(one.render(13), other.render(13))
    assert _texts(one, 13) != _texts(other, 13)


def test_splits_and_domains_hold_different_people() -> None:
    worlds = [World(domain, 50, split=split) for domain in TARGETS for split in ("train", "val", "test")]
    for i, one in enumerate(worlds):
        for other in worlds[:i]:
            assert (one.attributes == other.attributes).all(axis=1).mean() < 0.1


def test_layout_of_images() -> None:
    assert np.array_equal(World("street", 4).pid, np.repeat(np.arange(4), 3))
    assert np.array_equal(World("source", 4).pid, np.arange(4))
    assert len(World("source", 4, images_per_id=2)) == 8
    assert [len(World(domain, 2).captions(0)) for domain in ("source", *TARGETS)] == [4, 2, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"domain": "moon", "num_ids": 3}, "'moon' is unknown; choose one of web, source"),
        ({"domain": "web", "num_ids": 0}, "num_ids=0"),
        ({"domain": "web", "num_ids": 3, "noise_rate": 1.5}, "noise_rate=1.5"),
        ({"domain": "web", "num_ids": 3, "size": (64, 4)}, "too small"),
    ],
)
def test_bad_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        World(**arguments)


def test_a_shot_spends_its_numbers_and_leaves_enough_for_the_scene() -> None:
    for domain in DOMAINS.values():
        assert len(take_shot(domain.camera, [0.5] * NUM_DRAWS).scene) >= 20


def test_a_rear_view_hides_what_it_should() -> None:
    world = World("street", 400, images_per_id=4)
    seen = {"front": [], "back": []}
    for index in range(len(world)):
        codes, shot = world.attributes[world.pid[index]].tolist(), world.shot(index)
        facing = np.cos(shot.yaw)
        view = "front" if facing > 0.8 else "back" if facing < -0.8 else None
        if view and codes[INDEX["bag"]] == code("bag", "backpack") and codes[INDEX["inner"]] > 0:
            visible = visible_attributes(shot, codes)
            assert not any(v and c < 0 for v, c in zip(visible, codes))
            seen[view].append((visible[INDEX["bag"]], visible[INDEX["inner"]]))
    assert set(seen["front"]) == {(False, True)}
    assert set(seen["back"]) == {(True, False)}
