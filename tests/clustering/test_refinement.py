"""Mutual refinement against its equations in loops."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.clustering import diagnostics, refine, refinement


def restated(own, other, own_labels, other_labels, pairs):
    """One direction, item by item, over pairs of (own, other)."""
    partners = {i: [y for x, y in pairs if x == i] for i in range(len(own))}
    owners = {j: [x for x, y in pairs if y == j] for j in range(len(other))}
    labels = own_labels.copy()
    for i in range(len(own)):
        if own_labels[i] != -1:
            continue
        walk = []
        for y in partners[i]:
            if other_labels[y] != -1:
                members = [c for c in range(len(other)) if other_labels[c] == other_labels[y]]
                walk += [(-float(other[y] @ other[c]), c) for c in members]
        for _, member in sorted(walk):
            known = [x for x in owners[member] if own_labels[x] != -1]
            if known:
                witness = max(known, key=lambda x: (float(own[i] @ own[x]), -x))
                labels[i] = own_labels[witness]
                break
    return labels


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    images=st.integers(1, 25),
    most=st.integers(1, 3),
    clusters=st.integers(1, 6),
    outliers=st.floats(0, 1),
)
def test_both_directions_equal_the_loops(seed, images, most, clusters, outliers):
    rng = np.random.default_rng(seed)
    image_of_text = rng.permutation(np.repeat(np.arange(images), rng.integers(1, most + 1, images)))
    texts = len(image_of_text)
    # Unit vectors whose products are exact: similarities tie now and then, on both sides alike.
    halves = [[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, 1, 1, -1]]
    bank = np.concatenate([np.eye(4), np.array(halves) / 2]).astype(np.float32)
    image, text = bank[rng.integers(0, 8, images)], bank[rng.integers(0, 8, texts)]
    if seed % 2:
        image, text = (rng.normal(size=(n, 5)).astype(np.float32) for n in (images, texts))
        image, text = (f / np.linalg.norm(f, axis=1, keepdims=True) for f in (image, text))
    labels = [np.where(rng.uniform(size=n) < outliers, -1, rng.integers(0, clusters, n)) for n in (images, texts)]
    kept = [part.copy() for part in labels]
    got = refine(image, text, *labels, image_of_text)
    pairs = list(zip(image_of_text.tolist(), range(texts)))
    np.testing.assert_array_equal(got[0], restated(image, text, *labels, pairs))
    np.testing.assert_array_equal(got[1], restated(text, image, *labels[::-1], [(t, v) for v, t in pairs]))
    for before, after, copy in zip(labels, got, kept):
        np.testing.assert_array_equal(before, copy)  # read, never written
        np.testing.assert_array_equal(after[before >= 0], before[before >= 0])


def test_an_outlier_joins_the_cluster_of_what_its_partner_is_near_to():
    angle = np.deg2rad([0, 10, 25, 90])
    image = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    text = np.eye(4)
    images = np.array([0, 0, 0, -1])
    # Nearest to image 0 is image 1, but its caption is an outlier, too; then comes image 2.
    assert refine(image, text, images, np.array([-1, -1, 3, 3]), np.arange(4))[1].tolist() == [3, 3, 3, 3]
    # An unclustered image helps nobody.
    assert refine(image, text, images, np.array([3, 3, 3, -1]), np.arange(4))[1].tolist() == [3, 3, 3, -1]
    assert refine(image, text, np.full(4, -1), np.array([0, 0, -1, -1]), np.arange(4))[0].tolist() == [-1] * 4


def test_no_rescue_depends_on_another():
    image, text = np.eye(3), np.eye(3)
    # Image 0's caption is an outlier; it is rescued, but not for image 0's sake.
    labels = refine(image, text, np.array([-1, 0, 0]), np.array([-1, -1, 5]), np.arange(3))
    assert labels[0].tolist() == [-1, 0, 0]
    assert labels[1].tolist() == [-1, 5, 5]


def test_other_captions_of_the_image_are_the_nearest_witnesses():
    image = np.array([[1.0, 0], [1.0, 0.001]])
    text = np.array([[1.0, 0], [0, 1], [1, 0]])
    assert refine(image, text, np.array([0, 0]), np.array([-1, 7, 2]), np.array([0, 0, 1]))[1].tolist() == [7, 7, 2]


@pytest.mark.parametrize("labels", [-1, 0])
def test_all_outliers_and_one_cluster_stay_what_they_are(labels):
    given = np.full(6, labels)
    for after in refine(np.ones((6, 3)), np.ones((6, 3)), given, given, np.arange(6)):
        np.testing.assert_array_equal(after, given)


def test_large_clusters_go_part_by_part(monkeypatch):
    rng = np.random.default_rng(0)
    image, text = rng.normal(size=(40, 4)), rng.normal(size=(40, 4))
    labels = np.zeros(40, dtype=np.int64), np.where(rng.uniform(size=40) < 0.5, -1, rng.integers(0, 3, 40))
    whole = refine(image, text, *labels, np.arange(40))
    monkeypatch.setattr(refinement, "_CELLS", 30)
    for a, b in zip(whole, refine(image, text, *labels, np.arange(40))):
        np.testing.assert_array_equal(a, b)
    assert (whole[1] >= 0).all()


@pytest.mark.parametrize("module", [refinement, diagnostics])
def test_worked_examples_hold(module):
    tried = doctest.testmod(module, extraglobs={"np": np})
    assert tried.attempted > 0
    assert tried.failed == 0
