"""Attributes out of images: against naive float64, and by every kind of scorer."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from mmreid_text.apis.inferencer import TextReIDInferencer
from mmreid_text.procedural.domains import World
from mmreid_text.pseudo_text.scoring import PromptScorer, best_classes, check_scorer, keep, load_encoder
from mmreid_text.pseudo_text.vocabulary import load_vocabulary

ROOT = Path(__file__).parents[2]
WEIGHTS = str(ROOT / "mmreid_text/weights/tiny_web.pt")
DRAWN = ROOT / "configs/unipt/vocabulary_drawn.yaml"


@pytest.fixture(scope="module")
def vocabulary():
    return load_vocabulary(DRAWN)


@pytest.fixture(scope="module")
def pictures():
    world = World("source", 6, seed=3, size=(128, 64))
    return [world.render(row) for row in range(6)]


def naive(cosines, spans, scale):
    """Soft-max by its formula, image by image."""
    best, probability = [], []
    for row in cosines.double().tolist():
        for span in spans:
            logits = [scale * value for value in row[span]]
            parts = [math.exp(value - max(logits)) for value in logits]
            best.append(max(range(len(parts)), key=lambda i: parts[i]))
            probability.append(parts[best[-1]] / sum(parts))
    shape = (len(cosines), len(spans))
    return np.reshape(best, shape), np.reshape(probability, shape)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_soft_max_is_within_each_attribute(scale):
    cosines = 2 * torch.rand(40, 30, generator=torch.Generator().manual_seed(0)) - 1
    spans = [slice(0, 3), slice(3, 5), slice(5, 30)]
    best, probability = best_classes(cosines, spans, scale)
    expected = naive(cosines, spans, scale)
    np.testing.assert_array_equal(best.numpy(), expected[0])
    np.testing.assert_allclose(probability.numpy(), expected[1], rtol=2e-5)


def test_required_attributes_are_kept_and_optional_ones_above_the_threshold(vocabulary):
    slots = vocabulary.slots
    best = np.zeros((4, len(slots)), dtype=np.int64)
    probability = np.full(best.shape, 0.3, np.float32)
    bag = slots.index("bag")
    none = len(vocabulary.attributes[bag].classes) - 1
    best[:, bag] = [1, 1, none, 2]
    probability[:, bag] = [0.91, 0.89, 0.99, 0.2]
    told = keep(best, probability, vocabulary, threshold=0.9)
    assert told[:, bag].tolist() == [1, -1, -1, -1]
    assert keep(best, probability, vocabulary, threshold=0.95)[:, bag].tolist() == [-1, -1, -1, -1]
    assert keep(best, probability, vocabulary, threshold=0.1)[:, bag].tolist() == [1, 1, -1, 2]
    for slot in ("gender", "upper", "lower", "hair"):
        assert (told[:, slots.index(slot)] == 0).all()


def test_cosines_are_those_of_the_models_features(vocabulary, pictures):
    encoder = load_encoder({})
    scorer = PromptScorer(encoder, vocabulary)
    cosines = scorer.cosines(torch.stack([encoder.prepare(picture) for picture in pictures]))
    inferencer = TextReIDInferencer(device="cpu")
    expected = inferencer.encode_image(pictures) @ inferencer.encode_text(vocabulary.prompts).T
    np.testing.assert_allclose(cosines.numpy(), expected, atol=2e-6)
    best, probability = scorer.best(torch.stack([encoder.prepare(picture) for picture in pictures]))
    expected = naive(torch.from_numpy(expected), list(vocabulary.spans()), 100.0)
    np.testing.assert_array_equal(best.numpy(), expected[0])
    np.testing.assert_allclose(probability.numpy(), expected[1], atol=1e-3)


@pytest.mark.parametrize(
    "cfg",
    [
        dict(clip=WEIGHTS, img_size=(64, 32)),
        dict(config=str(ROOT / "configs/nam/tiny_procedural.py"), checkpoint=WEIGHTS),
        dict(config=str(ROOT / "configs/nam/tiny_procedural.py")),
    ],
    ids=["clip", "config and checkpoint", "config"],
)
def test_any_dual_encoder_scores(cfg, vocabulary, pictures):
    scored = []
    for each in ({}, cfg):
        encoder = load_encoder(each)
        images = torch.stack([encoder.prepare(picture) for picture in pictures])
        scored.append(PromptScorer(encoder, vocabulary).cosines(images).numpy())
    np.testing.assert_allclose(scored[0], scored[1], atol=2e-6)


def test_a_fingerprint_tells_models_and_sizes_apart():
    first = load_encoder(dict(clip=WEIGHTS, img_size=(64, 32))).fingerprint
    assert load_encoder(dict(clip=WEIGHTS, img_size=(64, 32))).fingerprint == first
    assert load_encoder(dict(clip=WEIGHTS, img_size=(128, 64))).fingerprint != first


@pytest.mark.parametrize(
    ("cfg", "told"),
    [
        (dict(clips="x"), r"'scorer.clips' is unknown; did you mean 'clip'"),
        (dict(clip=WEIGHTS), "needs img_size"),
        (dict(config="x.py", img_size=(64, 32)), "needs img_size"),
        (dict(clip=WEIGHTS, img_size=(64, 32), checkpoint="x.pth"), "give `clip`, or the other two"),
    ],
)
def test_bad_scorers_are_refused(cfg, told):
    with pytest.raises(ValueError, match=told):
        check_scorer(cfg)
