"""Exported weights read by transformers, by a restatement of IRRA, and by ourselves."""

import dataclasses
import json
import math
import os
import signal

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from irra_restated import MASK, Restated, Sizes, random_state, random_text, save_checkpoint
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel, CLIPTokenizer

from mmreid_text.apis import build_clip, load_peer, tokenize
from mmreid_text.datasets.transforms import Resize
from mmreid_text.models import exports
from mmreid_text.models.checkpoints import load_clip
from mmreid_text.models.data_preprocessor import ReIDDataPreprocessor
from mmreid_text.models.exports import export_hugging_face, export_irra
from mmreid_text.models.retrievers import DualEncoder
from mmreid_text.models.square_grid import square_positions

SENTENCES = [
    "A man in a dark-blue coat, 2 white shoes & a backpack; he's looking left!",
    "The woman's hair is long.  She wears a RED dress\nwith 100% cotton sleeves (short).",
    "",
    "café naïve 上衣 кофта e\u0301 \u200b half-length jeans...",
    "word " * 100,
]


def random_model(sizes, seed=0, heads=None, theads=None):
    """A dual encoder of ours with arbitrary weights, biases and norms included."""
    torch.manual_seed(seed)
    model = DualEncoder(
        image_encoder=dict(
            type="CLIPVisionEncoder",
            width=sizes.width,
            depth=sizes.depth,
            heads=heads or max(sizes.width // 64, 1),
            patch_size=sizes.patch,
            embed_dim=sizes.dim,
            img_size=sizes.img_size,
        ),
        text_encoder=dict(
            type="CLIPTextEncoder",
            width=sizes.twidth,
            depth=sizes.tdepth,
            heads=theads or max(sizes.twidth // 64, 1),
            embed_dim=sizes.dim,
            context_length=sizes.context,
        ),
    ).eval()
    for p in model.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    return model


def save(model, path):
    torch.save({"meta": {}, "state_dict": model.state_dict()}, path)
    return load_clip(str(path))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A folder in Hugging Face's layout and the model that it is of, with 384x128's grid in small: 12x4."""
    folder = tmp_path_factory.mktemp("export")
    model = random_model(Sizes(width=48, patch=8, grid=(12, 4), twidth=32, dim=24), heads=4, theads=2)
    export_hugging_face(save(model, folder / "epoch_1.pth"), folder / "clip", tau=0.02)
    return folder / "clip", model


# --- IRRA --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sizes",
    [Sizes(), Sizes(width=128, dim=32, ids=None), Sizes(twidth=128, blocks=None)],
    ids=["all", "no_id", "no_mlm"],
)
def test_irras_layout_comes_back_bit_for_bit(sizes, tmp_path):
    state = random_state(sizes, seed=3)
    save_checkpoint(tmp_path / "theirs.pth", state)
    ours = load_peer(str(tmp_path / "theirs.pth"), sizes.img_size)
    export_irra(save(ours, tmp_path / "epoch_1.pth"), tmp_path / "new" / "best.pth", relation_heads=1)
    content = torch.load(tmp_path / "new" / "best.pth", weights_only=True)
    assert content.keys() == {"model"}
    assert content["model"].keys() == state.keys()
    for key, value in state.items():
        assert torch.equal(content["model"][key], value), key
        assert content["model"][key].is_contiguous()


def test_our_weights_work_in_irras_arithmetic(tmp_path):
    sizes = Sizes(width=128, grid=(3, 2), twidth=64, dim=32)
    model = random_model(sizes)
    export_irra(save(model, tmp_path / "epoch_1.pth"), tmp_path / "best.pth")
    theirs = Restated(torch.load(tmp_path / "best.pth", weights_only=True)["model"])
    again = load_peer(str(tmp_path / "best.pth"), sizes.img_size)
    image, text = torch.randn(3, 3, *sizes.img_size), random_text(3, 77, 0)
    with torch.no_grad():
        for name, batch in (("encode_image", image), ("encode_text", text)):
            ours = getattr(model, name)(batch)
            torch.testing.assert_close(ours.double(), getattr(theirs, name)(batch), atol=1e-5, rtol=0)
            assert torch.equal(getattr(again, name)(batch), ours)


@pytest.mark.parametrize(
    ("heads", "theads", "relation", "message"),
    [
        (2, None, None, r"image_encoder\.heads=2 at width 64 .*one per 64 channels, 1 here"),
        (None, 4, None, r"text_encoder\.heads=4 at width 64"),
        (None, None, 2, r"relation\.heads=2 at width 64"),
    ],
)
def test_heads_that_irras_code_cannot_know_are_refused(heads, theads, relation, message, tmp_path):
    weights = save(random_model(Sizes(), heads=heads, theads=theads), tmp_path / "epoch_1.pth")
    with pytest.raises(ValueError, match=message):
        export_irra(weights, tmp_path / "best.pth", relation)
    unknown = dataclasses.replace(weights, heads={"relation.ln_post.weight": torch.ones(64)})
    with pytest.raises(ValueError, match="does not state the attention heads of its relation head: name the config"):
        export_irra(unknown, tmp_path / "best.pth")
    assert not (tmp_path / "best.pth").exists()


# --- Hugging Face ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sizes",
    [Sizes(width=48, grid=(4, 4), dim=24), Sizes(grid=(4, 2)), Sizes(grid=(3, 2), context=20), Sizes(grid=(2, 5))],
    ids=["square", "4x2", "3x2", "2x5"],
)
def test_transformers_gives_the_same_features(sizes, tmp_path):
    model = random_model(sizes, heads=4)
    export_hugging_face(save(model, tmp_path / "epoch_1.pth"), tmp_path / "clip")
    check_features(tmp_path / "clip", model, random_text(4, sizes.context, 1))


def test_transformers_gives_the_same_features_at_three_to_one(exported):
    folder, model = exported
    texts = tokenize(SENTENCES)
    texts[:2, 3:5] = MASK
    check_features(folder, model, texts)


def check_features(folder, model, texts):
    theirs = CLIPModel.from_pretrained(folder).eval()
    again = build_clip(str(folder), model.image_encoder.img_size)
    image = torch.randn(3, 3, *model.image_encoder.img_size)
    with torch.no_grad():
        images = theirs.get_image_features(image, interpolate_pos_encoding=True).pooler_output
        captions = theirs.get_text_features(texts).pooler_output
        torch.testing.assert_close(images, model.encode_image(image), atol=1e-5, rtol=0)
        torch.testing.assert_close(captions, model.encode_text(texts), atol=1e-5, rtol=0)
        torch.testing.assert_close(again.encode_image(image), model.encode_image(image), atol=1e-5, rtol=0)
        torch.testing.assert_close(again.encode_text(texts), model.encode_text(texts), atol=1e-5, rtol=0)


def test_nothing_is_lost_or_made_up_on_loading(exported):
    folder, _ = exported
    theirs, info = CLIPModel.from_pretrained(folder, output_loading_info=True)
    assert not any(info.values())
    assert theirs.dtype == torch.float32
    assert theirs.logit_scale.item() == pytest.approx(math.log(50))
    assert theirs.config.vision_config.image_size == 96
    assert (folder / "model.safetensors").stat().st_mode & 0o777 == (folder / "vocab.json").stat().st_mode & 0o777


@pytest.mark.parametrize("read", [AutoTokenizer, CLIPTokenizer])
def test_its_tokenizer_gives_our_ids(exported, read):
    folder, _ = exported
    tokenizer = read.from_pretrained(folder)
    assert tokenizer.mask_token_id == MASK
    theirs = tokenizer(SENTENCES, padding="max_length", truncation=True, max_length=77, return_tensors="np")
    ours = tokenize(SENTENCES).numpy()
    assert theirs["input_ids"].shape == ours.shape
    for their, our in zip(theirs["input_ids"], ours):
        end = our.argmax() + 1
        assert their[:end].tolist() == our[:end].tolist()
        assert set(their[end:]) <= {49407}


def test_the_older_tokenizer_files_say_the_same(exported):
    folder, _ = exported
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert json.loads((folder / "vocab.json").read_text(encoding="utf-8")) == tokenizer.get_vocab()
    merges = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()
    stated = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["merges"]
    assert [tuple(line.split()) for line in merges[1:]] == [tuple(pair) for pair in stated]


def test_its_image_processor_does_what_ours_does(exported):
    folder, _ = exported
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 5, 3), dtype=np.uint8))
    photo = coarse.resize((60, 150), Image.Resampling.BICUBIC)
    pixels = AutoImageProcessor.from_pretrained(folder)(photo, return_tensors="pt")["pixel_values"]
    resized = Resize(size=(96, 32)).transform({"img": np.asarray(photo)})["img"]
    batch = {"image": torch.from_numpy(resized).permute(2, 0, 1)[None], "text": tokenize(["a"])}
    expected = ReIDDataPreprocessor()(batch)["image"]
    assert pixels.shape == expected.shape == (1, 3, 96, 32)
    assert (pixels - expected).abs().max() < 1.01 / 255 / 0.26  # one step of rounding to 8 bits


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    weights = save(random_model(Sizes(grid=(2, 1))), tmp_path / "epoch_1.pth")

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(exports, "_save_tokenizer", fail)
        with pytest.raises(OSError, match="disk full"):
            export_hugging_face(weights, tmp_path / "deep" / "clip")
    assert list((tmp_path / "deep").iterdir()) == []
    (tmp_path / "deep" / "clip").mkdir()
    (tmp_path / "deep" / "clip" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="clip exists and is not an empty folder"):
        export_hugging_face(weights, tmp_path / "deep" / "clip")
    assert (tmp_path / "deep" / "clip" / "mine.txt").read_text() == "mine"


def test_an_export_removes_what_a_killed_one_left(tmp_path, monkeypatch):
    weights = save(random_model(Sizes(grid=(2, 1))), tmp_path / "epoch_1.pth")
    pid = os.fork()
    if not pid:
        monkeypatch.setattr(exports, "_save_tokenizer", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        try:
            export_hugging_face(weights, tmp_path / "out" / "clip")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert [path.name for path in (tmp_path / "out").iterdir() if path.is_dir()] == [".clip.part"]
    (tmp_path / "out/.clip.part/of the killed").touch()
    export_hugging_face(weights, tmp_path / "out" / "clip")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["clip"]
    assert not (tmp_path / "out/clip/of the killed").exists()
    assert (tmp_path / "out/clip/tokenizer.json").exists()


# --- grids -------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 30), columns=st.integers(1, 30), seed=st.integers(0, 1000))
def test_both_readings_of_the_square_give_the_grid_back(rows, columns, seed):
    table = torch.randn(1, 1 + rows * columns, 5, generator=torch.Generator().manual_seed(seed))
    square = square_positions(table, (rows, columns))
    side = math.isqrt(square.shape[1] - 1)
    assert square.shape == (1, 1 + side * side, 5)
    assert max(rows, columns) <= side <= 3 * max(rows, columns)
    assert torch.equal(square[:, 0], table[:, 0])
    grid = square[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)
    bound = 1e-5 * float(square.abs().max())  # float32; places between may be far larger than the grid's own
    for mode in ("bicubic", "bilinear"):
        read = F.interpolate(grid, size=(rows, columns), mode=mode, align_corners=False)
        torch.testing.assert_close(read.flatten(2).transpose(1, 2), table[:, 1:], atol=bound, rtol=0)


def test_three_to_one_is_read_back_bit_for_bit():
    table = torch.randn(1, 1 + 24 * 8, 7, generator=torch.Generator().manual_seed(0))
    square = square_positions(table, (24, 8))
    assert torch.equal(square[0, 1:].view(24, 24, 7)[:, 1::3], table[0, 1:].view(24, 8, 7))
    grid = square[:, 1:].unflatten(1, (24, 24)).permute(0, 3, 1, 2)
    for mode in ("bicubic", "bilinear"):
        read = F.interpolate(grid, size=(24, 8), mode=mode, align_corners=False)
        assert torch.equal(read.flatten(2).transpose(1, 2), table[:, 1:])
    # between them it is plain bilinear upsampling
    plain = F.interpolate(table[0, 1:].view(1, 24, 8, 7).permute(0, 3, 1, 2), size=(24, 24), mode="bilinear")
    torch.testing.assert_close(grid, plain, atol=1e-5, rtol=0)


def test_a_square_grid_stays():
    table = torch.randn(1, 1 + 9, 4)
    assert square_positions(table, (3, 3)) is table
