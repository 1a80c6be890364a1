"""The encoders' fast paths against the libraries' own forward passes, in float64."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import nn
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from mmreid_text.datasets.transforms.tokenizer import EOT, SOT
from mmreid_text.models.backbones import CLIPTextEncoder, CLIPVisionEncoder
from mmreid_text.models.backbones.packing import Packing
from mmreid_text.models.backbones.quick_gelu import QuickGELU, quick_gelu_mlp

SEED = st.integers(0, 2**31)


def image_encoder(**kwargs):
    cfg = {"width": 32, "depth": 3, "heads": 2, "patch_size": 8, "embed_dim": 16, "img_size": (32, 16)}
    return CLIPVisionEncoder(**{**cfg, **kwargs}).double()


def text_encoder(**kwargs):
    cfg = {"width": 24, "depth": 3, "heads": 3, "embed_dim": 16, "context_length": 20}
    return CLIPTextEncoder(**{**cfg, **kwargs}).double()


def stir(encoder):
    """Biases and norms away from the zeros and ones that they start from."""
    for p in encoder.parameters():
        nn.init.normal_(p, std=0.3)
    return encoder


def random_text(generator, size, length):
    text = torch.zeros(size, length, dtype=torch.int64)
    for row in text:
        n = int(torch.randint(2, length + 1, (1,), generator=generator))
        row[0], row[n - 1] = SOT, EOT
        row[1 : n - 1] = torch.randint(0, 49405, (n - 2,), generator=generator)  # 0 stands inside captions, too
    return text


def library_image(encoder, image):
    """Tokens after every block by mmpretrain's block, all of them through the last as well."""
    x, _ = encoder.patch_embed(image)
    x = encoder.pre_norm(torch.cat((encoder.cls_token.expand(len(x), -1, -1), x), dim=1) + encoder.pos_embed)
    states = [x]
    for layer in encoder.layers:
        states.append(TransformerEncoderLayer.forward(layer, states[-1]))
    return encoder.project(states[-1][:, 0]), states


def library_text(encoder, text):
    """Tokens after every block by transformers' block, over padded captions."""
    states = [encoder.embeddings(input_ids=text)]
    for layer in encoder.layers:
        states.append(CLIPEncoderLayer.forward(layer, states[-1], attention_mask=None, is_causal=True))
    return encoder.project(states[-1][torch.arange(len(text)), text.argmax(dim=1)]), states


def gradients(encoder, value):
    return torch.autograd.grad(value, list(encoder.parameters()), allow_unused=True, retain_graph=True)


def assert_same_gradients(encoder, ours, theirs, weights):
    for (name, _), a, b in zip(
        encoder.named_parameters(),
        gradients(encoder, (ours * weights).sum()),
        gradients(encoder, (theirs * weights).sum()),
    ):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("with_cp", [False, True])
@settings(max_examples=4, deadline=None)
@given(seed=SEED, size=st.integers(1, 4))
def test_images_as_mmpretrain_computes_them(with_cp, seed, size):
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    encoder = stir(image_encoder(with_cp=with_cp))
    image = torch.randn(size, 3, 32, 16, generator=generator).double()
    feats, states = encoder.encode(image, [1, 2])
    expected, expected_states = library_image(encoder, image)
    torch.testing.assert_close(feats, expected, rtol=1e-10, atol=1e-10)
    for state, layer in zip(states, (1, 2)):
        torch.testing.assert_close(state, expected_states[layer], rtol=1e-10, atol=1e-10)
    for layer, state in enumerate(encoder.hidden_states(image, range(4))):
        torch.testing.assert_close(state, expected_states[layer], rtol=1e-10, atol=1e-10)
    assert_same_gradients(encoder, feats, expected, torch.randn(feats.shape, generator=generator).double())


@pytest.mark.parametrize("with_cp", [False, True])
@pytest.mark.parametrize("stated", [False, True])
@settings(max_examples=4, deadline=None)
@given(seed=SEED, size=st.integers(1, 5), length=st.integers(2, 20))
def test_captions_as_transformers_computes_them(with_cp, stated, seed, size, length):
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    encoder = stir(text_encoder(with_cp=with_cp))
    text = random_text(generator, size, length)
    lengths = (text.argmax(dim=1) + 1).tolist()
    feats, states = encoder.encode(text, [0, 2], lengths if stated else None)
    expected, expected_states = library_text(encoder, text)
    torch.testing.assert_close(feats, expected, rtol=1e-10, atol=1e-10)
    hidden = encoder.hidden_states(text, range(4), lengths if stated else None)
    for layer, state in [(0, states[0]), (2, states[1]), *enumerate(hidden)]:
        for row, other, n in zip(state, expected_states[layer], lengths):
            torch.testing.assert_close(row[:n], other[:n], rtol=1e-10, atol=1e-10)
            assert not row[n:].any()
    assert_same_gradients(encoder, feats, expected, torch.randn(feats.shape, generator=generator).double())


def test_last_block_in_full_where_its_tokens_are_asked_for():
    generator = torch.Generator().manual_seed(0)
    image, text = torch.randn(2, 3, 32, 16, generator=generator).double(), random_text(generator, 2, 12)
    for encoder, x in ((image_encoder(), image), (text_encoder(), text)):
        feats, states = encoder.encode(x, [3, 1])
        torch.testing.assert_close(feats, encoder(x), rtol=1e-12, atol=1e-12)
        assert [state.shape[:2] for state in states] == [(2, 9 if x is image else 12)] * 2
        pooled = encoder.pool(states[0]) if x is image else encoder.pool(states[0], text)
        torch.testing.assert_close(pooled, feats, rtol=1e-12, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=SEED, size=st.integers(1, 6), length=st.integers(2, 15))
def test_packing_keeps_the_tokens_up_to_eot(seed, size, length):
    text = random_text(torch.Generator().manual_seed(seed), size, length)
    lengths = (text.argmax(dim=1) + 1).tolist()
    for packing in (Packing.of(text), Packing.of(text, lengths)):
        packed = packing.pack(text[..., None])[:, 0]
        assert packed.tolist() == [token for row, n in zip(text.tolist(), lengths) for token in row[:n]]
        assert packed[packing.eot].tolist() == [EOT] * size
        unpacked = packing.unpack(packed[:, None])[..., 0]
        assert torch.equal(unpacked, torch.where(packing.visible, text, 0))
        assert packing.visible.sum(dim=1).tolist() == lengths


def mlp(width=3, inner=5):
    return nn.Linear(width, inner).double(), nn.Linear(inner, width).double()


def test_mlp_and_its_gradients():
    torch.manual_seed(0)
    up, down = mlp()
    x = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(quick_gelu_mlp(x, up, down), down(QuickGELU()(up(x))), rtol=1e-12, atol=1e-12)

    def call(x, *weights):
        for p, value in zip([up.weight, up.bias, down.weight, down.bias], weights):
            p.data = value
        return quick_gelu_mlp(x, up, down)

    assert torch.autograd.gradcheck(lambda x: call(x, *[p.data for p in (*up.parameters(), *down.parameters())]), x)
    value = (quick_gelu_mlp(x, up, down) * torch.arange(3)).sum()
    expected = (down(QuickGELU()(up(x))) * torch.arange(3)).sum()
    inputs = [x, *up.parameters(), *down.parameters()]
    for a, b in zip(torch.autograd.grad(value, inputs), torch.autograd.grad(expected, inputs)):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frozen", ["up", "down", "x"])
def test_mlp_with_frozen_parts(frozen):
    torch.manual_seed(0)
    up, down = mlp()
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=frozen != "x")
    for name, part in (("up", up), ("down", down)):
        part.requires_grad_(name != frozen)
    inputs = [p for p in (x, *up.parameters(), *down.parameters()) if p.requires_grad]
    ours = torch.autograd.grad(quick_gelu_mlp(x, up, down).square().sum(), inputs)
    theirs = torch.autograd.grad(down(QuickGELU()(up(x))).square().sum(), inputs)
    for a, b in zip(ours, theirs):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_mlp_under_autocast():
    torch.manual_seed(0)
    up, down = nn.Linear(32, 64), nn.Linear(64, 32)
    x = torch.randn(8, 32, requires_grad=True)
    inputs = [x, *up.parameters(), *down.parameters()]
    exact = torch.autograd.grad(down(QuickGELU()(up(x))).square().sum(), inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = quick_gelu_mlp(x, up, down)
    assert out.dtype == torch.bfloat16
    for a, b in zip(torch.autograd.grad(out.float().square().sum(), inputs), exact):
        assert a.dtype == torch.float32
        assert float((a - b).norm() / b.norm()) < 0.02


def test_checkpointed_blocks_run_twice():
    image = torch.randn(2, 3, 32, 16).double()
    encoder = image_encoder(with_cp=True)
    ran = []
    for i, layer in enumerate(encoder.layers):
        layer.register_forward_pre_hook(lambda *_, i=i: ran.append(i))
    encoder(image).sum().backward()
    assert ran == [0, 1, 2, 2, 1, 0]
    ran.clear()
    with torch.no_grad():
        encoder(image)
    assert ran == [0, 1, 2]


def test_fast_blocks_survive_a_copy():
    encoder = stir(image_encoder())
    image = torch.randn(2, 3, 32, 16).double()
    assert torch.equal(copy.deepcopy(encoder)(image), encoder(image))
