"""The ceiling that the true attributes give."""

import numpy as np
import pytest

from mmreid_text.procedural import World
from mmreid_text.procedural.attributes import NAMES
from mmreid_text.procedural.oracle import gallery_features, query_features


def test_products_count_agreements() -> None:
    world = World("source", 40, noise_rate=0.3)
    stated = np.stack([caption.mentioned for i in range(40) for caption in world.captions(i)])
    product = query_features(stated) @ gallery_features(world.attributes).T
    expected = ((stated[:, None] == world.attributes[None]) & (stated[:, None] >= 0)).sum(axis=2)
    assert np.array_equal(product, expected)
    assert np.allclose(np.linalg.norm(query_features(stated), axis=1), 4)
    assert np.allclose(np.linalg.norm(gallery_features(world.attributes), axis=1), 4)


@pytest.mark.parametrize("domain", ["street", "mall", "station"])
def test_ceiling_of_the_targets_is_high_and_below_100(domain: str) -> None:
    world = World(domain, 300, split="test")
    told = [(caption.mentioned, world.pid[i]) for i in range(len(world)) for caption in world.captions(i)]
    query, pid = np.stack([t[0] for t in told]), np.array([t[1] for t in told])
    scores = query_features(query) @ gallery_features(world.attributes[world.pid]).T
    first = world.pid[scores.argmax(axis=1)]  # ties go to the first in the gallery
    assert 80 < 100 * (first == pid).mean() < 97


def test_wrong_shape_is_named() -> None:
    with pytest.raises(ValueError, match=rf"\(3, 2\).*{len(NAMES)}"):
        query_features(np.zeros((3, 2), dtype=np.int8))
