"""UniPT's fine-tuning against loops in float64, the PGU's parts, and two ranks against one process."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scripts import run
from two_process_step import step
from unipt_step import PGU, tiny_retriever, tiny_separate, tiny_unipt, unipt_batch

from mmreid_text.models.losses import ranking_loss
from mmreid_text.registry import MODELS

WORKER = Path(__file__).parents[1] / "unipt_step.py"


def naive_ranking(similarity, pid, margin):
    total = 0.0
    for scores in (similarity, similarity.t()):
        for i, row in enumerate(scores.tolist()):
            hinges = [margin + row[j] - row[i] for j in range(len(row)) if pid[j] != pid[i]]
            total += max((h for h in hinges if 0 < h < margin), default=0.0)
    return total


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 2**32 - 1), margin=st.floats(0.05, 1.5))
def test_ranking_loss_takes_the_most_similar_semi_hard_negative(seed, margin):
    generator = torch.Generator().manual_seed(seed)
    n = 1 + seed % 7
    similarity = 2 * torch.rand(n, n, generator=generator, dtype=torch.float64) - 1
    similarity.requires_grad_()
    pid = torch.randint(0, 4, (n,), generator=generator)
    loss = ranking_loss(similarity, pid[:, None] == pid[None, :], margin)
    assert float(loss) == pytest.approx(naive_ranking(similarity.detach(), pid.tolist(), margin), abs=1e-12)
    loss.backward()
    assert similarity.grad.isfinite().all()
    assert float(similarity.grad.sum()) == pytest.approx(0, abs=1e-12)  # each triplet pulls as it pushes


def naive_identities(classify, image, text, labels):
    total = 0.0
    for feats in (image, text):
        for row, label in zip(classify(feats), labels):
            total += float(row.logsumexp(0) - row[label]) / (2 * len(labels))
    return total


def test_losses_equal_loops():
    model, batch = tiny_retriever(), unipt_batch()
    losses = model(**batch, mode="loss")
    assert losses.keys() == {"loss_ranking", "loss_id", "loss_pgu"}
    with torch.no_grad():
        image, image_parts = model._see(batch["image"])
        text, text_parts = model._read(batch["text"], None)
    pid = batch["pid"].tolist()

    def ranking(a, b):
        return naive_ranking(torch.nn.functional.cosine_similarity(a[:, None], b[None], dim=2), pid, 0.5)

    assert float(losses["loss_ranking"]) == pytest.approx(ranking(image, text), rel=1e-9)
    assert ranking(image, text) > 0
    assert float(losses["loss_id"]) == pytest.approx(
        naive_identities(model.classifier, image, text, batch["label"]), rel=1e-9
    )
    ids = [
        naive_identities(classify, image_parts[:, q], text_parts[:, q], batch["label"])
        for q, classify in enumerate(model.part_classifiers)
    ]
    parts = sum(ids) / 3 + ranking(image_parts.flatten(1), text_parts.flatten(1))
    assert float(losses["loss_pgu"]) == pytest.approx(0.5 * parts, rel=1e-9)


def test_cosine_of_retrieval_features_is_the_mean_of_both():
    model, batch = tiny_retriever(), unipt_batch()
    image, text = model.encode_image(batch["image"]), model.encode_text(batch["text"])
    assert image.shape == text.shape == (8, 24 + 30)
    (image_feats, image_parts), (text_feats, text_parts) = model._see(batch["image"]), model._read(batch["text"], None)
    cosine = torch.nn.functional.cosine_similarity
    expected = (cosine(image_feats, text_feats) + cosine(image_parts.flatten(1), text_parts.flatten(1))) / 2
    torch.testing.assert_close(cosine(image, text), expected)
    plain = tiny_retriever(pgu=None)
    assert plain.encode_image(batch["image"]).shape == (8, 24)
    assert plain(**batch, mode="loss").keys() == {"loss_ranking", "loss_id"}


def test_padding_never_changes_a_retrieval_feature():
    model, text = tiny_retriever(), unipt_batch()["text"]
    before = model.encode_text(text)
    with torch.no_grad():
        model.text_encoder.embeddings.word_embeddings.weight[0] += 3
    longer = torch.nn.functional.pad(text, (0, 8))
    torch.testing.assert_close(model.encode_text(longer), before, rtol=1e-12, atol=1e-12)


def naive_part(pgu, query, tokens):
    """What query number ``query`` makes of tokens (N, D), head by head."""
    x = pgu.queries[query]
    for layer in pgu.layers:
        keys, values = (layer.norm1(tokens) @ layer.key_value.weight.t()).chunk(2, dim=1)
        heads = (layer.norm1(x) @ layer.query.weight.t(), keys, values)
        found = []
        for q, k, v in zip(*(part.chunk(layer.heads, dim=-1) for part in heads)):
            found.append((k @ q / math.sqrt(len(q))).softmax(dim=0) @ v)
        x = x + torch.cat(found) @ layer.out.weight.t() + layer.out.bias
        x = x + layer.mlp(layer.norm2(x))
    return pgu.projection[query] @ x


def test_parts_equal_loops():
    model, batch = tiny_retriever(), unipt_batch()
    for parameter in model.pgu.layers.parameters():
        torch.nn.init.normal_(parameter)
    (patches,) = model.image_encoder.hidden_states(batch["image"], [2])
    (words,) = model.text_encoder.hidden_states(batch["text"], [2])
    image, text = model._see(batch["image"])[1], model._read(batch["text"], None)[1]
    for i, ids in enumerate(batch["text"]):
        for q in range(3):
            seen = naive_part(model.pgu, q, model.image_encoder.project(patches[i, 1:]))
            torch.testing.assert_close(image[i, q], seen)
            read = naive_part(model.pgu, q, model.text_encoder.project(words[i, ids != 0]))
            torch.testing.assert_close(text[i, q], read)


def test_queries_are_shared_and_see_what_is_visible():
    pgu = MODELS.build(dict(PGU, width=24)).double()
    tokens = torch.randn(4, 9, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    visible = torch.ones(4, 9, dtype=torch.bool)
    visible[1:, 6:] = False
    parts = pgu(tokens, visible)
    assert parts.shape == (4, 3, 10)
    torch.testing.assert_close(parts[0], pgu(tokens)[0])
    torch.testing.assert_close(parts[1:], pgu(tokens[1:, :6]))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(pgu(tokens[:, order]), pgu(tokens))  # a set of tokens
    with torch.no_grad():
        pgu.queries[1] += 1
    changed = (pgu(tokens) - pgu(tokens, None)).abs().amax(dim=(0, 2)), (pgu(tokens)[0] - parts[0]).abs().amax(dim=1)
    assert (changed[1] > 1e-9).tolist() == [False, True, False]  # a query does not look at the others
    model, batch = tiny_retriever(), unipt_batch()
    assert sum(p.numel() for n, p in model.named_parameters() if n.endswith("queries")) == 3 * 24
    image, text = model._see(batch["image"])[1], model._read(batch["text"], None)[1]
    with torch.no_grad():
        model.pgu.queries[0] += 1
    for parts, again in ((image, model._see(batch["image"])[1]), (text, model._read(batch["text"], None)[1])):
        assert not torch.equal(parts[:, 0], again[:, 0])
    with pytest.raises(ValueError, match="queries must be at least 1, got 0"):
        MODELS.build(dict(PGU, width=24, queries=0))


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="IdentityLabelHook"):
        tiny_retriever()(**{**unipt_batch(), "label": None}, mode="loss")
    with pytest.raises(ValueError, match="num_ids must be at least 1, or None"):
        tiny_retriever(num_ids=0)
    assert tiny_retriever(num_ids=None)(**unipt_batch(), mode="loss").keys() == {"loss_ranking", "loss_pgu"}


def test_two_ranks_equal_one_process(tmp_path):
    done = run(WORKER, tmp_path / "two.pt")
    assert done.returncode == 0, done.stderr[-3000:]
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    for make in (tiny_unipt, tiny_retriever, tiny_separate):
        one = step(make(), unipt_batch())
        result = two[make.__name__]
        assert one["losses"].keys() == result["losses"].keys()
        if make is tiny_separate:  # classifies a rank's own images: gradients are averaged, what is logged is not
            del one["losses"]["loss_id"]
        for name, loss in one["losses"].items():
            assert math.isclose(float(loss), float(result["losses"][name]), rel_tol=1e-9), name
        assert one["grads"].keys() == result["grads"].keys()
        largest = max(float(grad.abs().max()) for grad in one["grads"].values())
        for name, grad in one["grads"].items():
            torch.testing.assert_close(result["grads"][name], grad, rtol=1e-8, atol=1e-11 * largest, msg=name)
