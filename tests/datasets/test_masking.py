"""Masking draws: the statistics of BERT's rule, and a pure function of its keys."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.datasets.transforms.masking import draw_masked_text

SOT, EOT, MASK = 49406, 49407, 49405


def captions(rng, b, n=77):
    text = np.zeros((b, n), np.int64)
    probability = np.zeros((b, n))
    for i in range(b):
        words = rng.integers(0, n - 1)
        text[i, : words + 2] = [SOT, *rng.integers(1, MASK, words), EOT]
        probability[i, 1 : words + 1] = rng.uniform(0, 1, words)
    return text, probability


def test_rates_are_those_of_the_rule():
    b, n, p = 4000, 60, 0.15
    text = np.full((b, n), 7)
    masked, labels = draw_masked_text(text, np.full((b, n), p), np.arange(b), seed=1, epoch=2)
    changed = masked != text
    cells = b * n

    def within(count, rate):  # five standard deviations of a binomial
        return abs(count - cells * rate) < 5 * np.sqrt(cells * rate * (1 - rate))

    assert within(changed.sum(), p * 0.9 - p * 0.1 / 49404)
    assert within((labels > 0).sum(), p)  # those that stay count as drawn
    assert (labels[changed] == 7).all()
    assert within((masked == MASK).sum(), p * 0.8)
    random = masked[changed & (masked != MASK)]
    assert within(len(random), p * 0.1)
    assert random.min() >= 1
    assert random.max() <= 49404
    assert abs(random.mean() / 24702 - 1) < 0.05
    assert np.histogram(random, bins=10, range=(1, 49405))[0].min() > 0.08 * len(random)


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), force_one=st.booleans())
def test_draws_respect_the_caption(seed, force_one):
    rng = np.random.default_rng(seed)
    text, probability = captions(rng, 6)
    before = text.copy()
    ids = rng.integers(0, 10**7, 6)
    masked, labels = draw_masked_text(text, probability, ids, seed=seed, epoch=3, force_one=force_one)
    assert (text == before).all()
    assert not np.shares_memory(text, masked)
    assert not np.shares_memory(text, labels)
    assert (masked[probability == 0] == text[probability == 0]).all()
    assert (labels[probability == 0] == 0).all()
    assert (labels[masked != text] == text[masked != text]).all()
    assert ((labels == 0) | (labels == text)).all()
    if force_one:
        assert ((labels != 0).any(axis=1) == (probability > 0).any(axis=1)).all()
    # One caption alone, trimmed, draws what it drew within the batch.
    i = int(rng.integers(6))
    length = int((text[i] == EOT).argmax()) + 1
    alone, own = draw_masked_text(
        text[i : i + 1, :length], probability[i : i + 1, :length], ids[i : i + 1], seed, 3, force_one
    )
    assert (alone[0] == masked[i, :length]).all()
    assert (own[0] == labels[i, :length]).all()


def test_keys_change_the_draw():
    text, probability = captions(np.random.default_rng(0), 50)
    draw = [
        draw_masked_text(text, probability, ids, seed, epoch)[0]
        for ids, seed, epoch in (
            (np.arange(50), 0, 0),
            (np.arange(50), 0, 0),
            (np.arange(50), 0, 1),
            (np.arange(50), 1, 0),
            (np.arange(50) + 50, 0, 0),
        )
    ]
    assert (draw[0] == draw[1]).all()
    for other in draw[2:]:
        assert (draw[0] != other).any(axis=1).mean() > 0.8


@pytest.mark.parametrize("force_one", [False, True])
def test_force_one_masks_position_one_only_where_nothing_was_drawn(force_one):
    text = np.array([[SOT, 5, 6, EOT, 0], [SOT, EOT, 0, 0, 0]])
    probability = np.array([[0, 1e-12, 1e-12, 0, 0], [0, 0, 0, 0, 0.0]])
    masked, labels = draw_masked_text(text, probability, np.arange(2), 0, 0, force_one)
    assert masked.tolist() == [[SOT, MASK if force_one else 5, 6, EOT, 0], text[1].tolist()]
    assert labels.tolist() == [[0, 5 if force_one else 0, 0, 0, 0], [0] * 5]


def test_certain_tokens_are_always_drawn():
    text = np.full((2000, 10), 7)
    masked, labels = draw_masked_text(text, np.ones((2000, 10)), np.arange(2000), 0, 0)
    assert abs((masked == 7).mean() - 0.1) < 0.01
    assert (labels == 7).all()
