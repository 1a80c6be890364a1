"""Explanations against scores and cosines that are computed one at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from PIL import Image

from mmreid_text.apis.explain import explain, split_words
from mmreid_text.apis.inferencer import TextReIDInferencer
from mmreid_text.procedural.domains import World
from mmreid_text.registry import MODELS
from mmreid_text.visualization.explanation_sheet import (
    ExplainedImage,
    contribution_chips,
    contribution_colour,
    draw_explanations,
    heaviest_words,
    save_explanations,
)

SENTENCE = "A Man&amp;apos;s  t-shirt, checkered (red)!"
CLEAN = "a man's t-shirt, checkered (red)!"


@pytest.fixture(scope="module")
def inferencer():
    return TextReIDInferencer(device="cpu")


@pytest.fixture(scope="module")
def image():
    return World("street", 4, None, 0, 0.0, (64, 32), "test").render(0)


def test_contributions_are_scores_with_the_word_less_scores_without_it(inferencer, image):
    found = explain(inferencer, SENTENCE, image)
    assert found.sentence == CLEAN
    assert found.words == ["a", "man's", "t-shirt", "checkered", "red"]
    assert [CLEAN[start:end] for start, end in found.spans] == found.words
    feature = inferencer.encode_image([image])[0].astype(np.float64)

    def score(sentence):
        return inferencer.encode_text([sentence])[0].astype(np.float64) @ feature

    assert found.score == pytest.approx(score(SENTENCE), abs=1e-6)
    without = [" man's t-shirt, checkered (red)!", "a t-shirt, checkered (red)!", "a man's , checkered (red)!"]
    without += ["a man's t-shirt, (red)!", "a man's t-shirt, checkered ( )!"]
    expected = [score(SENTENCE) - score(other) for other in without]
    np.testing.assert_allclose(found.contributions, expected, atol=1e-6)
    assert np.abs(found.contributions).min() > 1e-5  # every word counts, so a mixed-up order would show


@pytest.mark.parametrize("layer", [2, None])
def test_maps_are_cosines_of_the_words_own_tokens_and_patches(inferencer, image, layer):
    found = explain(inferencer, SENTENCE, image, layer)
    with torch.no_grad():
        tokens = inferencer.model.token_features(
            inferencer.preprocess([image]), inferencer.tokenize([SENTENCE]), layer or 4
        )
    patches, words = (x[0].double().numpy() for x in tokens)
    pieces = {"a": [1], "man's": [2, 3], "t-shirt": [4, 5, 6], "checkered": [8, 9], "red": [11]}
    assert found.maps.shape == (5, 8, 4)
    assert found.maps.dtype == np.float32
    for map_, positions in zip(found.maps, pieces.values()):
        for row, column in ((0, 0), (3, 2), (7, 3)):
            patch = patches[1 + 4 * row + column]
            cosines = [words[p] @ patch / np.linalg.norm(words[p]) / np.linalg.norm(patch) for p in positions]
            assert map_[row, column] == pytest.approx(np.mean(cosines), abs=1e-5)
    if layer is None:
        sentence = inferencer.encode_text([SENTENCE])[0]
        cosine = sentence @ patches[1 + 4 * 5 + 1] / np.linalg.norm(patches[1 + 4 * 5 + 1])
        assert found.sentence_map[5, 1] == pytest.approx(cosine, abs=1e-5)


def test_maps_are_taken_where_the_model_compares_tokens(inferencer, image):
    class Noise(torch.nn.Module):
        layer = 2

    plain, second = explain(inferencer, "red coat", image), explain(inferencer, "red coat", image, layer=2)
    inferencer.model.token_noise = Noise()
    try:
        found = explain(inferencer, "red coat", image)
    finally:
        inferencer.model.token_noise = None
    np.testing.assert_array_equal(found.maps, second.maps)
    assert np.abs(found.maps - plain.maps).max() > 0.01


def test_odd_sentences(inferencer, image):
    alone = explain(inferencer, "red", image)
    assert alone.contributions.tolist() == [pytest.approx(alone.score)]
    marks = explain(inferencer, "?!", image)
    assert marks.words == []
    assert marks.maps.shape == (0, 8, 4)
    long = explain(inferencer, "red coat " * 60, image)  # 120 tokens, 75 of which are read
    assert len(long.words) == 75
    with pytest.raises(ValueError, match="A sentence is empty"):
        explain(inferencer, "  ", image)


def other_model(folder, tokenizer, text_encoder):
    """A ResNet that has no grid of its own, and a text encoder over other ids than CLIP's, with random weights."""
    preprocessor = dict(type="ReIDDataPreprocessor", eot=None)
    image_encoder = dict(type="ResNetEncoder", num_layers=18, embed_dim=text_encoder["embed_dim"])
    steps = [dict(type="LoadImage"), dict(type="Resize", size=(96, 64))]
    steps += [dict(type="Tokenize", max_length=20, tokenizer=tokenizer), dict(type="PackSample")]
    cfg = Config(
        dict(
            model=dict(
                type="DualEncoder",
                image_encoder=image_encoder,
                text_encoder=text_encoder,
                data_preprocessor=preprocessor,
            ),
            test_dataloader=dict(dataset=dict(type="TextReIDDataset", pipeline=steps)),
        )
    )
    torch.manual_seed(0)
    torch.save({"state_dict": MODELS.build(cfg.model).state_dict()}, folder / "model.pth")
    return TextReIDInferencer(cfg, folder / "model.pth", device="cpu")


def test_words_of_other_tokenizers_find_their_tokens(tmp_path, image):
    (tmp_path / "words.txt").write_text("a\nred\ncoat\n")
    tokenizer = dict(type="WordTokenizer", vocab=str(tmp_path / "words.txt"), vocab_size=7)
    text_encoder = dict(type="BiLSTMTextEncoder", vocab_size=7, embed_dim=8, word_dim=4, hidden=4)
    model = other_model(tmp_path, tokenizer, text_encoder)
    found = explain(model, "A zany red, red coat.", image)
    assert found.words == ["a", "red", "red", "coat"]  # it does not know the zany one
    assert found.maps.shape == (4, 3, 2)
    with torch.no_grad():
        tokens = model.model.token_features(model.preprocess([image]), model.tokenize(["A zany red, red coat."]), 1)
    patches, words = (x[0].double().numpy() for x in tokens)
    for i, position in enumerate((0, 2, 3, 4)):
        a, b = words[position], patches[1 + 2 * 2 + 1]
        assert found.maps[i, 2, 1] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-5)

    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "red", "co", "##at", "##s", "re", "##d"]
    (tmp_path / "vocab.txt").write_text("\n".join(pieces) + "\n")
    tokenizer = dict(type="WordPieceTokenizer", vocab=str(tmp_path / "vocab.txt"))
    model = other_model(tmp_path, tokenizer, text_encoder | dict(vocab_size=len(pieces)))
    found = explain(model, "A zany coats, red", image)
    assert found.words == ["a", "coats", "red"]
    ids = model.tokenize(["A zany coats, red"])[0].tolist()
    assert [pieces[i] for i in ids] == ["[CLS]", "a", "[UNK]", "co", "##at", "##s", "[UNK]", "red", "[SEP]"]
    with torch.no_grad():
        tokens = model.model.token_features(model.preprocess([image]), torch.tensor([ids]), 1)
    patches, words = (torch.nn.functional.normalize(x[0], dim=-1).numpy() for x in tokens)
    expected = words[[3, 4, 5]].mean(axis=0) @ patches[1:].T
    np.testing.assert_allclose(found.maps[1].ravel(), expected, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab '-,.()!é上\u0301\n", max_size=30))
def test_words_are_disjoint_in_order_and_hold_every_letter(sentence):
    spans = split_words(sentence)
    assert all(start < end for start, end in spans)
    assert all(spans[i][1] <= spans[i + 1][0] for i in range(len(spans) - 1))
    inside = {i for start, end in spans for i in range(start, end)}
    assert {i for i, character in enumerate(sentence) if character.isalnum()} <= inside
    assert not any(sentence[i] in " ,.()!\n" for i in inside)


def test_sheet_shows_crop_maps_and_coloured_words(inferencer, image, tmp_path):
    found = explain(inferencer, SENTENCE, image)
    heaviest = heaviest_words(found, 3)
    assert heaviest == sorted(np.argsort(-np.abs(found.contributions))[:3].tolist())
    largest = float(np.abs(found.contributions).max())
    chips = contribution_chips(found, largest)
    assert [chip.text for chip in chips] == found.words
    assert float(chips[2].cells[0].text) == pytest.approx(found.contributions[2], abs=5e-4)
    red, _, blue = contribution_colour(largest, largest)
    assert blue > red + 80
    red, _, blue = contribution_colour(-largest, largest)
    assert red > blue + 80
    one = ExplainedImage(image, "a.jpg", found, np.eye(8, 4))
    save_explanations([one, one], "title", tmp_path / "new/sheet.png")
    picture = np.asarray(Image.open(tmp_path / "new/sheet.png"))
    row = np.array(Image.fromarray(image).resize((96, 192), Image.Resampling.BICUBIC))
    corner = next((y, 22) for y in range(78, 160) if (picture[y : y + 192, 22:118] == row).all())  # the crop itself
    attention = picture[corner[0] : corner[0] + 192, 128:224]
    assert (attention != row).any(-1).mean() > 0.9
    fill = contribution_colour(float(found.contributions[heaviest_words(found, 1)[0]]), largest)
    assert (picture == fill).all(-1).sum() > 200  # the cell of the word that counts most
    with pytest.raises(ValueError, match="no image"):
        draw_explanations([], "title")
