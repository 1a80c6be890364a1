"""The relation head against its arithmetic written out, and the weights it starts with."""

import math

import pytest
import torch

from mmreid_text.models.heads import CrossModalRelation


@pytest.fixture
def head():
    torch.manual_seed(0)
    head = CrossModalRelation(width=24, depth=2, heads=3).double()
    for name, parameter in head.named_parameters():  # norms and biases start as ones and zeros, which would hide a lot
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=float("ln" in name and "weight" in name), std=0.3)
        elif "mlm_head" not in name:
            torch.nn.init.normal_(parameter, std=0.3)
    return head


def norm(x, layer):
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * layer.weight + layer.bias


def attention(query, key, attn, heads):
    """One sequence at a time, one head at a time: query (N, D), key = value (M, D)."""
    width = query.shape[-1]
    weights, biases = attn.in_proj_weight.chunk(3), attn.in_proj_bias.chunk(3)
    q, k, v = (x @ w.T + b for x, w, b in zip((query, key, key), weights, biases))
    size = width // heads
    outs = []
    for h in range(heads):
        part = slice(h * size, (h + 1) * size)
        scores = q[:, part] @ k[:, part].T / math.sqrt(size)
        outs.append(torch.softmax(scores, dim=-1) @ v[:, part])
    return torch.cat(outs, dim=-1) @ attn.out_proj.weight.T + attn.out_proj.bias


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def naive(head, text, image):
    outs = []
    for words, patches in zip(text, image):
        x = attention(norm(words, head.ln_pre_t), norm(patches, head.ln_pre_i), head.cross_attn, head.heads)
        for block in head.cross_modal_transformer.resblocks:
            y = norm(x, block.ln_1)
            x = x + attention(y, y, block.attn, head.heads)
            fc, proj = block.mlp.c_fc, block.mlp.c_proj
            hidden = quick_gelu(norm(x, block.ln_2) @ fc.weight.T + fc.bias)
            x = x + hidden @ proj.weight.T + proj.bias
        outs.append(norm(x, head.ln_post))
    return torch.stack(outs)


def test_equals_its_arithmetic(head):
    text, image = torch.randn(3, 7, 24).double(), torch.randn(3, 5, 24).double()
    expected = naive(head, text, image)
    found = head(text, image)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    mlm = head.mlm_head
    logits = norm(quick_gelu(expected @ mlm.dense.weight.T + mlm.dense.bias), mlm.ln) @ mlm.fc.weight.T + mlm.fc.bias
    assert logits.shape == (3, 7, 49408)
    torch.testing.assert_close(mlm(found), logits, rtol=1e-10, atol=1e-10)


def test_recomputing_blocks_changes_nothing(head):
    text, image = torch.randn(2, 4, 24).double(), torch.randn(2, 5, 24).double()
    results = []
    for with_cp in (False, True):
        head.cross_modal_transformer.with_cp = with_cp
        head.zero_grad()
        out = head(text, image)
        out.square().sum().backward()
        results.append((out.detach(), {name: p.grad for name, p in head.named_parameters() if p.grad is not None}))
    assert torch.equal(results[0][0], results[1][0])
    assert all(torch.equal(grad, results[1][1][name]) for name, grad in results[0][1].items())


@pytest.mark.parametrize(("width", "depth"), [(64, 4), (96, 2)])
def test_weights_start_as_published(width, depth):
    torch.manual_seed(0)
    head = CrossModalRelation(width=width, depth=depth)
    closing = width**-0.5 * (2 * depth) ** -0.5
    expected = {"in_proj_weight": width**-0.5, "out_proj.weight": closing, "c_proj.weight": closing}
    expected |= {"fc.weight": closing, "c_fc.weight": (2 * width) ** -0.5, "dense.weight": (2 * width) ** -0.5}
    seen = set()
    for name, parameter in head.named_parameters():
        if parameter.ndim == 1:
            continue
        ends = [end for end in expected if name.endswith(f".{end}") or name == end]
        (end,) = ends
        seen.add(end)
        assert float(parameter.detach().std()) == pytest.approx(expected[end], rel=6 / math.sqrt(parameter.numel())), (
            name
        )
    assert seen == set(expected)


def test_heads_are_one_per_64_channels_unless_stated():
    assert CrossModalRelation(width=128, depth=1).heads == 2
    assert CrossModalRelation(width=24, depth=1).heads == 1
    assert CrossModalRelation(width=24, depth=1, heads=4).cross_attn.num_heads == 4
    for wrong in ({"heads": 5}, {"depth": 0}, {"heads": 0}):
        with pytest.raises(ValueError, match="CrossModalRelation needs depth >= 1 and heads that divide width=24"):
            CrossModalRelation(**{"width": 24, "depth": 1, **wrong})
