"""UniPT's pre-training: losses against loops in float64, padding, memory in chunks, and what the switches do."""

import math

import pytest
import torch
from unipt_step import tiny_bert_encoders, tiny_retriever, tiny_separate, tiny_unipt, unipt_batch

from mmreid_text.models.losses import ITCLoss


def cosine(a, b):
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def naive_contrast(image, text, tau):
    scores = [[cosine(i, t) / tau for t in text] for i in image]
    n, total = len(scores), 0.0
    for k in range(n):
        row, column = scores[k], [scores[i][k] for i in range(n)]
        total += sum(-line[k] + math.log(sum(math.exp(s) for s in line)) for line in (row, column))
    return total / (2 * n)


@pytest.fixture
def batch():
    return unipt_batch()


@pytest.mark.parametrize("tau", [0.07, 1.0])
def test_losses_equal_loops(batch, tau):
    model = tiny_unipt(losses=[dict(type="mmreid_text.ITCLoss", tau=tau)], beta=0.5)
    losses = model(**batch, mode="loss")
    image, text = model.encode_image(batch["image"]).detach(), model.encode_text(batch["text"]).detach()
    assert float(losses["loss_itc"]) == pytest.approx(naive_contrast(image, text, tau), rel=1e-9)

    total, count = 0.0, 0
    for ids, labels in zip(batch["masked_text"], batch["mlm_labels"]):
        length = int((ids != 0).sum())
        (hidden,) = model.text_encoder.hidden_states(ids[None, :length], [2])  # each caption alone, without padding
        for place in labels.nonzero()[:, 0].tolist():
            logits = model.mlm_head(hidden[0, place])
            total += float(logits.logsumexp(0) - logits[labels[place]])
            count += 1
    assert count == int((batch["mlm_labels"] != 0).sum()) > 8
    assert float(losses["loss_mlm"]) == pytest.approx(0.5 * total / count, rel=1e-9)


def test_features_are_the_maximum_of_projected_tokens(batch):
    model = tiny_unipt()
    (hidden,) = model.image_encoder.hidden_states(batch["image"], [2])
    tokens = model.image_encoder.projection(model.image_encoder.ln1(hidden))  # (B, 1 + 8, D)
    assert tokens.shape[1] == 9
    torch.testing.assert_close(model.encode_image(batch["image"]), tokens.max(dim=1).values)
    (hidden,) = model.text_encoder.hidden_states(batch["text"], [2])
    for row, ids, feature in zip(hidden, batch["text"], model.encode_text(batch["text"])):
        tokens = model.text_encoder.projection(row[ids != 0])
        torch.testing.assert_close(feature, tokens.max(dim=0).values)


def test_padding_never_changes_a_feature_or_a_loss(batch):
    model = tiny_unipt()
    before, losses = model.encode_text(batch["text"]), model(**batch, mode="loss")
    longer = {key: torch.nn.functional.pad(batch[key], (0, 8)) for key in ("text", "masked_text", "mlm_labels")}
    torch.testing.assert_close(model.encode_text(longer["text"]), before, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        model.text_encoder.embeddings.word_embeddings.weight[0] += 3
    torch.testing.assert_close(model.encode_text(longer["text"]), before, rtol=1e-12, atol=1e-12)
    for name, loss in model(**{**batch, **longer}, mode="loss").items():
        torch.testing.assert_close(loss, losses[name], rtol=1e-12, atol=0)


def test_the_published_maximum_runs_over_padding(batch):
    data_preprocessor = dict(type="mmreid_text.ReIDDataPreprocessor", eot=None, trim_text=False)
    model = tiny_unipt(dict(max_over_padding=True), data_preprocessor=data_preprocessor)
    plain = tiny_unipt()
    assert not torch.equal(model.encode_text(batch["text"]), plain.encode_text(batch["text"]))
    longer = torch.nn.functional.pad(batch["text"], (0, 8))
    assert not torch.equal(model.encode_text(longer), model.encode_text(batch["text"]))
    whole = batch["text"][-1:, :12]
    torch.testing.assert_close(model.encode_text(whole), plain.encode_text(whole))
    for make in (tiny_unipt, tiny_retriever):
        with pytest.raises(ValueError, match="trim_text=False"):
            make(**tiny_bert_encoders(max_over_padding=True))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_chunks_give_the_same_gradients(batch, dropout):
    """With dropout a chunk must be encoded again with the same draws; in one chunk they are those of no chunks."""
    gradients = []
    for size in (None, 8 if dropout else 3):
        model = tiny_unipt(dict(dropout=dropout), micro_batch=size)
        torch.manual_seed(5)
        sum(model(**batch, mode="loss").values()).backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert None not in gradients[0].values()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-9, atol=1e-12, msg=name)


def test_dropout_is_of_attention_weights_as_well_and_of_training_alone(batch):
    plain, model = tiny_unipt(), tiny_unipt(dict(dropout=0.5))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    torch.testing.assert_close(model.encode_text(batch["text"]), plain.encode_text(batch["text"]))
    for layer in model.text_encoder.layers:
        layer.attention.self.dropout.p = 0.5
    first, second = (model.encode_text(batch["text"]) for _ in range(2))
    assert not torch.equal(first, second)
    torch.testing.assert_close(model.eval().encode_text(batch["text"]), plain.encode_text(batch["text"]))


def test_recomputed_blocks_draw_the_same_dropout(batch):
    gradients = []
    for with_cp in (False, True):
        model = tiny_unipt(dict(dropout=0.3, with_cp=with_cp))
        torch.manual_seed(5)
        sum(model(**batch, mode="loss").values()).backward()
        gradients.append(model.text_encoder.layers[0].intermediate.dense.weight.grad)
    torch.testing.assert_close(*gradients)


def test_a_learnt_temperature_learns_and_is_bounded(batch):
    loss = ITCLoss(tau=0.05, learnable=True)
    feats = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pid = torch.arange(6)
    assert float(loss(*feats, pid)) == pytest.approx(float(ITCLoss(tau=0.05)(*feats, pid)), rel=1e-6)
    loss(*feats, pid).backward()
    assert float(loss.log_scale.grad.abs()) > 0
    with torch.no_grad():
        loss.log_scale.fill_(10)
    loss.zero_grad()
    bounded = loss(*feats, pid)
    assert float(bounded) == pytest.approx(float(ITCLoss(tau=0.01)(*feats, pid)), rel=1e-6)
    bounded.backward()
    assert float(loss.log_scale.grad) > 0  # these pairs fit badly, so the way back is open


def test_what_is_missing_is_named(batch):
    with pytest.raises(ValueError, match="WholeWordMaskingHook"):
        tiny_unipt()(**{**batch, "masked_text": None}, mode="loss")
    with pytest.raises(ValueError, match="beta must be at least 0, got -1"):
        tiny_unipt(beta=-1)
    plain = tiny_unipt(beta=0.0)
    assert plain.mlm_head is None
    assert plain(**{**batch, "masked_text": None}, mode="loss").keys() == {"loss_itc"}


def test_separate_encoders_share_nothing(batch):
    model = tiny_separate()
    losses = model(**batch, mode="loss")
    logits = model.classifier(model.encode_image(batch["image"])).double()
    naive = sum(float(row.logsumexp(0) - row[label]) for row, label in zip(logits, batch["label"])) / len(logits)
    assert float(losses["loss_id"]) == pytest.approx(naive, rel=1e-9)
    losses["loss_id"].backward(retain_graph=True)
    assert all(p.grad is None for p in model.text_encoder.parameters())
    model.zero_grad()
    losses["loss_mlm"].backward()
    assert all(p.grad is None or not p.grad.any() for p in model.image_encoder.parameters())
    assert model.text_encoder.layers[0].output.dense.weight.grad.any()
    with pytest.raises(ValueError, match="IdentityLabelHook"):
        model(**{**batch, "label": None}, mode="loss")
