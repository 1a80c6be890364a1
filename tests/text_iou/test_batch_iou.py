"""Text-IoU of batches against sets in Python."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.text_iou import LexiconPhrases, PhraseTable, batch_iou


def naive_iou(captions, rows):
    iou = np.zeros((len(rows), len(rows)))
    for a, i in enumerate(rows):
        for b, j in enumerate(rows):
            one, other = set(captions[i]), set(captions[j])
            iou[a, b] = 1 if i == j else len(one & other) / len(one | other) if one | other else 0
    return iou


def fast_iou(captions, rows):
    indptr = np.cumsum([0, *(len(c) for c in captions)])
    indices = np.array([phrase for caption in captions for phrase in sorted(caption)], dtype=np.int64)
    widest, vocabulary = int(np.diff(indptr).max(initial=0)), int(indices.max(initial=-1)) + 1
    return batch_iou(torch.from_numpy(indptr), torch.from_numpy(indices), torch.tensor(rows), widest, vocabulary)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.sets(st.integers(0, 12), max_size=6), min_size=1, max_size=9), st.data())
def test_equals_sets(captions, data):
    rows = data.draw(st.lists(st.integers(0, len(captions) - 1), min_size=1, max_size=12))
    got = fast_iou(captions, rows)
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), naive_iou(captions, rows), rtol=1e-6)
    assert torch.equal(got, got.t())
    assert (got.diagonal() == 1).all()


def test_large_vocabulary_and_wide_rows():
    rng = np.random.default_rng(0)
    captions = [set(rng.choice(10**6, rng.integers(0, 40), replace=False).tolist()) for _ in range(60)]
    captions += captions[:5]  # equal captions in other rows
    rows = rng.permutation(65).tolist()
    np.testing.assert_allclose(fast_iou(captions, rows).numpy(), naive_iou(captions, rows), rtol=1e-6)


def test_autocast_keeps_counts_exact():
    captions = [set(range(300)), set(range(1, 300))]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert float(fast_iou(captions, [0, 1])[0, 1]) == pytest.approx(299 / 300, rel=1e-6)


def test_looks_weigh_in():
    captions = ["a red shirt", "a shirt", "a blue shirt", "red shoes", "a walk", "another walk"]
    table = PhraseTable.collect(captions, LexiconPhrases())
    iou = batch_iou(torch.from_numpy(table.indptr), torch.from_numpy(table.indices), torch.arange(6), 2, 5)
    np.testing.assert_allclose(iou[0].numpy(), [1, 1 / 2, 1 / 3, 0, 0, 0], rtol=1e-6)
    assert iou[4].tolist() == [0, 0, 0, 0, 1, 0]
