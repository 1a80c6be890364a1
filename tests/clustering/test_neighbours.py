"""Nearest neighbours against a full float64 sort."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.clustering import nearest


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 40), k=st.integers(1, 12), copies=st.integers(0, 20))
def test_neighbours_are_those_of_a_full_sort(seed, size, k, copies):
    rng = np.random.default_rng(seed)
    features = rng.integers(-3, 4, (size, 3)).astype(float)  # few values: many directions are equal
    features[rng.integers(0, size, copies)] = features[rng.integers(0, size, copies)]
    features[(features == 0).all(axis=1)] = 1
    rows, values = nearest(torch.from_numpy(features), k)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosine = np.round(unit @ unit.T, 6)
    for i in range(size):
        expected = sorted(range(size), key=lambda j: (j != i, -cosine[i, j]))[:k]
        assert rows[i, 0] == i
        assert len(set(rows[i])) == len(rows[i]) == min(k, size)
        np.testing.assert_allclose(values[i], cosine[i, rows[i]], atol=2e-6)
        np.testing.assert_allclose(values[i], cosine[i, expected], atol=2e-6)


def test_neighbours_of_some_are_theirs_among_all():
    features = np.random.default_rng(1).normal(size=(200, 8)).astype(np.float32)
    some = np.array([7, 3, 150, 199])
    for found, whole in zip(nearest(torch.from_numpy(features), 12, items=some), nearest(features, 12)):
        np.testing.assert_allclose(found, whole[some], atol=1e-6)


@pytest.mark.parametrize("size", [25, 300])
def test_equal_features_come_in_their_order(size):
    rows, values = nearest(np.ones((size, 4)), 10)  # what an encoder gives that has collapsed
    for i in range(size):
        assert rows[i].tolist() == [i, *[j for j in range(10) if j != i]][:10]
    np.testing.assert_allclose(values, 1, atol=1e-6)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="k=0 neighbours"):
        nearest(np.ones((3, 2)), 0)
    with pytest.raises(ValueError, match="feature 1 is not finite"):
        nearest(np.array([[1.0, 0], [np.nan, 0], [0, 1]]), 2)
