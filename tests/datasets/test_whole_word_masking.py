"""Masking of whole words: BERT's rates, whole words, and a pure function of its keys."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.datasets.transforms.masking import draw_masked_words
from mmreid_text.datasets.transforms.wordpiece import SPECIAL, WordPieceTokenizer
from mmreid_text.engine.hooks import WholeWordMaskingHook

PIECES = [*SPECIAL, *(f"w{i}" for i in range(40)), *(f"##p{i}" for i in range(15))]
FIRST, FIRST_CONTINUING = 5, 45


@pytest.fixture(scope="module")
def vocab(tmp_path_factory):
    path = tmp_path_factory.mktemp("vocab") / "vocab.txt"
    path.write_text("\n".join(PIECES) + "\n", encoding="utf-8")
    return path


def caption(rng, n):
    words = rng.integers(0, n - 1)
    row = np.zeros(n, np.int64)
    row[0], row[words + 1] = 2, 3
    row[1 : words + 1] = rng.integers(FIRST, len(PIECES), words)
    if words:
        row[1] = rng.integers(FIRST, FIRST_CONTINUING)
        row[1 : words + 1][rng.random(words) < 0.05] = 1  # unknown
    return row


def words_of(row):
    """Positions of each word, by a loop."""
    words = []
    for i, piece in enumerate(row.tolist()):
        if piece >= FIRST_CONTINUING and words and words[-1][-1] == i - 1:
            words[-1].append(i)
        elif piece >= FIRST and piece < FIRST_CONTINUING:
            words.append([i])
    return words


def test_rates_are_those_of_the_rule(vocab):
    tokenizer, b, n, p = WordPieceTokenizer(vocab), 4000, 60, 0.15
    text = np.tile(np.array([7, 50] * (n // 2)), (b, 1))  # words of two pieces
    masked, labels = draw_masked_words(text, tokenizer, p, np.arange(b), seed=1, epoch=2)
    drawn = labels > 0
    assert (drawn[:, ::2] == drawn[:, 1::2]).all()

    def within(count, total, rate):  # five standard deviations of a binomial
        return abs(count - total * rate) < 5 * np.sqrt(total * rate * (1 - rate))

    assert within(drawn[:, ::2].sum(), b * n / 2, p)
    assert (labels[drawn] == text[drawn]).all()
    assert within((masked[drawn] == tokenizer.mask_id).sum(), drawn.sum(), 0.8)
    assert within((masked[drawn] == text[drawn]).sum(), drawn.sum(), 0.1 + 0.1 / 55)
    others = masked[drawn & (masked != text) & (masked != tokenizer.mask_id)]
    assert others.min() == FIRST
    assert others.max() == len(PIECES) - 1
    assert np.bincount(others, minlength=len(PIECES))[FIRST:].min() > 0.3 * len(others) / 55


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), p=st.sampled_from([0.0, 0.3, 1.0]))
def test_draws_respect_words(vocab, seed, p):
    rng, tokenizer = np.random.default_rng(seed), WordPieceTokenizer(vocab)
    text = np.stack([caption(rng, 12) for _ in range(5)])
    before, ids = text.copy(), rng.integers(0, 10**7, 5)
    masked, labels = draw_masked_words(text, tokenizer, p, ids, seed, 3)
    assert (text == before).all()
    assert not np.shares_memory(text, masked)
    special = text < FIRST
    assert (masked[special] == text[special]).all()
    assert (labels[special] == 0).all()
    assert ((labels == 0) | (labels == text)).all()
    assert (masked[labels == 0] == text[labels == 0]).all()
    for row, drawn in zip(text, labels != 0):
        inside = [i for word in words_of(row) for i in word]
        assert all(len({bool(drawn[i]) for i in word}) == 1 for word in words_of(row))
        if p == 1:
            assert drawn[inside].all()
    # One caption alone, trimmed, draws what it drew within the batch.
    i = int(rng.integers(5))
    length = np.count_nonzero(text[i])
    alone, own = draw_masked_words(text[i : i + 1, :length], tokenizer, p, ids[i : i + 1], seed, 3)
    assert (alone[0] == masked[i, :length]).all()
    assert (own[0] == labels[i, :length]).all()


def test_keys_change_the_draw(vocab):
    tokenizer, rng = WordPieceTokenizer(vocab), np.random.default_rng(0)
    text = np.stack([caption(rng, 40) for _ in range(50)])
    keys = [(np.arange(50), 0, 0), (np.arange(50), 0, 1), (np.arange(50), 1, 0), (np.arange(50) + 50, 0, 0)]
    first, *others = (draw_masked_words(text, tokenizer, 0.3, *key)[1] for key in keys)
    assert all((first != other).any(axis=1).mean() > 0.6 for other in others)


def test_the_hook_writes_what_is_drawn(vocab):
    class Runner:
        seed, epoch = 3, 4

    hook = WholeWordMaskingHook(dict(type="WordPieceTokenizer", vocab=str(vocab)), p=0.5)
    rng = np.random.default_rng(0)
    text = torch.from_numpy(np.stack([caption(rng, 20) for _ in range(6)]))
    batch = {"text": text, "caption_id": torch.arange(6)}
    hook.before_train_iter(Runner, 0, batch)
    masked, labels = draw_masked_words(text.numpy(), WordPieceTokenizer(vocab), 0.5, np.arange(6), 3, 4)
    assert batch["masked_text"].numpy().tolist() == masked.tolist() != text.tolist()
    assert batch["mlm_labels"].numpy().tolist() == labels.tolist()
    with pytest.raises(ValueError, match="p must lie in"):
        WholeWordMaskingHook(dict(type="WordPieceTokenizer", vocab=str(vocab)), p=2)
