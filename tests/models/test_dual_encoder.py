"""DualEncoder: shapes, modes, depth of computation, gradients, and life under a Runner."""

import copy
from functools import partial

import pytest
import torch
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_checkpoint
from torch.utils.data import Dataset

from mmreid_text.apis import build_clip, tokenize
from mmreid_text.models.retrievers import DualEncoder
from mmreid_text.registry import MODELS

CAPTIONS = ["A man in a red coat.", "A woman with a long blue dress and white shoes", "", "two words"]
IMAGE = {
    "type": "CLIPVisionEncoder",
    "width": 32,
    "depth": 3,
    "heads": 2,
    "patch_size": 8,
    "embed_dim": 16,
    "img_size": (32, 16),
}
TEXT = {"type": "CLIPTextEncoder", "width": 24, "depth": 4, "heads": 3, "embed_dim": 16}
NOISE = {"type": "PatchSimilarityNoise", "layer": 2}


def build(**kwargs):
    torch.manual_seed(0)
    cfg = {"type": "DualEncoder", "image_encoder": IMAGE, "text_encoder": TEXT, "losses": [{"type": "SDMLoss"}]}
    model = MODELS.build({**cfg, **kwargs})
    model.init_weights()
    return model


@pytest.fixture(scope="module")
def model():
    return build(token_noise=NOISE).eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(4, 3, 32, 16, generator=generator)
    return {"image": image, "text": tokenize(CAPTIONS), "pid": torch.tensor([0, 1, 1, 2])}


def count_blocks(encoder):
    """Count of blocks that run, as a list that grows."""
    ran = []
    handles = [layer.register_forward_hook(lambda *_, i=i: ran.append(i)) for i, layer in enumerate(encoder.layers)]
    return ran, handles


def test_shapes_of_the_contract(model, batch):
    image, text = batch["image"], batch["text"]
    assert model.encode_image(image).shape == (4, 16)
    assert model.encode_text(text).shape == (4, 16)
    image_tokens, text_tokens = model.token_features(image, text, layer=2)
    assert image_tokens.shape == (4, 1 + 8, 16)
    assert text_tokens.shape == (4, 77, 16)
    image_feats, text_feats = model(image, text)
    assert torch.equal(image_feats, model.encode_image(image))
    assert torch.equal(text_feats, model.encode_text(text))


def test_last_layer_tokens_hold_the_features(model, batch):
    tokens, _ = model.token_features(batch["image"], batch["text"], layer=3)
    torch.testing.assert_close(tokens[:, 0], model.encode_image(batch["image"]))
    hidden = model.text_encoder.hidden_states(batch["text"], [4])[0]
    eot = batch["text"].argmax(dim=1)
    torch.testing.assert_close(
        model.text_encoder.project(hidden)[torch.arange(4), eot], model.encode_text(batch["text"])
    )


def test_trimmed_text_gives_the_same_features(model):
    text = tokenize(CAPTIONS)
    length = int(text.argmax(dim=1).max()) + 1
    torch.testing.assert_close(model.encode_text(text[:, :length]), model.encode_text(text), atol=1e-6, rtol=0)
    for caption, row in zip(CAPTIONS, model.encode_text(text)):
        one = tokenize([caption])
        alone = model.encode_text(one[:, : int(one.argmax()) + 1])[0]
        torch.testing.assert_close(alone, row, atol=1e-6, rtol=1e-5)


def test_text_attention_is_causal(model):
    text = tokenize(["a red coat and a blue hat"])
    other = text.clone()
    other[0, 4] = 1000
    a, b = (model.text_encoder.hidden_states(t, [4])[0][0] for t in (text, other))
    torch.testing.assert_close(a[:4], b[:4])
    assert not torch.allclose(a[4:], b[4:])


def test_no_deeper_block_than_needed(model, batch):
    image_ran, image_handles = count_blocks(model.image_encoder)
    text_ran, text_handles = count_blocks(model.text_encoder)
    model.token_features(batch["image"], batch["text"], layer=2)
    assert image_ran == [0, 1]
    assert text_ran == [0, 1]
    image_ran.clear(), text_ran.clear()
    model.loss(**batch, masked_text=batch["text"].clone())
    assert image_ran == [0, 1, 2]  # one pass gives features and tokens
    assert text_ran == [0, 1, 2, 3, 0, 1]
    for handle in image_handles + text_handles:
        handle.remove()


def test_noise_is_of_the_unmasked_text(model, batch):
    masked = batch["text"].clone()
    masked[:, 2] = 49405
    losses = model(**batch, masked_text=masked, mode="loss")
    assert set(losses) == {"loss_sdm"}
    noise = model.last_noise
    assert (noise.dtype, noise.requires_grad, noise.shape) == (torch.float32, False, (4, 77))
    image_tokens, text_tokens = model.token_features(batch["image"], batch["text"], layer=2)
    torch.testing.assert_close(noise, model.token_noise(text_tokens, image_tokens))
    # the losses read the masked text
    plain = model.losses["sdm"](model.encode_image(batch["image"]), model.encode_text(masked), batch["pid"])
    torch.testing.assert_close(losses["loss_sdm"], plain)
    assert not torch.isclose(plain, model.loss(**batch)["loss_sdm"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_parameter_gets_a_gradient(batch, dtype):
    model = build(token_noise=NOISE)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = model.loss(**batch)["loss_sdm"]
    loss.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
    # softmax does not see the bias of keys, so its gradient is nothing but rounding
    zero = [name for name, p in model.named_parameters() if not p.grad.any() and not name.endswith("k_proj.bias")]
    assert zero == []


def test_noise_leaves_gradients_alone(batch):
    grads = []
    for token_noise in (None, NOISE):
        model = build(token_noise=token_noise)
        model.loss(**batch)["loss_sdm"].backward()
        grads.append({name: p.grad for name, p in model.named_parameters()})
    for name in grads[0]:
        assert torch.equal(grads[0][name], grads[1][name]), name


def test_runs_in_float64(batch):
    model = build(token_noise=NOISE).double()
    batch["image"] = batch["image"].double()
    assert model.loss(**batch)["loss_sdm"].dtype == torch.float64
    assert model.last_noise.dtype == torch.float32


def test_predict_gives_one_result_per_image(model, batch):
    results = model(
        batch["image"][:2],
        batch["text"],
        mode="predict",
        num_captions=[1, 3],
        pid=torch.tensor([5, 6]),
        image_id=torch.tensor([0, 1]),
        dataset=["a", "b"],
    )
    assert [(r["dataset"], r["pid"], r["image_id"]) for r in results] == [("a", 5, 0), ("b", 6, 1)]
    assert [r["text_feats"].shape for r in results] == [(1, 16), (3, 16)]
    torch.testing.assert_close(torch.cat([r["text_feats"] for r in results]), model.encode_text(batch["text"]).detach())
    torch.testing.assert_close(results[1]["image_feat"], model.encode_image(batch["image"])[1].detach())
    assert results[1]["image_feat"].untyped_storage().nbytes() == 16 * 4
    assert not results[0]["image_feat"].requires_grad


def test_wrong_configs_are_named():
    with pytest.raises(ValueError, match=r"embed_dim=16 and text_encoder\.embed_dim=8"):
        build(text_encoder={**TEXT, "embed_dim": 8})
    with pytest.raises(ValueError, match=r"layer=4 is deeper than an encoder of 3"):
        build(token_noise={**NOISE, "layer": 4})
    with pytest.raises(ValueError, match="SDMLoss twice"):
        build(losses=[{"type": "SDMLoss"}, {"type": "SDMLoss", "tau": 0.1}])
    with pytest.raises(ValueError, match="no checkpoint"):
        build(init_cfg={"type": "CLIPPretrained"})
    with pytest.raises(ValueError, match=r"img_size=\(33, 16\).*patch_size=8"):
        build(image_encoder={**IMAGE, "img_size": (33, 16)})
    for cfg in (IMAGE, TEXT):
        with pytest.raises(ValueError, match="does not divide into heads=5"):
            MODELS.build({**cfg, "heads": 5})


def test_wrong_inputs_are_named(model, batch):
    with pytest.raises(ValueError, match=r"\(16, 32\).*img_size=\(32, 16\)"):
        model.encode_image(batch["image"].transpose(2, 3))
    with pytest.raises(ValueError, match="context_length=77"):
        model.encode_text(torch.zeros(1, 78, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"\[4\] asked of an encoder of 3"):
        model.token_features(batch["image"], batch["text"], layer=4)
    with pytest.raises(ValueError, match="mode='x'"):
        model(batch["image"], batch["text"], mode="x")


class Pairs(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        image = torch.full((3, 32, 16), 40 * i, dtype=torch.uint8)
        return {"image": image, "text": tokenize(CAPTIONS)[i], "pid": i, "image_id": i, "caption_id": i}


def run_one_epoch(cfg_or_model, work_dir, **kwargs):
    runner = Runner(
        model=cfg_or_model,
        work_dir=str(work_dir),
        train_dataloader={
            "dataset": Pairs(),
            "batch_size": 4,
            "sampler": {"type": "DefaultSampler", "shuffle": False},
            "collate_fn": {"type": "default_collate"},
        },
        train_cfg={"by_epoch": True, "max_epochs": 1},
        optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.0}},
        default_hooks={"logger": None, "runtime_info": None},
        log_level="ERROR",
        experiment_name=work_dir.name,
        **kwargs,
    )
    return runner.train()


def test_weights_survive_a_runner(tmp_path, batch):
    source = build()
    torch.save({"state_dict": source.state_dict()}, tmp_path / "start.pth")
    expected = source(batch["image"], batch["text"])
    cfg = {
        "type": "mmreid_text.DualEncoder",
        "image_encoder": IMAGE,
        "text_encoder": TEXT,
        "losses": [{"type": "SDMLoss"}],
        "token_noise": NOISE,
        "init_cfg": {"type": "CLIPPretrained", "checkpoint": str(tmp_path / "start.pth")},
    }
    trained = run_one_epoch(cfg, tmp_path / "from_config", default_scope="mmreid_text")
    for a, b in zip(trained(batch["image"], batch["text"]), expected):
        assert torch.equal(a, b)

    built = build_clip(str(tmp_path / "start.pth"), img_size=(32, 16))
    built.losses["sdm"] = copy.deepcopy(source.losses["sdm"])
    built = run_one_epoch(built, tmp_path / "built", default_scope="mmreid_text")
    for a, b in zip(built(batch["image"], batch["text"]), expected):
        assert torch.equal(a, b)

    # a checkpoint that the runner wrote is read by mmengine and by load_clip alike
    (written,) = (tmp_path / "built").glob("epoch_1.pth")
    fresh = build(image_encoder=IMAGE)
    torch.nn.init.zeros_(fresh.image_encoder.projection.weight)
    load_checkpoint(fresh, str(written), strict=True)
    again = build_clip(str(written), img_size=(32, 16))
    for model in (fresh, again):
        for a, b in zip(model(batch["image"], batch["text"]), expected):
            assert torch.equal(a, b)


def test_init_weights_runs_once(tmp_path, monkeypatch):
    torch.save(build().state_dict(), tmp_path / "start.pth")
    model = build(init_cfg={"type": "CLIPPretrained", "checkpoint": str(tmp_path / "start.pth")})
    trained = torch.zeros_like(model.text_encoder.projection.weight)
    model.text_encoder.projection.weight.data.copy_(trained)
    model.init_weights()
    assert torch.equal(model.text_encoder.projection.weight, trained)


def test_fresh_models_differ_by_seed_only():
    torch.manual_seed(3)
    make = partial(DualEncoder, IMAGE, TEXT)
    first = make()
    torch.manual_seed(3)
    second = make()
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values()):
        assert torch.equal(a, b), name
