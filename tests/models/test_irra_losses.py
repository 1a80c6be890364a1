"""IRRA's and RDE's losses against loops in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.models.losses import IdentityLoss, MaskedLanguageLoss, TALLoss, masked_positions

seeds = st.integers(0, 2**32 - 1)


def cross_entropy(row, label):
    top = max(row)
    return top + math.log(sum(math.exp(x - top) for x in row)) - row[label]


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_identity_loss_equals_the_formula(seed):
    rng = np.random.default_rng(seed)
    b, c = rng.integers(1, 9), rng.integers(1, 30)
    image, text, label = rng.normal(size=(b, c)) * 5, rng.normal(size=(b, c)) * 5, rng.integers(0, c, b)
    expected = sum(cross_entropy(x[i], label[i]) for x in (image, text) for i in range(b)) / (2 * b)
    got = IdentityLoss()(torch.from_numpy(image), torch.from_numpy(text), torch.from_numpy(label))
    assert got.dtype == torch.float64
    assert float(got) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_masked_language_loss_equals_the_formula(seed):
    rng = np.random.default_rng(seed)
    b, n, v = rng.integers(1, 5), rng.integers(1, 7), rng.integers(2, 30)
    logits = rng.normal(size=(b, n, v)) * 5
    labels = rng.integers(1, v, (b, n)) * (rng.random((b, n)) < 0.4)
    terms = [cross_entropy(logits[i, k], labels[i, k]) for i, k in zip(*np.nonzero(labels))]
    got = MaskedLanguageLoss()(torch.from_numpy(logits), torch.from_numpy(labels))
    assert float(got) == pytest.approx(sum(terms) / max(1, len(terms)), rel=1e-9, abs=1e-12)
    places = masked_positions(torch.from_numpy(labels))
    assert places.tolist() == np.flatnonzero(labels).tolist()
    picked = MaskedLanguageLoss()(
        torch.from_numpy(logits).flatten(0, 1)[places], torch.from_numpy(labels).flatten()[places]
    )
    assert float(picked) == pytest.approx(float(got), rel=1e-12)


def test_masked_language_loss_without_masked_words_is_zero_with_gradient():
    logits = torch.randn(2, 3, 5, requires_grad=True)
    loss = MaskedLanguageLoss()(logits, torch.zeros(2, 3, dtype=torch.int64))
    loss.backward()
    assert float(loss) == 0
    assert (logits.grad == 0).all()


def naive_tal(image, text, pid, margin, tau):
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, text)]
    scores = unit[0] @ unit[1].T
    total = 0.0
    for s in (scores, scores.T):
        for i in range(len(pid)):
            positives = [j for j in range(len(pid)) if pid[j] == pid[i]]
            negatives = [j for j in range(len(pid)) if pid[j] != pid[i]]
            weights = [math.exp((s[i, j] - 1) / tau) for j in positives]
            good = sum(w * s[i, j] for w, j in zip(weights, positives)) / sum(weights)
            if negatives:
                top = max(s[i, j] for j in negatives)
                bad = top + tau * math.log(sum(math.exp((s[i, j] - top) / tau) for j in negatives))
                total += max(0.0, margin - good + bad)
    return total


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_tal_equals_the_formula(seed):
    rng = np.random.default_rng(seed)
    n, d = rng.integers(1, 9), rng.integers(2, 12)
    image = rng.normal(size=(n, d))
    text, pid = image + rng.normal(size=(n, d)) * rng.uniform(0, 2), rng.integers(0, max(1, n // 2), size=n)
    margin, tau = rng.uniform(0, 0.3), rng.choice([0.015, 0.2])
    got = TALLoss(margin, tau)(torch.from_numpy(image), torch.from_numpy(text), torch.from_numpy(pid))
    assert float(got) == pytest.approx(naive_tal(image, text, pid, margin, tau), rel=1e-9, abs=1e-9)


def test_tal_gives_the_weights_of_positives_no_gradient():
    torch.manual_seed(0)
    image, text = (torch.randn(5, 4, dtype=torch.float64) for _ in range(2))
    pid = torch.tensor([0, 0, 1, 1, 2])
    positive = pid[:, None] == pid[None, :]
    image.requires_grad_()
    TALLoss(margin=2.0, tau=0.2)(image, text, pid).backward()  # a margin that every pair violates

    def fixed(frozen, moved):
        def scores(x):
            x = torch.nn.functional.normalize(x, dim=1)
            return x @ torch.nn.functional.normalize(text, dim=1).T

        total = 0
        for s, w in ((scores(moved), scores(frozen)), (scores(moved).T, scores(frozen).T)):
            weights = torch.where(positive, (w / 0.2).exp(), 0.0)
            weights = weights / weights.sum(dim=1, keepdim=True)
            bad = 0.2 * torch.where(positive, 0.0, (s / 0.2).exp()).sum(dim=1).log()
            total = total + (2.0 - (weights * s).sum(dim=1) + bad).sum()
        return total

    moved = image.detach().clone().requires_grad_()
    fixed(image.detach(), moved).backward()
    torch.testing.assert_close(image.grad, moved.grad, rtol=1e-9, atol=1e-12)


def test_tal_without_negatives_is_zero_with_a_finite_gradient():
    image = torch.randn(3, 4, requires_grad=True)
    loss = TALLoss()(image, torch.randn(3, 4), torch.zeros(3, dtype=torch.int64))
    loss.backward()
    assert float(loss) == 0
    assert (image.grad == 0).all()
    with pytest.raises(ValueError, match="tau must be above 0, got 0"):
        TALLoss(tau=0)


def test_losses_run_in_float32_on_half_precision():
    torch.manual_seed(0)
    image, text, labels = torch.randn(8, 16), torch.randn(8, 16), torch.randint(1, 16, (8,))
    half = [x.bfloat16() for x in (image, text)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for low, high in (
            (IdentityLoss()(*half, labels), IdentityLoss()(*(x.float() for x in half), labels)),
            (MaskedLanguageLoss()(half[0], labels), MaskedLanguageLoss()(half[0].float(), labels)),
            (TALLoss()(*half, labels), TALLoss()(*(x.float() for x in half), labels)),
        ):
            assert low.dtype == torch.float32
            assert torch.equal(low, high)
