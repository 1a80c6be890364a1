"""Similarity and attention maps against naive float64, and heat laid over crops."""

import numpy as np
import pytest
import torch
from torch import nn

from mmreid_text.models.backbones.clip_vision_encoder import CLIPVisionEncoder
from mmreid_text.visualization.attention_map import attention_maps
from mmreid_text.visualization.similarity_map import overlay, similarity_maps


def test_similarity_maps_equal_cosines_patch_by_patch():
    generator = torch.Generator().manual_seed(0)
    text = 5 * torch.randn(3, 8, generator=generator)
    image = torch.randn(1 + 6, 8, generator=generator)
    maps = similarity_maps(text, image, (3, 2))
    assert maps.shape == (3, 3, 2)
    a, b = text.double().numpy(), image.double().numpy()
    for word in range(3):
        for row in range(3):
            for column in range(2):
                patch = b[1 + 2 * row + column]  # [CLS] is no patch
                cosine = a[word] @ patch / np.linalg.norm(a[word]) / np.linalg.norm(patch)
                assert maps[word, row, column].item() == pytest.approx(cosine, abs=1e-6)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    encoder = CLIPVisionEncoder(width=16, depth=3, heads=4, patch_size=8, embed_dim=8, img_size=(32, 16))
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.4)
    encoder.eval()
    return encoder


@pytest.mark.parametrize("layer", [1, 3, None])
def test_attention_maps_equal_naive_weights_in_float64(encoder, layer):
    image = torch.randn(2, 3, 32, 16)
    found = attention_maps(encoder, image, layer)
    number = layer or 3
    block = encoder.layers[number - 1]
    with torch.no_grad():
        hidden = block.ln1(encoder.hidden_states(image, [number - 1])[0]).double().numpy()  # (2, 9, 16)
    weight, bias = (p.detach().double().numpy() for p in (block.attn.qkv.weight, block.attn.qkv.bias))
    for b in range(2):
        expected = np.zeros(8)
        for head in range(4):
            rows = slice(4 * head, 4 * head + 4)
            query = weight[:16][rows] @ hidden[b, 0] + bias[:16][rows]
            keys = hidden[b] @ weight[16:32][rows].T + bias[16:32][rows]
            scores = np.exp(keys @ query / 2.0)  # the square root of 4 channels
            expected += (scores / scores.sum())[1:] / 4
        np.testing.assert_allclose(found[b].flatten().numpy(), expected, rtol=1e-4, atol=1e-7)
    assert found.shape == (2, 4, 2)
    assert found.flatten(1).std(dim=1).min() > 1e-3  # not uniform, so the comparison says something


def test_attention_maps_refuse_other_encoders_and_layers(encoder):
    with pytest.raises(TypeError, match="Conv2d is none"):
        attention_maps(nn.Conv2d(3, 3, 1), torch.zeros(1, 3, 32, 16))
    with pytest.raises(ValueError, match=r"layer 4 of an encoder of 3 blocks asked: give 1\.\.3"):
        attention_maps(encoder, torch.zeros(1, 3, 32, 16), 4)


def test_overlay_is_hot_where_the_map_is_high_and_shows_the_crop_below():
    image = np.full((64, 32, 3), 128, dtype=np.uint8)
    image[:, :16] = 90
    heat = np.zeros((8, 4), dtype=np.float32)
    heat[6, 1] = 2.0
    picture = overlay(image, heat)
    assert picture.shape == image.shape
    assert picture.dtype == np.uint8
    bright = picture.astype(int).sum(axis=-1)
    y, x = np.unravel_index(bright.argmax(), bright.shape)
    assert 48 <= y < 56
    assert 8 <= x < 16
    assert (picture[:16, :16] != picture[:16, 16:]).all()  # the crop's own edge stays
    np.testing.assert_array_equal(overlay(image, 3 * heat + 1), picture)  # scaled to its own span
    dark = overlay(image, heat, limits=(0.0, 20.0)).astype(int).sum(axis=-1)
    assert dark.max() < bright.max() - 100  # on the scale of a hotter map


def test_overlay_of_a_flat_map_is_even_and_bad_input_is_refused():
    image = np.full((10, 6, 3), 200, dtype=np.uint8)
    assert len(np.unique(overlay(image, np.ones((2, 2))).reshape(-1, 3), axis=0)) == 1
    with pytest.raises(ValueError, match=r"float64 \(10, 6, 3\)"):
        overlay(image / 255, np.ones((2, 2)))
    with pytest.raises(ValueError, match="finite numbers"):
        overlay(image, np.array([[0.0, np.nan]]))
