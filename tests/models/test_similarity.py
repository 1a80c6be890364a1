"""What the losses share: similarities in float64, whatever the precision of the features."""

import torch
import torch.nn.functional as F

from mmreid_text.models.losses import SDMLoss, similarity


def test_half_precision_features_are_exchanged_and_differentiated_in_float64(monkeypatch):
    exchanged = []

    def gather(x):  # as three ranks that hold the same rows
        exchanged.append(x.dtype)
        return torch.cat([x, x, x])

    monkeypatch.setattr(similarity, "all_gather_with_grad", gather)
    generator = torch.Generator().manual_seed(0)
    feats = [torch.randn(6, 8, generator=generator).bfloat16().requires_grad_() for _ in range(2)]
    weights = torch.randn(18, 18, generator=generator, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        (similarity.global_similarity(*feats) * weights).sum().backward()
    exact = [x.detach().double().requires_grad_() for x in feats]
    image, text = (F.normalize(torch.cat([x, x, x]), dim=1) for x in exact)
    (image @ text.t() * weights).sum().backward()
    assert exchanged == [torch.float64] * 2
    for half, full in zip(feats, exact):
        assert torch.equal(half.grad, full.grad.bfloat16())


def test_loss_gradient_under_autocast_is_that_of_float64():
    generator = torch.Generator().manual_seed(1)
    feats = [torch.randn(6, 8, generator=generator).bfloat16().requires_grad_() for _ in range(2)]
    pid = torch.arange(6) // 2
    with torch.autocast("cpu", torch.bfloat16):
        SDMLoss(0.3)(*feats, pid).backward()
    exact = [x.detach().double().requires_grad_() for x in feats]
    SDMLoss(0.3)(*exact, pid).backward()
    for half, full in zip(feats, exact):
        torch.testing.assert_close(half.grad.double(), full.grad, rtol=2**-7, atol=1e-6)
