"""CMMT: labels it must not see, pseudo labels and phrases, two processes, and the encoders of the paper."""

import copy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cmmt_step import bring_labels, pairs, tiny_cmmt, two_steps

from mmreid_text.models.losses import cmpm_loss
from mmreid_text.text_iou import LexiconPhrases, PhraseTable

CAPTIONS = [
    *("a red shirt and jeans", "a man in a crimson shirt", "a blue coat", "a coat and white shoes"),
    *("a red shirt", "nothing to see", "white shoes, a coat in blue", "a person walks"),
]


def bring(model, phrases=True, clusters=True):
    if phrases:
        table = PhraseTable.collect(CAPTIONS, LexiconPhrases())
        model.set_phrases(torch.from_numpy(table.indptr), torch.from_numpy(table.indices))
    if clusters:
        bring_labels(model)
    return model


def test_losses_of_a_batch():
    model, batch = bring(tiny_cmmt()), pairs()
    losses = model(**batch, mode="loss")
    assert set(losses) == {"loss_cmpm", "loss_textioucmpm", "loss_cmpc", "loss_image_cluster", "loss_text_cluster"}
    model.set_epoch(2)
    losses = model(**batch, mode="loss")
    assert "loss_hardmining" in losses
    assert all(float(loss.detach()) > 0 for loss in losses.values())
    image, text = model(**batch, mode="tensor")
    same = batch["image_id"][:, None] == batch["image_id"]
    torch.testing.assert_close(losses["loss_cmpm"], cmpm_loss(image, text, same.double(), 0.05))
    torch.testing.assert_close(losses["loss_textioucmpm"], 2 * cmpm_loss(image, text, naive_affinity(batch), 0.05))
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def naive_affinity(batch):
    """Text-IoU, 1 between captions of one image, caption by caption."""
    read = LexiconPhrases()
    sets = [read(CAPTIONS[i]) for i in batch["caption_id"]]
    n = len(sets)
    affinity = np.array([[len(a & b) / max(1, len(a | b)) for b in sets] for a in sets])
    for i in range(n):
        for j in range(n):
            if batch["image_id"][i] == batch["image_id"][j]:
                affinity[i, j] = 1
    return torch.from_numpy(affinity)


def test_identities_reach_neither_losses_nor_weights():
    outcomes = []
    for pid in (torch.arange(8) // 2, torch.zeros(8, dtype=torch.int64), torch.randperm(8) * 10**6):
        model = bring(tiny_cmmt())
        model.set_epoch(2)
        optimizer, history = torch.optim.Adam(model.parameters(), lr=1e-3), []
        for _ in range(3):
            losses = model(**{**pairs(), "pid": pid}, mode="loss")
            optimizer.zero_grad()
            sum(losses.values()).backward()
            optimizer.step()
            history.append(torch.stack(list(losses.values())).detach())
        state = [*model.state_dict().values(), *(memory.centroids for memory in model.memories.values())]
        outcomes.append((history, state))
    (history, state), *others = outcomes
    assert not torch.equal(history[0], history[2])
    for other_history, other_state in others:
        assert all(torch.equal(a, b) for a, b in zip(history, other_history, strict=True))
        assert all(torch.equal(a, b) for a, b in zip(state, other_state, strict=True))
    assert "pid" not in model.loss.__code__.co_varnames


def test_cluster_losses_wait_for_labels_and_pass_over_outliers():
    model, batch = bring(tiny_cmmt(), clusters=False), pairs()
    names = ("loss_image_cluster", "loss_text_cluster", "loss_cmpc")
    losses = model(**batch, mode="loss")
    assert [float(losses[name]) for name in names] == [0, 0, 0]
    # An epoch in which everything is an outlier.
    model.set_pseudo_labels(torch.full((4,), -1), torch.full((8,), -1), torch.zeros(0, 24), torch.zeros(0, 24))
    losses = model(**batch, mode="loss")
    assert [float(losses[name]) for name in names] == [0, 0, 0]
    sum(losses.values()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    # Labels are looked up by rows of images and captions.
    bring(model, phrases=False)
    losses = model(**batch, mode="loss")
    image, text = model(**batch, mode="tensor")
    for side, feats, labels in (
        ("image", image, [-1, -1, 0, 0, 1, 1, 0, 0]),
        ("text", text, [1, 1, 0, 0, -1, 2, -1, 2]),
    ):
        memory = copy.deepcopy(model.memories[side])
        bring(model, phrases=False)
        memory.centroids = model.memories[side].centroids
        torch.testing.assert_close(losses[f"loss_{side}_cluster"], 0.5 * memory(feats, torch.tensor(labels)))


def test_memories_follow_training_and_start_anew_with_labels():
    model, batch = bring(tiny_cmmt()), pairs()
    start = {side: memory.centroids.clone() for side, memory in model.memories.items()}
    model(**batch, mode="loss")
    for side, memory in model.memories.items():
        assert not torch.equal(memory.centroids, start[side])
        torch.testing.assert_close(memory.centroids.norm(dim=1), torch.ones(len(start[side])))
    assert not any("centroid" in key or "label" in key for key in model.state_dict())
    bring(model)
    assert all(torch.equal(memory.centroids, start[side]) for side, memory in model.memories.items())
    centroids = torch.eye(24)[:2]
    model.set_pseudo_labels(torch.tensor([0, 1]), torch.tensor([1, 0]), centroids, centroids)
    model(**{**batch, "image_id": batch["image_id"] // 2, "caption_id": batch["caption_id"] // 4}, mode="loss")
    assert torch.equal(centroids, torch.eye(24)[:2])  # the hook's own are left alone


def test_captions_without_phrases_train():
    model = tiny_cmmt()
    model.set_phrases(torch.zeros(9, dtype=torch.int64), torch.zeros(0, dtype=torch.int64))
    model.set_epoch(5)
    losses = model(**pairs(), mode="loss")
    assert all(loss.isfinite() for loss in losses.values())
    assert losses["loss_hardmining"] == 0  # nothing says that two of them differ


def test_errors():
    model, batch = tiny_cmmt(), pairs()
    with pytest.raises(ValueError, match=r"need the captions' phrases: add dict\(type='TextIoUHook'\)"):
        model(**batch, mode="loss")
    with pytest.raises(ValueError, match="text label 2 has no centroid, there are 2"):
        model.set_pseudo_labels(torch.tensor([1]), torch.tensor([2]), torch.zeros(2, 24), torch.zeros(2, 24))
    bare = tiny_cmmt(cluster_memory=None, cmpc=None, iou_losses=[])
    with pytest.raises(ValueError, match=r"no use for pseudo labels: set model\.cluster_memory"):
        bring(bare, phrases=False)
    assert set(bare(**batch, mode="loss")) == {"loss_cmpm"}
    with pytest.raises(ValueError, match="cmpc classifies among the image clusters"):
        tiny_cmmt(cluster_memory=None)
    with pytest.raises(ValueError, match="iou_losses name HardMiningLoss twice"):
        tiny_cmmt(iou_losses=[dict(type="mmreid_text.HardMiningLoss")] * 2)
    with pytest.raises(ValueError, match="BatchNorm reads the whole batch"):
        paper_model(micro_batch=2)
    with pytest.raises(TypeError, match="margn"):
        tiny_cmmt(iou_losses=[dict(type="mmreid_text.HardMiningLoss", margn=1)])


RESNET = dict(type="mmreid_text.ResNetEncoder", num_layers=18, embed_dim=24)
LSTM = dict(type="mmreid_text.BiLSTMTextEncoder", vocab_size=60, embed_dim=24, word_dim=16, hidden=12)


def paper_model(**options):
    torch.manual_seed(0)
    plain = dict(type="mmreid_text.ReIDDataPreprocessor", eot=None)
    cfg = dict(type="mmreid_text.CMMT", image_encoder=RESNET, text_encoder=LSTM, data_preprocessor=plain)
    model = tiny_cmmt(**cfg, **options).float()
    model.init_weights()
    return model


def paper_batch():
    generator = torch.Generator().manual_seed(1)
    image = torch.randint(0, 256, (8, 3, 64, 32), generator=generator, dtype=torch.uint8)
    text = torch.randint(1, 60, (8, 12), generator=generator)
    for row, length in zip(text, (1, 3, 12, 5, 2, 7, 9, 4)):
        row[length:] = 0
    ids = {key: value for key, value in pairs().items() if key.endswith("_id")}
    return dict(image=image, text=text, pid=torch.arange(8), **ids)


def test_the_papers_encoders_train_in_full():
    model = bring(paper_model())
    model.set_epoch(2)
    batch = model.data_preprocessor(paper_batch(), training=True)
    assert batch["lengths"] == [1, 3, 12, 5, 2, 7, 9, 4]
    losses = model(**batch, mode="loss")
    sum(losses.values()).backward()
    assert len(losses) == 6
    # mmpretrain starts residual branches at zero, so what lies before their last norm has a gradient of zero at first.
    still = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert all(name.startswith("image_encoder.trunk.layer") for name in still)
    assert all(p.grad is not None for p in model.parameters())


def test_the_papers_encoders_follow_the_protocol():
    model = paper_model().eval()
    batch = model.data_preprocessor(paper_batch())
    image, text = batch["image"], batch["text"]
    feats, (states,) = model.image_encoder.encode(image, [1])
    assert feats.shape == (8, 24)
    assert states.shape == (8, 1 + 2, 512)
    torch.testing.assert_close(model.image_encoder.project(states)[:, 0], feats)
    tokens = model.token_features(image, text, layer=1)
    assert [x.shape for x in tokens] == [(8, 3, 24), (8, 12, 24)]
    # Other captions of the batch, and how far it is padded, change nothing.
    whole = model.encode_text(text)
    torch.testing.assert_close(model.text_encoder.encode(text, lengths=batch["lengths"])[0], whole)
    torch.testing.assert_close(model.encode_text(text[1:2, :3]), whole[1:2])
    # The maximum is over real words, before BatchNorm.
    (hidden,) = model.text_encoder.hidden_states(text, [1])
    best = model.text_encoder.projection(hidden[3, :5]).amax(dim=0)
    torch.testing.assert_close(model.text_encoder.norm(best[None])[0], whole[3])
    for encoder, given in ((model.image_encoder, image), (model.text_encoder, text)):
        with pytest.raises(ValueError, match="which is one block: give 1"):
            encoder.hidden_states(given, [2])
    rows = model(image=image[:1], text=text[:2], num_captions=[2], pid=[5], image_id=[0], dataset=["x"], mode="tensor")
    assert rows[0].shape == (1, 24)


def test_projecting_tokens_moves_no_statistics():
    model = paper_model().train()
    before = copy.deepcopy(model.state_dict())
    model.image_encoder.project(torch.randn(2, 3, 512))
    model.text_encoder.project(torch.randn(2, 3, 24))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_two_processes_equal_one(tmp_path):
    worker, out = Path(__file__).parents[1] / "cmmt_step.py", tmp_path / "two.pt"
    command = [sys.executable, str(worker), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    two, one = torch.load(out, weights_only=True), two_steps(tiny_cmmt(), pairs())
    assert len(one["losses"]) == 6
    assert len(one["grads"]) > 50
    for kind in one:
        largest = max(float(value.abs().max()) for value in one[kind].values())
        for name, value in one[kind].items():
            torch.testing.assert_close(two[kind][name], value, rtol=1e-8, atol=1e-10 * largest, msg=name)
