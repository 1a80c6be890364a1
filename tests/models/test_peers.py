"""Checkpoints in IRRA's layout against a plain restatement of its arithmetic, and what is said of them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from irra_restated import Restated, Sizes, random_state, random_text, save_checkpoint

from mmreid_text.apis import build_clip, load_peer
from mmreid_text.models import checkpoints
from mmreid_text.models.backbones.patch_encoder import resize_positions
from mmreid_text.models.checkpoints import load_clip, load_into
from mmreid_text.models.retrievers import IRRA, DualEncoder

SIZES = Sizes()
CONFIG = "img_size: !!python/tuple\n- 48\n- 16\nstride_size: 8\nname: irra\ndistributed: false\n"


@pytest.fixture
def best(tmp_path):
    """A checkpoint of ``SIZES``: its state, and its path."""
    state = random_state(SIZES, seed=0)
    save_checkpoint(tmp_path / "best.pth", state)
    return state, tmp_path / "best.pth"


@pytest.fixture
def report(monkeypatch):
    """What was printed, line by line."""
    lines = []
    monkeypatch.setattr(checkpoints, "print_log", lambda message, logger: lines.extend(message.split("\n  ")))
    return lines


def model_of(cls, sizes, **kwargs):
    return cls(
        image_encoder=dict(
            type="CLIPVisionEncoder",
            width=sizes.width,
            depth=sizes.depth,
            heads=max(sizes.width // 64, 1),
            patch_size=sizes.patch,
            embed_dim=sizes.dim,
            img_size=sizes.img_size,
        ),
        text_encoder=dict(
            type="CLIPTextEncoder",
            width=sizes.twidth,
            depth=sizes.tdepth,
            heads=max(sizes.twidth // 64, 1),
            embed_dim=sizes.dim,
            context_length=sizes.context,
        ),
        **kwargs,
    )


@st.composite
def sizes_of_checkpoints(draw):
    width = st.sampled_from((32, 64, 128))
    return Sizes(
        width=draw(width),
        depth=draw(st.integers(1, 3)),
        patch=draw(st.sampled_from((4, 8))),
        grid=(draw(st.integers(1, 7)), draw(st.integers(1, 4))),
        twidth=draw(width),
        tdepth=draw(st.integers(1, 3)),
        dim=draw(st.sampled_from((32, 64, 128))),
        ids=draw(st.integers(1, 40)),
        blocks=draw(st.integers(1, 3)),
        context=draw(st.sampled_from((77, 20))),
    )


@settings(max_examples=6, deadline=None)
@given(sizes=sizes_of_checkpoints(), seed=st.integers(0, 2**31), half=st.booleans(), module=st.booleans())
def test_all_four_outputs_equal_irras_arithmetic(tmp_path_factory, sizes, seed, half, module):
    path = tmp_path_factory.mktemp("peer") / "best.pth"
    state = random_state(sizes, seed)
    save_checkpoint(path, state, half, module)
    stored = torch.load(path, weights_only=True)["model"]
    theirs = Restated({key.removeprefix("module."): value for key, value in stored.items()})
    ours = load_peer(str(path), img_size=sizes.img_size)
    assert not ours.training
    assert {p.dtype for p in ours.parameters()} == {torch.float32}
    image = torch.randn(3, 3, *sizes.img_size, generator=torch.Generator().manual_seed(seed))
    text = random_text(3, sizes.context, seed)

    def close(name, *args):
        got, expected = getattr(ours, name)(*args), getattr(theirs, name)(*args)
        torch.testing.assert_close(got.double(), expected, atol=1e-4, rtol=1e-4)
        return got

    with torch.no_grad():
        feats = close("encode_image", image)
        close("identity_logits", feats)
        close("identity_logits", close("encode_text", text))
        logits = close("masked_language_logits", text, image)
        assert logits.shape == (3, sizes.context, 49408)
        close("masked_language_logits", text[:1, : int(text[0].argmax()) + 1], image[:1])


def test_heads_that_the_file_lacks_are_missed_when_asked(tmp_path):
    save_checkpoint(tmp_path / "best0.pth", random_state(Sizes(ids=None, blocks=None), seed=1))
    model = load_peer(str(tmp_path / "best0.pth"), SIZES.img_size)
    with torch.no_grad():
        feats = model.encode_image(torch.randn(2, 3, *SIZES.img_size))
        with pytest.raises(ValueError, match="classifier"):
            model.identity_logits(feats)
        with pytest.raises(ValueError, match="relation"):
            model.masked_language_logits(random_text(2, 77, 0), torch.randn(2, 3, *SIZES.img_size))


def test_the_report_names_what_matched_was_resized_and_left(best, report):
    state, path = best
    state = {**state, "base_model.logit_scale": torch.ones(()), "queue": torch.ones(3)}
    save_checkpoint(path, state)
    (path.parent / "configs.yaml").write_text(CONFIG)
    load_peer(str(path), img_size=(32, 32))
    assert report == [
        f"Loaded CLIP weights (IRRA layout) from {path}: image width 64, 2 blocks, patch 8, grid 6x2; "
        "text width 64, 2 blocks, 77 tokens; joint space 64",
        "matched: image encoder 32 tensors, text encoder 37 tensors, identity head 2 tensors, relation head 40 tensors",
        "resized: image positions from 6x2 to 4x4, bilinear",
        "left out: base_model.logit_scale, queue",
    ]


def test_the_report_of_plain_clip(tmp_path, report):
    state = random_state(Sizes(grid=(3, 3), ids=None, blocks=None), seed=0)
    clip = {key.removeprefix("base_model."): value for key, value in state.items()}
    torch.save({**clip, "logit_scale": torch.ones(())}, tmp_path / "clip.pt")
    load_into(model_of(IRRA, SIZES, num_ids=3), str(tmp_path / "clip.pt"))
    assert report[0].startswith(f"Loaded CLIP weights (OpenAI layout) from {tmp_path}/clip.pt: image width 64")
    assert report[1:] == [
        "matched: image encoder 32 tensors, text encoder 37 tensors",
        "resized: image positions from 3x3 to 6x2, bilinear",
        "left out: logit_scale",
        "as initialised: identity head",
    ]


def test_a_file_written_on_a_gpu_is_read_without_one(best, monkeypatch):
    state, path = best
    with monkeypatch.context() as patch:
        patch.setattr(torch.serialization, "location_tag", lambda storage: "cuda:0")
        save_checkpoint(path, state)
    assert b"cuda:0" in path.read_bytes()
    weights = load_clip(str(path), SIZES.img_size)
    assert torch.equal(weights.heads["classifier.weight"], state["classifier.weight"])


def test_another_img_size_resizes_the_positions(best):
    state, path = best
    (path.parent / "configs.yaml").write_text(CONFIG)
    resized = load_peer(str(path), img_size=(80, 24)).image_encoder.pos_embed
    table = state["base_model.visual.positional_embedding"][None]
    assert torch.equal(resized, resize_positions(table, (6, 2), (10, 3)))


class TestGrid:
    def grid(self, path, img_size=None):
        return load_clip(str(path), img_size).arch.grid

    def test_the_config_beside_it_counts_first(self, best):
        # 12 patches are 6x2 and 4x3
        (best[1].parent / "configs.yaml").write_text(CONFIG)
        assert self.grid(best[1]) == self.grid(best[1], (32, 24)) == (6, 2)

    def test_then_the_size_that_was_asked(self, best):
        assert self.grid(best[1], (48, 16)) == (6, 2)
        assert self.grid(best[1], (32, 24)) == (4, 3)
        (best[1].parent / "configs.yaml").write_text("name: irra\n")
        assert self.grid(best[1], (16, 48)) == (2, 6)

    def test_then_a_square(self, tmp_path):
        save_checkpoint(tmp_path / "best.pth", random_state(Sizes(grid=(3, 3), ids=None, blocks=None), seed=0))
        assert self.grid(tmp_path / "best.pth") == (3, 3)
        assert self.grid(tmp_path / "best.pth", (16, 16)) == (3, 3)

    def test_a_table_with_a_batch_axis_is_the_same(self, best):
        state, path = best
        key = "base_model.visual.positional_embedding"
        save_checkpoint(path, {**state, key: state[key][None]})
        assert load_clip(str(path), SIZES.img_size).state["image_encoder.pos_embed"].shape == (1, 13, 64)

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            (None, r"best\.pth: 12 patch positions are no square grid nor the grid of img_size=\(64, 64\)(.|\n)*yaml"),
            (
                "stride_size: 4\nimg_size: [48, 16]\n",
                r"configs\.yaml: stride_size is 4, so patches of 8 pixels overlap",
            ),
            ("img_size: [384, 128]\n", r"img_size \(384, 128\) makes 768 patches of 8 pixels(.|\n)*has 12"),
            ("img_size: '48x16'\n", r"configs\.yaml: img_size is '48x16'; write \(height, width\)"),
            ("img_size: [48, 16\n", r"configs\.yaml cannot be read as YAML"),
        ],
    )
    def test_what_tells_no_grid_is_refused(self, best, config, message):
        if config is not None:
            (best[1].parent / "configs.yaml").write_text(config)
        with pytest.raises(ValueError, match=message):
            load_peer(str(best[1]), img_size=(64, 64))

    def test_no_tag_in_the_config_runs_anything(self, best):
        evil = f"evil: !!python/object/apply:os.mkdir ['{best[1].parent}/evil']\n"
        (best[1].parent / "configs.yaml").write_text(evil + CONFIG)
        assert self.grid(best[1]) == (6, 2)
        assert not (best[1].parent / "evil").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base_model.visual.ln_post.bias": None}, r"image_encoder\.ln1\.bias: missing in the file, \(64,\)"),
        ({"base_model.text_projection": None}, r"text_encoder\.projection\.weight: missing in the file"),
        ({"base_model.visual.extra": torch.ones(2)}, r"visual\.extra: \(2,\) in the file, not in the model"),
        ({"classifier.bias": None}, r"classifier\.bias: missing in the file, \(11,\) in the model"),
        ({"ln_post.weight": None}, r"relation\.ln_post\.weight: missing in the file"),
        ({"mlm_head.fc.weight": torch.ones(100, 64)}, r"relation\.mlm_head\.fc\.weight: \(100, 64\) in the file"),
        ({"base_model.token_embedding.weight": torch.ones(49409, 64)}, r"\(49409, 64\) in the file, \(49408, 64\)"),
        ({"cross_modal_transformer.resblocks.0.ln_1.bias": None}, r"resblocks\.0\.ln_1\.bias: missing in the file"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_is_missing_or_misshapen_is_named(best, change, message):
    state, path = best
    changed = {key: value for key, value in {**state, **change}.items() if value is not None}
    save_checkpoint(path, changed)
    with pytest.raises(ValueError, match=message):
        load_peer(str(path), SIZES.img_size)


def test_resnets_are_refused(tmp_path):
    torch.save({"model": {"base_model.visual.layer1.0.conv1.weight": torch.ones(1)}}, tmp_path / "best.pth")
    with pytest.raises(ValueError, match="ResNet"):
        load_peer(str(tmp_path / "best.pth"))


def test_a_dual_encoder_starts_from_the_encoders(best, report):
    state, path = best
    model = model_of(DualEncoder, SIZES, init_cfg=dict(type="CLIPPretrained", checkpoint=str(path)))
    model.init_weights()
    image, text = torch.randn(2, 3, *SIZES.img_size), random_text(2, 77, 3)
    theirs = Restated(state)
    with torch.no_grad():
        assert (model.encode_image(image) - theirs.encode_image(image)).abs().max() < 1e-4
        assert (model.encode_text(text) - theirs.encode_text(text)).abs().max() < 1e-4
    assert report[2:] == [
        "left out: identity head (classifier.*: in the file, not in the model)",
        "left out: relation head (relation.*: in the file, not in the model)",
    ]


def test_heads_that_fit_are_taken_and_others_stay(best, report):
    state, path = best
    init = dict(type="CLIPPretrained", checkpoint=str(path))
    model = model_of(IRRA, SIZES, num_ids=5, relation=dict(type="CrossModalRelation", depth=2), init_cfg=init)
    before = model.classifier.weight.clone()
    model.init_weights()
    assert torch.equal(model.classifier.weight, before)
    assert torch.equal(model.relation.mlm_head.fc.weight, state["mlm_head.fc.weight"])
    assert torch.equal(model.relation.cross_attn.in_proj_bias, state["cross_attn.in_proj_bias"])
    assert report[2] == (
        "left out: identity head (classifier.weight: (11, 64) in the file, (5, 64) in the model; "
        "classifier.bias: (11,) in the file, (5,) in the model)"
    )
    deeper = model_of(IRRA, SIZES, num_ids=11, relation=dict(type="CrossModalRelation", depth=3), init_cfg=init)
    before = deeper.relation.mlm_head.fc.weight.clone()
    deeper.init_weights()
    assert torch.equal(deeper.relation.mlm_head.fc.weight, before)
    assert torch.equal(deeper.classifier.bias, state["classifier.bias"])
    assert report[-2].endswith("and 9 more)")
    assert report[-1] == "as initialised: relation head"


def test_other_attention_heads_than_irras_are_refused(best, report):
    _, path = best
    model = model_of(IRRA, SIZES, relation=dict(type="CrossModalRelation", depth=2, heads=4))
    load_into(model, str(path))
    assert "relation.heads: the file states 1, the model has 4" in report[-2]
    model.image_encoder.layout[-1] = 4
    with pytest.raises(ValueError, match=r"image_encoder\.heads: the file states 1, the model has 4"):
        load_into(model, str(path))


@pytest.mark.parametrize("heads", [1, 4])
def test_our_own_checkpoint_brings_its_heads(heads, tmp_path):
    relation = dict(type="CrossModalRelation", depth=2, heads=heads)
    ours = model_of(IRRA, SIZES, num_ids=7, relation=relation).eval()
    state = {**ours.state_dict(), "relation.layout": torch.tensor([heads])}
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "epoch_1.pth")
    again = load_peer(str(tmp_path / "epoch_1.pth"), SIZES.img_size)
    text, image = random_text(2, 77, 0), torch.randn(2, 3, *SIZES.img_size)
    with torch.no_grad():
        assert torch.equal(again.masked_language_logits(text, image), ours.masked_language_logits(text, image))
        assert torch.equal(again.identity_logits(torch.ones(1, 64)), ours.identity_logits(torch.ones(1, 64)))
    del state["relation.layout"]
    torch.save({"meta": {}, "state_dict": state}, tmp_path / "epoch_2.pth")
    with pytest.raises(ValueError, match=r"epoch_2\.pth does not state the attention heads of its relation head"):
        load_peer(str(tmp_path / "epoch_2.pth"), SIZES.img_size)


def test_build_clip_takes_the_encoders_alone(best):
    model = build_clip(str(best[1]), SIZES.img_size)
    assert type(model) is DualEncoder
    assert not any(key.startswith(("classifier", "relation")) for key in model.state_dict())
