"""The inferencer against an evaluation by a runner, and where it takes config and weights from."""

import copy

import numpy as np
import pytest
import torch
from gallery_crops import inferencer, write_crops
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from PIL import Image
from small_pipelines import TEST

from mmreid_text.apis import TextReIDInferencer, tokenize
from mmreid_text.apis.checkpoint_config import stated_config
from mmreid_text.datasets import write_caption_table
from mmreid_text.engine.config import load_config
from mmreid_text.engine.training_run import run_test
from mmreid_text.evaluation.feature_dumps import read_dump
from mmreid_text.registry import DATASETS, MODELS

CAPTIONS = ["A man in a red coat.", "Someone with a long blue dress, and white shoes", "two words"]
MODEL = {
    "type": "DualEncoder",
    "image_encoder": {
        **{"type": "CLIPVisionEncoder", "width": 32, "depth": 2, "heads": 2, "patch_size": 8},
        **{"embed_dim": 16, "img_size": (48, 16)},
    },
    "text_encoder": {"type": "CLIPTextEncoder", "width": 24, "depth": 2, "heads": 3, "embed_dim": 16},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A config that tests on seven crops of three sizes, a checkpoint that carries it, and the features it dumped."""
    folder = tmp_path_factory.mktemp("trained")
    names = write_crops(folder / "crops", 7)
    for name, size in zip(names, ((16, 48), (33, 80), (20, 41))):
        Image.open(folder / "crops" / name).resize(size).save(folder / "crops" / name)
    rows = {"image": names, "caption": [CAPTIONS[i % 3] for i in range(7)], "pid": list(range(7))}
    table = folder / "t.arrow"
    write_caption_table(table, [{**rows, "image_id": list(range(7)), "split": "test"}], "crops", str(folder / "crops"))
    dataset = {"type": "TextReIDDataset", "table": str(table), "pipeline": TEST, "test_mode": True, "name": "crops"}
    cfg = Config(
        {
            "model": MODEL,
            "default_scope": "mmreid_text",
            "test_dataloader": {
                **{"batch_size": 3, "num_workers": 0, "dataset": dataset},
                **{"sampler": {"type": "ArraySampler", "shuffle": False}, "collate_fn": {"type": "pseudo_collate"}},
            },
            "test_cfg": {"type": "TestLoop"},
            "test_evaluator": {"type": "ReIDMetric"},
            "log_level": "ERROR",
        }
    )
    torch.manual_seed(3)
    model = MODELS.build(MODEL)
    model.init_weights()
    state = {key: value + 0.02 * torch.randn(value.shape) if value.is_floating_point() else value
             for key, value in model.state_dict().items()}  # fmt: skip
    torch.save({"state_dict": state, "meta": {"cfg": cfg.pretty_text}}, folder / "epoch_1.pth")
    hook = {"type": "FeatureDumpHook", "out_dir": str(folder / "features")}
    run_test(cfg, folder / "work", folder / "epoch_1.pth", [hook])
    return folder, cfg, names


def unit(array):
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def test_features_are_those_of_an_evaluation(trained):
    folder, _, names = trained
    wanted, _ = read_dump(folder / "features/crops.npz")
    ours = TextReIDInferencer(checkpoint=folder / "epoch_1.pth", device="cpu")
    paths = [folder / "crops" / name for name in names]
    np.testing.assert_allclose(ours.encode_image(paths, batch_size=4), unit(wanted["image"]), atol=2e-6)
    texts = ours.encode_text([CAPTIONS[i % 3] for i in range(7)], batch_size=2)
    np.testing.assert_allclose(texts, unit(wanted["text"]), atol=2e-6)
    assert texts.dtype == np.float32


def test_pixels_and_ids_are_those_of_an_evaluation_bit_for_bit(trained):
    folder, cfg, names = trained
    ours = TextReIDInferencer(cfg, folder / "epoch_1.pth", device="cpu")
    dataset = DATASETS.build(cfg.test_dataloader.dataset.copy())
    batch = ours.model.data_preprocessor(pseudo_collate([dataset[i] for i in range(7)]), False)
    assert torch.equal(ours.preprocess([folder / "crops" / name for name in names]), batch["image"])
    assert torch.equal(ours.tokenize([CAPTIONS[i % 3] for i in range(7)]), batch["text"])


def test_every_kind_of_image_gives_the_same(trained):
    folder, _, names = trained
    ours = TextReIDInferencer(checkpoint=folder / "epoch_1.pth", device="cpu")
    path = folder / "crops" / names[1]
    kinds = [path, str(path), path.read_bytes(), Image.open(path), np.asarray(Image.open(path))]
    pixels = ours.preprocess(kinds)
    assert pixels.shape == (5, 3, 48, 16)
    assert (pixels == pixels[:1]).all()
    assert ours.encode_image([]).shape == (0, 16)
    assert ours.encode_text([]).shape == (0, 16)


def test_the_package_brings_a_model():
    ours = inferencer()
    demo = load_config("configs/nam/tiny_procedural.py")
    theirs = TextReIDInferencer(demo, device="cpu")
    assert ours.fingerprint == theirs.fingerprint
    assert torch.equal(ours.tokenize(CAPTIONS), tokenize(CAPTIONS)[:, : ours.tokenize(CAPTIONS).shape[1]])
    crops = [np.full((80, 30, 3), colour, np.uint8) for colour in ((220, 20, 20), (20, 20, 220))]
    scores = ours.encode_text(["a red coat and red trousers", "a blue coat and blue trousers"])
    scores = scores @ ours.encode_image(crops).T
    assert scores[0, 0] > scores[0, 1]
    assert scores[1, 1] > scores[1, 0]
    assert not any(parameter.requires_grad for parameter in ours.model.parameters())


def test_the_fingerprint_tells_what_makes_features(trained, tmp_path):
    folder, cfg, _ = trained
    first = TextReIDInferencer(cfg, folder / "epoch_1.pth", device="cpu").fingerprint
    content = torch.load(folder / "epoch_1.pth", weights_only=True)
    again = dict(content, optimizer={"lr": 1.0})
    torch.save(again, tmp_path / "again.pth")
    assert TextReIDInferencer(checkpoint=tmp_path / "again.pth", device="cpu").fingerprint == first
    content["state_dict"]["image_encoder.projection.weight"][0, 0] += 1e-3
    torch.save(content, tmp_path / "other.pth")
    assert TextReIDInferencer(checkpoint=tmp_path / "other.pth", device="cpu").fingerprint != first
    other = copy.deepcopy(cfg)
    other.test_dataloader.dataset.pipeline[1].backend = "cv2"
    assert TextReIDInferencer(other, folder / "epoch_1.pth", device="cpu").fingerprint != first
    prints = []
    for name, words in (("one", "a\nman\n"), ("moved", "a\nman\n"), ("changed", "man\na\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "words.txt").write_text(words)
        other = copy.deepcopy(cfg)
        tokenizer = {"type": "WordTokenizer", "vocab": str(tmp_path / name / "words.txt")}
        other.test_dataloader.dataset.pipeline[2].tokenizer = tokenizer
        other.model.data_preprocessor = {"type": "ReIDDataPreprocessor", "eot": None}
        prints.append(TextReIDInferencer(other, folder / "epoch_1.pth", device="cpu").fingerprint)
    assert prints[0] == prints[1]
    assert len({first, *prints}) == 3


def test_a_config_in_a_checkpoint_is_never_run(tmp_path):
    def read(text):
        return stated_config({"meta": {"cfg": text}}, "c.pth")

    assert read("a = dict(b=[1, (2, -3.5)], c={'x y': None})\nd = True\n").a.b == [1, (2, -3.5)]
    for text in (
        "import os",
        "a = __import__('os').system('true')",
        "a = [x for x in (1,)]",
        "a = dict(**{'b': 1})",
        "a = open('x')",
        "a.b = 1",
        "a = b",
        "a = (",
    ):
        with pytest.raises(ValueError, match="carries a config that is not plain data"):
            read(text)
    for content in ({}, {"meta": {}}, {"meta": {"cfg": " "}}):
        with pytest.raises(ValueError, match="does not carry the config of its run"):
            stated_config(content, "c.pth")


def test_what_does_not_fit_is_named(trained, tmp_path):
    folder, cfg, _ = trained
    with pytest.raises(FileNotFoundError, match="nowhere"):
        TextReIDInferencer(cfg, tmp_path / "nowhere.pth", device="cpu")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        TextReIDInferencer(tmp_path / "nowhere.py", device="cpu")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth does not exist"):
        TextReIDInferencer(checkpoint=tmp_path / "nowhere.pth", device="cpu")
    with pytest.raises(ValueError, match="device='abacus' cannot be used here"):
        TextReIDInferencer(device="abacus")
    with pytest.raises(ValueError, match="names no CLIP weights"):
        TextReIDInferencer(cfg, device="cpu")
    content = torch.load(folder / "epoch_1.pth", weights_only=True)
    del content["state_dict"]["text_encoder.projection.weight"]
    torch.save(content, tmp_path / "less.pth")
    with pytest.raises(ValueError, match=r"lacks 'text_encoder.projection.weight'"):
        TextReIDInferencer(checkpoint=tmp_path / "less.pth", device="cpu")
    wider = copy.deepcopy(cfg)
    wider.model.image_encoder.width = 64
    with pytest.raises(ValueError, match=r"has 'image_encoder\.\S+' as \(.* more do not fit"):
        TextReIDInferencer(wider, folder / "epoch_1.pth", device="cpu")
    (tmp_path / "bad.pth").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="bad"):
        TextReIDInferencer(cfg, tmp_path / "bad.pth", device="cpu")


def test_sentences_are_checked():
    ours = inferencer()
    with pytest.raises(ValueError, match="A sentence is empty"):
        ours.encode_text(["fine", " \n"])
    with pytest.raises(ValueError, match="has 50,000,000 characters"):
        ours.encode_text(["a" * 50_000_000])
    with pytest.raises(ValueError, match="as a list"):
        ours.encode_text("a woman")
    assert ours.encode_text(["word " * 390]).shape == (1, 64)  # more than the model reads
    with pytest.raises(RuntimeError, match="open_gallery"):
        ours.search("a woman")
