"""Counter-based random numbers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.randomness import uniform, uniform_row


def test_numbers_are_uniform_and_uncorrelated():
    u = uniform(3, 1, np.arange(50_000), "stream", 4)
    assert u.shape == (50_000, 4)
    assert u.min() >= 0
    assert u.max() < 1
    counts = np.histogram(u, bins=20, range=(0, 1))[0]
    expected = u.size / 20
    assert ((counts - expected) ** 2 / expected).sum() < 60  # chi-square of 19 degrees: 60 is p < 1e-5
    correlation = np.corrcoef(np.concatenate([u[:-1].T, u[1:].T]))
    assert np.abs(correlation - np.eye(8)).max() < 0.03


def test_a_number_depends_on_its_keys_alone():
    ids = np.array([5, 10**12, 7])
    whole = uniform(0, 2, ids, "a", 6)
    assert (uniform(0, 2, ids[::-1], "a", 6) == whole[::-1]).all()
    assert (uniform(0, 2, ids[1:2], "a", 3) == whole[1:2, :3]).all()


@pytest.mark.parametrize("other", [(1, 2, "a"), (0, 3, "a"), (0, 2, "b"), (-1, 2, "a")])
def test_every_key_changes_the_numbers(other):
    seed, epoch, stream = other
    ids = np.arange(1000)
    same = uniform(0, 2, ids, "a", 3) == uniform(seed, epoch, ids, stream, 3)
    assert same.mean() < 0.01


@settings(max_examples=50, deadline=None)
@given(st.integers(-(2**63), 2**63 - 1), st.integers(0, 1000), st.integers(0, 2**40), st.text(), st.integers(1, 50))
def test_draws_equal_the_vectorised_ones(seed, epoch, row, stream, n):
    assert uniform_row(seed, epoch, row, stream, n) == uniform(seed, epoch, np.array([row]), stream, n)[0].tolist()
