"""Losses against loops in float64 that follow the papers' formulas."""

import math

import numpy as np
import pytest
import torch

from mmreid_text.models.losses import ITCLoss, SDMLoss, TokenPatchLoss


def cosine(a, b):
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def softmax(row, tau):
    top = max(row)
    weights = [math.exp((x - top) / tau) for x in row]
    return [w / sum(weights) for w in weights]


def naive_sdm(image, text, pid, tau, eps=1e-8):
    n = len(pid)
    total = 0.0
    for a, b in ((image, text), (text, image)):
        for i in range(n):
            p = softmax([cosine(a[i], b[j]) for j in range(n)], tau)
            positives = sum(pid[j] == pid[i] for j in range(n))
            for j in range(n):
                q = (pid[j] == pid[i]) / positives
                if p[j] > 0:
                    total += p[j] * math.log(p[j] / (q + eps)) / n
    return total


def naive_itc(image, text, tau):
    n = len(image)
    total = 0.0
    for a, b in ((image, text), (text, image)):
        for i in range(n):
            total -= math.log(softmax([cosine(a[i], b[j]) for j in range(n)], tau)[i]) / n / 2
    return total


@pytest.fixture(params=range(5))
def batch(request):
    rng = np.random.default_rng(request.param)
    n, d = rng.integers(2, 9), rng.integers(2, 12)
    image, text = rng.normal(size=(n, d)), rng.normal(size=(n, d)) * 5
    return image, text + image, rng.integers(0, max(2, n // 2), size=n)


@pytest.mark.parametrize("tau", [0.02, 0.3])
def test_sdm_equals_the_formula(batch, tau):
    image, text, pid = batch
    got = SDMLoss(tau)(torch.from_numpy(image), torch.from_numpy(text), torch.from_numpy(pid))
    assert got.dtype == torch.float64
    assert float(got) == pytest.approx(naive_sdm(image, text, pid, tau), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("tau", [0.02, 0.3])
def test_itc_equals_the_formula(batch, tau):
    image, text, pid = batch
    got = ITCLoss(tau)(torch.from_numpy(image), torch.from_numpy(text), torch.from_numpy(pid))
    assert float(got) == pytest.approx(naive_itc(image, text, tau), rel=1e-9, abs=1e-9)


def test_sdm_gradient_equals_finite_differences(batch):
    image, text, pid = batch
    image, text = (torch.from_numpy(x).requires_grad_() for x in (image, text))
    assert torch.autograd.gradcheck(lambda a, b: SDMLoss(0.3)(a, b, torch.from_numpy(pid)), (image, text))


def test_sdm_takes_every_pair_of_equal_pid_as_positive():
    image = torch.eye(3, dtype=torch.float64)
    text = image[[1, 0, 2]]  # the first two texts are swapped
    loss = SDMLoss(0.02)
    assert loss(image, text, torch.tensor([0, 0, 1])) < loss(image, text, torch.tensor([0, 2, 1])) / 10


@pytest.mark.parametrize("loss", [SDMLoss(), ITCLoss()])
def test_losses_run_in_float32_under_autocast(loss):
    torch.manual_seed(0)
    image, text, pid = torch.randn(8, 16), torch.randn(8, 16), torch.arange(8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        lowered = loss(image, text, pid)
    assert lowered.dtype == torch.float32
    assert torch.equal(lowered, loss(image, text, pid))


@pytest.mark.parametrize("cls", [SDMLoss, ITCLoss])
@pytest.mark.parametrize("tau", [0, -1])
def test_temperature_must_be_positive(cls, tau):
    with pytest.raises(ValueError, match="tau must be above 0"):
        cls(tau)


def naive_token_patch(image, tokens, text, tau):
    n = len(text)
    similarity = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            stop = int(np.flatnonzero(text[j] == 49407)[0])
            best = [max(cosine(tokens[j, k], patch) for patch in image[i, 1:]) for k in range(1, stop)]
            similarity[i, j] = sum(best) / len(best) if best else 0
    total = 0.0
    for matrix in (similarity, similarity.T):
        for i in range(n):
            total -= math.log(softmax(list(matrix[i]), tau)[i]) / n / 2
    return total


@pytest.mark.parametrize("seed", range(3))
def test_token_patch_loss_equals_loops(seed):
    rng = np.random.default_rng(seed)
    image, tokens = rng.normal(size=(6, 1 + 7, 5)), rng.normal(size=(6, 9, 5))
    text = np.zeros((6, 9), np.int64)
    for row, words in zip(text, (0, 1, 3, 7, 2, 5)):
        row[: words + 2] = [49406, *rng.integers(0, 49404, words), 49407]
    image[:, 0] = 9 * tokens[:, 1]  # [CLS] would fit best, and must not count
    got = TokenPatchLoss(tau=0.3, max_pairs=4)(*(torch.from_numpy(x) for x in (image, tokens, text)))
    assert float(got) == pytest.approx(naive_token_patch(image[:4], tokens[:4], text[:4], 0.3), rel=1e-5)


@pytest.mark.parametrize("wrong", [dict(layer=0), dict(tau=0), dict(max_pairs=1)])
def test_token_patch_loss_checks_its_arguments(wrong):
    with pytest.raises(ValueError, match="TokenPatchLoss needs"):
        TokenPatchLoss(**wrong)
