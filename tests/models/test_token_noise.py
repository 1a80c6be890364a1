"""Token noise and masking probability against loops in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.models.token_noise import PatchSimilarityNoise, masking_probability

SOT, EOT = 49406, 49407


def random_text(rng, b, n):
    text = np.zeros((b, n), np.int64)
    for i in range(b):
        words = rng.integers(0, n - 1)
        text[i, : words + 2] = [SOT, *rng.integers(0, 49404, words), EOT]
    return text


def naive_noise(text_tokens, image_tokens):
    b, n, _ = text_tokens.shape
    r = np.zeros((b, n))
    for i in range(b):
        for k in range(n):
            t = text_tokens[i, k]
            r[i, k] = 1 - max(
                t @ v / np.linalg.norm(t) / np.linalg.norm(v)
                for v in image_tokens[i, 1:]  # [CLS] is no patch
            )
    return r


def naive_probability(r, text, p):
    out = np.zeros_like(r)
    for i, row in enumerate(text):
        real = range(1, int(np.flatnonzero(row == EOT)[0]))
        if len(real):
            mean = sum(r[i, k] for k in real) / len(real)
            for k in real:
                out[i, k] = min(1.0, max(0.0, r[i, k] - mean + p))
    return out


@pytest.mark.parametrize("seed", range(4))
def test_noise_equals_equation_2(seed):
    rng = np.random.default_rng(seed)
    text, image = rng.normal(size=(3, 7, 5)), rng.normal(size=(3, 1 + 6, 5))
    image[:, 0] = text[:, 0] * 3  # a [CLS] token that would match perfectly
    got = PatchSimilarityNoise(layer=3)(torch.from_numpy(text), torch.from_numpy(image))
    np.testing.assert_allclose(got.numpy(), naive_noise(text, image), atol=2e-6)


def test_noise_carries_no_gradient_and_is_float32():
    text = torch.randn(2, 4, 8, dtype=torch.bfloat16, requires_grad=True)
    r = PatchSimilarityNoise()(text, torch.randn(2, 5, 8, dtype=torch.bfloat16, requires_grad=True))
    assert r.dtype == torch.float32
    assert not r.requires_grad


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), p=st.floats(0, 1))
def test_masking_probability_equals_equation_4(seed, p):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 20))
    text = random_text(rng, 5, n)
    r = rng.uniform(0, 2, size=text.shape)
    got = masking_probability(torch.from_numpy(r), torch.from_numpy(text), p).numpy()
    np.testing.assert_allclose(got, naive_probability(r, text, p), atol=1e-12)
    assert ((text != SOT) | (got == 0)).all()
    assert got[text == EOT].max() == 0


def test_mean_probability_is_p_where_nothing_clips():
    rng = np.random.default_rng(0)
    text = random_text(rng, 50, 20)
    r = torch.from_numpy(rng.uniform(0.5, 0.6, size=text.shape))
    got = masking_probability(r, torch.from_numpy(text), 0.15)
    words = torch.from_numpy((text != 0).sum(1) - 2)
    real = got.sum(1)[words > 0] / words[words > 0]
    # Ids of 0 inside a caption count as tokens, so only captions without them have this simple mean.
    plain = torch.from_numpy((text[:, 1:] == 0).sum(1) == 19 - (text != 0).sum(1) + 1)[words > 0]
    torch.testing.assert_close(real[plain], torch.full_like(real[plain], 0.15), rtol=0, atol=1e-9)


def test_layer_must_be_positive():
    with pytest.raises(ValueError, match="layer must be at least 1"):
        PatchSimilarityNoise(layer=0)
