"""IRRA: which text each loss reads, words that are guessed, memory-saving variants, and its classifier."""

import pytest
import torch
import torch.nn.functional as F
from irra_step import IDENTITIES, irra_batch, tiny_irra
from mmengine.runner import checkpoint
from mmengine.runner.checkpoint import load_checkpoint
from no_wait import no_wait

from mmreid_text.models.data_preprocessor import ReIDDataPreprocessor
from mmreid_text.models.losses import IdentityLoss, SDMLoss, masked_positions
from mmreid_text.models.retrievers import irra


def losses_of(model, batch=None):
    return {name: loss.detach() for name, loss in model(**(batch or irra_batch()), mode="loss").items()}


def gradients(model, batch=None):
    model.zero_grad()
    sum(model(**(batch or irra_batch()), mode="loss").values()).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("sdm_on_masked", [False, True])
def test_every_loss_reads_the_text_it_should(sdm_on_masked):
    model, batch = tiny_irra(sdm_on_masked=sdm_on_masked), irra_batch()
    got = losses_of(model, batch)
    read = batch["masked_text"] if sdm_on_masked else batch["text"]
    model.requires_grad_(False)
    image, text = model.encode_image(batch["image"]), model.encode_text(read)
    assert float(got["loss_sdm"]) == pytest.approx(float(SDMLoss()(image, text, batch["pid"])), rel=1e-10)
    expected = IdentityLoss()(model.identity_logits(image), model.identity_logits(text), batch["label"])
    assert float(got["loss_id"]) == pytest.approx(float(expected), rel=1e-10)
    # The vocabulary's logits of all tokens, padding included, give what those of the masked ones gave.
    logits = model.masked_language_logits(batch["masked_text"], batch["image"])
    assert logits.shape == (8, 77, 49408)
    expected = F.cross_entropy(logits.flatten(0, 1), batch["mlm_labels"].flatten(), ignore_index=0)
    assert float(got["loss_mlm"]) == pytest.approx(float(expected), rel=1e-10)


def test_published_leak_differs_only_where_captions_are_masked():
    clean, leaky = tiny_irra(), tiny_irra(sdm_on_masked=True)
    one, other = losses_of(clean), losses_of(leaky)
    assert float(one["loss_mlm"]) == pytest.approx(float(other["loss_mlm"]), rel=1e-12)
    assert one["loss_sdm"] != other["loss_sdm"]
    assert one["loss_id"] != other["loss_id"]
    same = irra_batch()
    same["masked_text"] = same["text"].clone()
    for name, loss in losses_of(clean, same).items():
        assert float(loss) == pytest.approx(float(losses_of(leaky, same)[name]), rel=1e-12), name


def test_noise_is_that_of_the_unmasked_caption():
    noise = dict(type="mmreid_text.PatchSimilarityNoise", layer=2)
    model, batch = tiny_irra(sdm_on_masked=True, token_noise=noise), irra_batch()
    losses_of(model, batch)
    image_tokens, text_tokens = model.token_features(batch["image"], batch["text"], layer=2)
    torch.testing.assert_close(model.last_noise, model.token_noise(text_tokens, image_tokens).float())
    assert losses_of(tiny_irra(sdm_on_masked=True)).keys() == losses_of(model).keys()


@pytest.mark.parametrize("sdm_on_masked", [False, True])
@pytest.mark.parametrize(("micro_batch", "with_cp", "stated"), [(3, False, True), (None, True, False), (1, True, True)])
def test_saving_memory_changes_no_gradient(sdm_on_masked, micro_batch, with_cp, stated):
    extras = dict(
        sdm_on_masked=sdm_on_masked,
        token_noise=dict(type="mmreid_text.PatchSimilarityNoise", layer=2),
        token_loss=dict(type="mmreid_text.TokenPatchLoss", layer=3),
    )
    model, batch = tiny_irra(**extras), irra_batch()
    expected, losses, noise = gradients(model, batch), losses_of(model, batch), model.last_noise.clone()
    if stated:
        batch["lengths"] = (batch["text"].argmax(dim=1) + 1).tolist()
        batch["mlm_positions"] = masked_positions(batch["mlm_labels"])
    model.micro_batch = micro_batch
    for part in (model.image_encoder, model.text_encoder, model.relation.cross_modal_transformer):
        part.with_cp = with_cp
    found = gradients(model, batch)
    largest = max(float(grad.abs().max()) for grad in expected.values())
    assert found.keys() == expected.keys() == {name for name, _ in model.named_parameters()}
    for name, grad in expected.items():
        torch.testing.assert_close(found[name], grad, rtol=1e-9, atol=1e-11 * largest, msg=name)
    for name, loss in losses_of(model, batch).items():
        torch.testing.assert_close(loss, losses[name], rtol=1e-12, atol=0)
    torch.testing.assert_close(model.last_noise, noise)


def test_chunks_keep_no_tokens_of_the_image(monkeypatch):
    """With gradient caching what autograd saves in the forward pass does not hold the encoders' hidden states."""
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x.shape) or x, lambda x: x):
        model = tiny_irra(micro_batch=2)
        model(**irra_batch(), mode="loss")
        patches = 1 + 8
        assert not [shape for shape in saved if len(shape) > 2 and shape[1] == patches]
        saved.clear()
        model.micro_batch = None
        model(**irra_batch(), mode="loss")
        assert [shape for shape in saved if len(shape) > 2 and shape[1] == patches]


def naive_hidden(encoder, text):
    """Every token, padding included, through plain causal attention."""
    x = encoder.embeddings(input_ids=text)
    n = text.shape[1]
    hidden = torch.full((n, n), -torch.inf, dtype=x.dtype).triu(1)
    for layer in encoder.layers:
        attn, y = layer.self_attn, layer.layer_norm1(x)
        q, k, v = (
            f(y).unflatten(-1, (attn.num_heads, -1)).transpose(1, 2) for f in (attn.q_proj, attn.k_proj, attn.v_proj)
        )
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + hidden).softmax(dim=-1)
        x = x + attn.out_proj((weights @ v).transpose(1, 2).flatten(2))
        y = layer.mlp.fc1(layer.layer_norm2(x))
        x = x + layer.mlp.fc2(y * torch.sigmoid(1.702 * y))
    return x


def test_padding_is_encoded_where_it_is_read():
    model, text = tiny_irra(), irra_batch()["masked_text"]
    (found,) = model.text_encoder.hidden_states(text, [3], padded=True)
    torch.testing.assert_close(found, naive_hidden(model.text_encoder, text), rtol=1e-9, atol=1e-12)
    feats, (states,) = model.text_encoder.encode(text, [3], padded=True)
    torch.testing.assert_close(states, found)
    torch.testing.assert_close(feats, model.encode_text(text))
    torch.testing.assert_close(model.text_encoder.encode(text, padded=True)[0], feats)


def test_heads_are_optional():
    batch = irra_batch()
    plain = {key: batch[key] for key in ("image", "text", "pid")}
    assert losses_of(tiny_irra(num_ids=None, relation=None), plain).keys() == {"loss_sdm", "loss_tal"}
    assert "loss_id" in losses_of(tiny_irra(relation=None), {**plain, "label": batch["label"]})
    model = tiny_irra(num_ids=None, relation=None)
    assert not [name for name, _ in model.named_parameters() if not name.startswith(("image_enc", "text_enc"))]
    with pytest.raises(ValueError, match="no classifier of identities: num_ids is None"):
        model.identity_logits(torch.zeros(1, 24))
    with pytest.raises(ValueError, match="guesses no masked words: relation is None"):
        model.masked_language_logits(batch["text"], batch["image"])
    with pytest.raises(ValueError, match="num_ids must be at least 1, or None for no classifier, got 0"):
        tiny_irra(num_ids=0)


@pytest.mark.parametrize(
    ("key", "hook"),
    [("masked_text", "UniformMaskingHook"), ("mlm_labels", "UniformMaskingHook"), ("label", "IdentityLabelHook")],
)
def test_what_a_batch_lacks_is_named_with_its_hook(key, hook):
    batch = irra_batch()
    del batch[key]
    with pytest.raises(ValueError, match=rf"need `{key}` in the batch: add dict\(type='{hook}'"):
        losses_of(tiny_irra(), batch)


def test_relation_refuses_a_preprocessor_that_trims():
    assert not tiny_irra().data_preprocessor.trim_text
    assert tiny_irra(relation=None).data_preprocessor.trim_text
    with pytest.raises(ValueError, match=r"set model\.data_preprocessor\.trim_text=False"):
        tiny_irra(data_preprocessor=dict(type="mmreid_text.ReIDDataPreprocessor"))


def test_preprocessor_says_where_masked_words_stand():
    batch = irra_batch(torch.float32)
    batch["image"] = torch.zeros(8, 3, 32, 16, dtype=torch.uint8)
    for trim, width in ((True, 12), (False, 77)):
        out = ReIDDataPreprocessor(trim_text=trim)(batch, True)
        assert out["mlm_labels"].shape == out["masked_text"].shape == (8, width)
        labels = out["mlm_labels"].flatten()[out["mlm_positions"]]
        assert (labels > 0).all()
        assert len(labels) == int((batch["mlm_labels"] > 0).sum())


@pytest.mark.parametrize("micro_batch", [None, 3])
def test_the_step_waits_for_nothing(monkeypatch, micro_batch):
    model, batch = tiny_irra(torch.float32, micro_batch=micro_batch), irra_batch(torch.float32)
    batch["lengths"] = (batch["text"].argmax(dim=1) + 1).tolist()
    batch["mlm_positions"] = masked_positions(batch["mlm_labels"])
    with no_wait(monkeypatch):
        sum(model(**batch, mode="loss").values()).backward()


def test_names_of_tensors_are_the_published_ones():
    keys = {key for key in tiny_irra().state_dict() if not key.startswith(("image_encoder.", "text_encoder."))}
    both = lambda *names: {f"{name}.{end}" for name in names for end in ("weight", "bias")}  # noqa: E731
    expected = both("classifier", "relation.ln_pre_t", "relation.ln_pre_i", "relation.ln_post")
    expected |= both("relation.mlm_head.dense", "relation.mlm_head.ln", "relation.mlm_head.fc")
    attention = ("in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias")
    expected |= {f"relation.cross_attn.{name}" for name in attention}
    for i in range(2):
        block = f"relation.cross_modal_transformer.resblocks.{i}"
        expected |= both(f"{block}.ln_1", f"{block}.ln_2", f"{block}.mlp.c_fc", f"{block}.mlp.c_proj")
        expected |= {f"{block}.attn.{name}" for name in attention}
    assert keys == expected | {"relation.layout"}


def test_a_classifier_that_testing_has_no_use_for_is_left_out(tmp_path, monkeypatch):
    said = []
    for module in (irra, checkpoint):
        monkeypatch.setattr(module, "print_log", lambda message, *_, **__: said.append(message))
    trained, tested = tiny_irra(torch.float32), tiny_irra(torch.float32, num_ids=None)
    torch.nn.init.ones_(trained.relation.ln_post.bias)
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "epoch_1.pth")
    load_checkpoint(tested, str(tmp_path / "epoch_1.pth"), map_location="cpu")
    assert (tested.relation.ln_post.bias == 1).all()
    (line,) = (message for message in said if "identities" in message)
    assert not [message for message in said if "unexpected key" in message]
    assert line == f"The checkpoint's classifier of {IDENTITIES} identities is left out: num_ids is None."
    tested.load_state_dict(trained.state_dict())  # strict
    other = tiny_irra(torch.float32, num_ids=IDENTITIES + 1)
    with pytest.raises(ValueError, match=rf"classifier is one of {IDENTITIES} identities, .* num_ids={IDENTITIES + 1}"):
        other.load_state_dict(trained.state_dict())


def test_classifier_starts_small():
    model = tiny_irra(torch.float32, num_ids=400)
    model.init_weights()
    assert float(model.classifier.weight.detach().std()) == pytest.approx(0.001, rel=0.05)
    assert (model.classifier.bias == 0).all()


def test_identity_logits_stay_in_float32_under_autocast():
    model = tiny_irra(torch.float32)
    feats = torch.randn(3, 24)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.classifier(feats).dtype == torch.bfloat16
        assert model.identity_logits(feats.bfloat16()).dtype == torch.float32
        under = model.identity_logits(feats)
    assert torch.equal(under, model.identity_logits(feats))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(**irra_batch(torch.float32), mode="loss")
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    exact = losses_of(model, irra_batch(torch.float32))
    for name in ("loss_id", "loss_mlm"):
        assert float(losses[name].detach()) == pytest.approx(float(exact[name]), rel=0.02)
