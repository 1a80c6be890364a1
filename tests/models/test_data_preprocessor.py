"""ReIDDataPreprocessor against torchvision, and its handling of both kinds of batches."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import functional as tv

from mmreid_text.apis import tokenize
from mmreid_text.models import data_preprocessor
from mmreid_text.models.data_preprocessor import CLIP_MEAN, CLIP_STD, ReIDDataPreprocessor


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 3, 24, 8), dtype=torch.uint8, generator=generator)
    text = tokenize(["a red coat", "a man with a long blue umbrella", ""])
    boxes = torch.tensor([[2, 1, 5, 3], [0, 0, 0, 0], [20, 6, 4, 2]])
    return {"image": image, "text": text, "masked_text": text.clone(), "erase_box": boxes, "pid": torch.arange(3)}


def test_equals_torchvision_then_fills_with_the_mean(batch):
    before = batch["image"].clone()
    result = ReIDDataPreprocessor()(batch, True)
    assert "erase_box" not in result
    assert "erase_box" in batch  # the caller's batch stays as it was
    assert torch.equal(batch["image"], before)
    for image, (top, left, height, width), got in zip(batch["image"], batch["erase_box"].tolist(), result["image"]):
        array = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        expected = tv.normalize(tv.to_tensor(array), CLIP_MEAN, CLIP_STD)
        expected[:, top : top + height, left : left + width] = torch.tensor(CLIP_MEAN)[:, None, None]
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_equals_a_float64_reference(seed):
    rng = np.random.default_rng(seed)
    size, height, width = rng.integers(1, 6), rng.integers(3, 40), rng.integers(3, 30)
    image = rng.integers(0, 256, (size, 3, height, width), dtype=np.uint8)
    mean, std = rng.uniform(1, 254, 3), rng.uniform(20, 120, 3)
    boxes = np.zeros((size, 4), dtype=np.int64)
    expected = np.empty(image.shape)
    for i in range(size):
        if rng.random() < 0.6:
            h, w = rng.integers(1, height + 1), rng.integers(1, width + 1)
            boxes[i] = rng.integers(height - h + 1), rng.integers(width - w + 1), h, w
        top, left, h, w = boxes[i]
        for c in range(3):
            expected[i, c] = (image[i, c] - mean[c]) / std[c]
            expected[i, c, top : top + h, left : left + w] = mean[c] / 255
    batch = {
        "image": torch.from_numpy(image),
        "text": tokenize(["a coat"] * int(size)),
        "erase_box": torch.from_numpy(boxes),
    }
    preprocessor = ReIDDataPreprocessor(mean.tolist(), std.tolist())
    result = preprocessor(batch, True)["image"]
    assert result.dtype == torch.float32
    np.testing.assert_allclose(result.numpy(), expected, atol=2e-6, rtol=1e-6)
    # The way of accelerators fills the same pixels.
    filled = preprocessor({**batch, "erase_box": torch.zeros_like(batch["erase_box"])}, True)["image"]
    data_preprocessor._erase_masked(filled, batch["erase_box"], preprocessor.erase_value)
    assert torch.equal(filled, result)


def test_trims_both_texts_to_the_longest_caption(batch):
    batch["masked_text"][1, 2] = 49405
    result = ReIDDataPreprocessor()(batch, True)
    assert result["text"].shape == result["masked_text"].shape == (3, 9)
    assert torch.equal(result["text"], batch["text"][:, :9])
    assert int(result["text"][1, 8]) == 49407
    assert ReIDDataPreprocessor(trim_text=False)(batch)["text"].shape == (3, 77)


def test_full_captions_are_not_trimmed():
    text = tokenize(["red " * 100])
    image = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    assert ReIDDataPreprocessor()({"image": image, "text": text})["text"].shape == (1, 77)


def test_captions_of_another_tokenizer_are_not_cut_to_nothing(batch):
    words = torch.tensor([[101, 1037, 2417, 102, 0], [101, 102, 0, 0, 0], [101, 1037, 2158, 1012, 102]])
    with pytest.raises(ValueError, match=r"lacks the id 49407, .*model\.data_preprocessor\.eot=None"):
        ReIDDataPreprocessor()({**batch, "text": words})
    assert ReIDDataPreprocessor(eot=None)({**batch, "text": words})["lengths"] == [4, 2, 5]


def test_joins_a_test_batch(batch):
    images = list(batch["image"])
    lists = {
        "image": images,
        "text": [batch["text"][:1], batch["text"], batch["text"][:2]],
        "pid": [torch.tensor(4), torch.tensor(5), torch.tensor(6)],
        "image_id": [0, 1, 2],
        "dataset": ["a", "a", "b"],
    }
    result = ReIDDataPreprocessor()(lists)
    assert result["image"].shape == (3, 3, 24, 8)
    assert result["text"].shape == (6, 9)
    assert result["num_captions"] == [1, 3, 2]
    assert result["pid"].tolist() == [4, 5, 6]
    assert result["image_id"].tolist() == [0, 1, 2]
    assert result["dataset"] == ["a", "a", "b"]
    lists["image"] = [images[0], images[1][:, :20], images[2]]
    with pytest.raises(ValueError, match=r"\(3, 20, 8\).*Resize"):
        ReIDDataPreprocessor()(lists)


def test_has_no_state_of_its_own():
    assert ReIDDataPreprocessor().state_dict() == {}
