"""Encoders' weights from files: features of their makers' own models, and what does not fit."""

import pytest
import timm.models.vision_transformer as timm_vit
import torch
from transformers import BertConfig, BertForMaskedLM
from unipt_step import tiny_bert_encoders, tiny_retriever, tiny_unipt

from mmreid_text.models import encoder_weights
from mmreid_text.models.backbones.patch_encoder import VisionTransformer
from mmreid_text.registry import MODELS

VIT = dict(embed_dims=32, num_layers=2, num_heads=4, feedforward_channels=128)


def build(encoders=None, **init_cfg):
    torch.manual_seed(1)
    model = MODELS.build(
        dict(
            type="mmreid_text.UniPT",
            init_cfg=dict(type="EncoderWeights", **init_cfg) if init_cfg else None,
            **(encoders or tiny_bert_encoders()),
        )
    )
    model.init_weights()
    return model.eval()


def randomise(model):
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) / 5)
    model.eval()  # mmpretrain's returns nothing
    return model


def encoders_of(heads=4, depth=2, embed_dim=24):
    encoders = tiny_bert_encoders()
    for encoder in encoders.values():
        encoder.update(heads=heads, depth=depth, embed_dim=embed_dim)
    return encoders


@pytest.fixture
def images():
    return torch.randn(3, 3, 32, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def lines(monkeypatch):
    """What the log says, line by line."""
    said = []
    monkeypatch.setattr(encoder_weights, "print_log", lambda message, logger: said.extend(message.split("\n  ")))
    return said


def test_mmpretrain_layout(tmp_path, images, lines):
    theirs = randomise(VisionTransformer(arch=VIT, img_size=(32, 16), patch_size=8, out_type="raw"))
    state = {f"backbone.{key}": value for key, value in theirs.state_dict().items()}
    torch.save({"state_dict": {**state, "head.layers.head.weight": torch.ones(5, 32)}}, tmp_path / "vit.pth")
    # Theirs is no square grid, which files of this layout are taken for.
    with pytest.raises(ValueError, match="8 patch positions are no square grid"):
        build(image=str(tmp_path / "vit.pth"))
    theirs = randomise(VisionTransformer(arch=VIT, img_size=32, patch_size=8, out_type="raw"))
    state = {f"backbone.{key}": value for key, value in theirs.state_dict().items()}
    torch.save({"state_dict": {**state, "head.layers.head.weight": torch.ones(5, 32)}}, tmp_path / "vit.pth")
    encoders = encoders_of()
    encoders["image_encoder"]["img_size"] = (32, 32)
    square = torch.nn.functional.pad(images, (0, 16))
    encoder = build(encoders, image=str(tmp_path / "vit.pth")).image_encoder
    (hidden,) = encoder.hidden_states(square, [2])
    torch.testing.assert_close(encoder.ln1(hidden), theirs(square)[0], atol=1e-5, rtol=1e-5)
    said = " ".join(lines)
    assert "Loaded image_encoder (mmpretrain layout)" in said
    assert "left out: head.layers.head.weight" in said
    assert "as initialised: projection.bias, projection.weight" in said


@pytest.mark.parametrize("distilled", [False, True])
def test_timm_layout_on_another_grid(tmp_path, images, distilled, lines):
    theirs = timm_vit.VisionTransformer(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, num_classes=5)
    state = dict(randomise(theirs).state_dict())
    positions = state["pos_embed"]
    if distilled:
        state["dist_token"] = torch.randn(1, 1, 32)
        state["pos_embed"] = torch.cat([positions[:, :1], torch.randn(1, 1, 32), positions[:, 1:]], dim=1)
    torch.save({"model": state}, tmp_path / "vit.pth")
    encoder = build(image=str(tmp_path / "vit.pth")).image_encoder
    grid = positions[0, 1:].view(4, 4, 32).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(grid, (4, 2), mode="bilinear")[0].permute(1, 2, 0).reshape(1, 8, 32)
    torch.testing.assert_close(encoder.pos_embed, torch.cat([positions[:, :1], resized], dim=1))
    assert "resized: positions from 4x4 to 4x2, bilinear" in lines
    x = theirs.patch_embed(torch.nn.functional.pad(images, (0, 16)))[:, [r * 4 + c for r in range(4) for c in range(2)]]
    x = torch.cat([theirs.cls_token.expand(3, -1, -1), x], dim=1) + encoder.pos_embed
    (hidden,) = encoder.hidden_states(images, [2])
    torch.testing.assert_close(encoder.ln1(hidden), theirs.norm(theirs.blocks(x)), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("oldest", [False, True])
def test_bert_of_hugging_face(tmp_path, oldest, lines):
    config = BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=128,
        max_position_embeddings=24,
    )
    theirs = randomise(BertForMaskedLM(config))
    if oldest:
        names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        state = dict(theirs.state_dict())
        for new, old in names.items():
            state = {key.replace(new, old): value for key, value in state.items()}
        state["bert.embeddings.position_ids"] = torch.arange(24)[None]
        torch.save(state, tmp_path / "pytorch_model.bin")
        config.save_pretrained(tmp_path)
    else:
        theirs.save_pretrained(tmp_path)
    encoder = build(text=str(tmp_path)).text_encoder
    text = torch.tensor([[2, 9, 8, 7, 3, 0, 0], [2, 9, 3, 0, 0, 0, 0]])
    (hidden,) = encoder.hidden_states(text, [2])
    expected = theirs.bert(text, attention_mask=(text != 0).long()).last_hidden_state
    torch.testing.assert_close(hidden[text != 0], expected[text != 0], atol=1e-5, rtol=1e-5)
    said = " ".join(lines)
    assert "Loaded text_encoder (Hugging Face layout)" in said
    assert "left out: cls.predictions" in said
    with pytest.raises(ValueError, match=r"text_encoder\.heads: the file states 4, the model has 2"):
        build(encoders_of(heads=2), text=str(tmp_path))
    config.hidden_act = "gelu_new"
    config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"config\.json: hidden_act is 'gelu_new'"):
        build(text=str(tmp_path))


def test_a_run_of_ours_gives_its_encoders(tmp_path, lines):
    run = tiny_unipt()
    torch.save({"meta": {}, "state_dict": run.state_dict()}, tmp_path / "epoch_1.pth")
    path = str(tmp_path / "epoch_1.pth")
    model = tiny_retriever(init_cfg=dict(type="EncoderWeights", checkpoint=path))
    classifier = model.classifier.weight.clone()
    model.init_weights()
    for name in ("image_encoder", "text_encoder"):
        for key, value in getattr(run, name).state_dict().items():
            torch.testing.assert_close(getattr(model, name).state_dict()[key], value, msg=key)
    assert torch.equal(model.classifier.weight, classifier)
    lines.clear()
    narrow = build(encoders_of(embed_dim=16), checkpoint=path)
    said = " ".join(lines)
    assert "left out: projection.weight ((24, 32) in the file, (16, 32) in the model)" in said
    assert torch.equal(narrow.image_encoder.cls_token, run.image_encoder.cls_token.float())
    with pytest.raises(ValueError, match=r"image_encoder\.layers\.2\.ln1\.weight: missing in the file"):
        build(encoders_of(depth=3), checkpoint=path)
    with pytest.raises(ValueError, match=r"image_encoder\.layers\.1\.ln1\.weight: in the file, not in the model"):
        build(encoders_of(depth=1), checkpoint=path)
    with pytest.raises(ValueError, match=r"image_encoder\.heads: the file states 4, the model has 8"):
        build(encoders_of(heads=8), checkpoint=path)


def test_irra_takes_the_encoders_of_a_run(tmp_path):
    run = tiny_unipt()
    torch.save({"state_dict": run.state_dict()}, tmp_path / "epoch_1.pth")
    irra = MODELS.build(
        dict(
            type="mmreid_text.IRRA",
            data_preprocessor=dict(type="mmreid_text.ReIDDataPreprocessor", eot=None, trim_text=False),
            losses=[dict(type="mmreid_text.SDMLoss")],
            relation=dict(type="mmreid_text.CrossModalRelation", depth=1, heads=2, vocab=60),
            num_ids=5,
            init_cfg=dict(type="EncoderWeights", checkpoint=str(tmp_path / "epoch_1.pth")),
            **tiny_bert_encoders(),
        )
    ).double()
    irra.init_weights()
    from unipt_step import unipt_batch

    batch = unipt_batch()
    torch.testing.assert_close(irra.encode_text(batch["text"]), run.encode_text(batch["text"]))
    losses = irra(**batch, mode="loss")
    assert losses.keys() == {"loss_sdm", "loss_id", "loss_mlm"}
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in irra.parameters())


def test_what_is_no_weights_is_refused(tmp_path):
    torch.save({"other": torch.ones(2)}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="holds no vision transformer"):
        build(image=str(tmp_path / "x.pth"))
    with pytest.raises(ValueError, match="holds no BERT"):
        build(text=str(tmp_path / "x.pth"))
    with pytest.raises(FileNotFoundError, match=r"no checkpoint .*none\.pth"):
        build(checkpoint=str(tmp_path / "none.pth"))
    with pytest.raises(ValueError, match="names no checkpoint"):
        build(checkpoint=None)
    with pytest.raises(FileNotFoundError, match=r"cannot be downloaded .* put it to .*vit\.pth"):
        build(image="http://127.0.0.1:9/vit.pth")
