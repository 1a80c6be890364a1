"""Intervals and tests over identities, against loops and against what they promise."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.evaluation.significance import FLIPS, RESAMPLES, interval, resample, sign_flip_p
from mmreid_text.randomness import uniform


def naive(values, identity, stream):
    """The same, one draw, one identity and one query at a time."""
    people = sorted(set(identity.tolist()))
    drawn = (uniform(0, 0, np.arange(RESAMPLES), f"bootstrap {stream}", len(people)) * len(people)).astype(int)
    signs = uniform(0, 0, np.arange(FLIPS), f"sign flips {stream}", len(people)) < 0.5
    bootstrap = []
    for draw in drawn:
        picked = [values[q] for person in draw for q in np.flatnonzero(identity == people[person])]
        bootstrap.append(np.mean(picked, axis=0))
    flipped = []
    for flip in signs:
        turned = [-v if flip[people.index(p)] else v for p, v in zip(identity.tolist(), values)]
        flipped.append(np.mean(turned, axis=0))
    return np.array(bootstrap), np.array(flipped)


def test_equals_naive_loops(monkeypatch):
    monkeypatch.setattr("mmreid_text.evaluation.significance.RESAMPLES", 50)
    monkeypatch.setattr("mmreid_text.evaluation.significance.FLIPS", 70)
    monkeypatch.setattr("mmreid_text.evaluation.significance._CELLS", 100)
    monkeypatch.setitem(globals(), "RESAMPLES", 50)
    monkeypatch.setitem(globals(), "FLIPS", 70)
    rng = np.random.default_rng(0)
    identity = rng.integers(0, 9, 40) * 1000 + 7  # in no order, with gaps
    values = rng.normal(size=(3, 40, 2))
    fast = resample(values, identity, "somewhere")
    for i, own in enumerate(values):
        bootstrap, flipped = naive(own, identity, "somewhere")
        np.testing.assert_allclose(fast.bootstrap[i], bootstrap, atol=1e-12)
        np.testing.assert_allclose(fast.flipped[i], flipped, atol=1e-12)
        np.testing.assert_allclose(fast.mean[i], own.mean(0), atol=1e-12)
    difference, flipped = fast.mean[0] - fast.mean[1], fast.flipped[0] - fast.flipped[1]
    expected = [
        (1 + sum(abs(t[m]) >= abs(difference[m]) - 1e-9 for t in flipped)) / (1 + len(flipped)) for m in range(2)
    ]
    np.testing.assert_allclose(sign_flip_p(difference, flipped), expected)


@settings(max_examples=20, deadline=None)
@given(people=st.integers(1, 6), each=st.integers(1, 4), shift=st.floats(-50, 50))
def test_a_constant_is_certain_and_equal_models_do_not_differ(people, each, shift):
    identity = np.repeat(np.arange(people), each)
    found = resample(np.full((2, people * each, 1), shift), identity, "x")
    low, high = interval(found.bootstrap[0])
    np.testing.assert_allclose([low, high], shift, atol=1e-9)
    same = sign_flip_p(found.mean[0] - found.mean[1], found.flipped[0] - found.flipped[1])
    np.testing.assert_array_equal(same, 1.0)


def simulate(rng, trials, people=60, each=5):
    """Differences (trials, Q) of captions with expectation 0 that hang together within an identity."""
    own = rng.normal(size=(trials, people, 1))
    return (own + 0.5 * rng.normal(size=(trials, people, each))).reshape(trials, -1), np.repeat(np.arange(people), each)


def test_the_interval_covers_about_as_often_as_it_says():
    values, identity = simulate(np.random.default_rng(1), trials=400)
    found = resample(values[:, :, None], identity, "coverage")
    ends = [interval(b) for b in found.bootstrap]
    coverage = np.mean([low[0] <= 0 <= high[0] for low, high in ends])
    assert 0.90 < coverage < 0.98
    # Captions drawn one by one would be far too sure of themselves.
    alone = resample(values[:100, :, None], np.arange(values.shape[1]), "coverage")
    careless = np.mean([low[0] <= 0 <= high[0] for low, high in map(interval, alone.bootstrap)])
    assert careless < 0.8


def test_p_is_uniform_where_nothing_differs_and_small_where_something_does():
    values, identity = simulate(np.random.default_rng(2), trials=400)
    found = resample(values[:, :, None], identity, "null")
    p = np.array([sign_flip_p(m, f)[0] for m, f in zip(found.mean, found.flipped)])
    for level in (0.05, 0.25, 0.5, 0.75):
        assert abs((p <= level).mean() - level) < 4 * np.sqrt(level * (1 - level) / len(p))
    found = resample(values[:20, :, None] + 0.8, identity, "null")
    assert max(sign_flip_p(m, f)[0] for m, f in zip(found.mean, found.flipped)) < 0.01
