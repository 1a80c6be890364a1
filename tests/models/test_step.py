"""The training step: gradient caching, no wait for the device, torch.compile."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from no_wait import no_wait
from torch.utils.data import Dataset
from two_process_step import global_batch, tiny_model

from mmreid_text.datasets.transforms.tokenizer import VOCAB
from mmreid_text.engine.optim_wrapper import AutocastOptimWrapper, DeferredOptimWrapper
from mmreid_text.models.losses import TokenPatchLoss


class Pairs(Dataset):
    """The fixed batch, pair by pair, as pixels."""

    def __init__(self):
        self.batch = global_batch(torch.float32)
        self.batch["image"] = (self.batch["image"] * 40 + 120).clamp(0, 255).to(torch.uint8)

    def __len__(self):
        return len(self.batch["pid"])

    def __getitem__(self, i):
        return {key: value[i] for key, value in self.batch.items()}


def gradients(model, batch):
    model.zero_grad()
    losses = model(**batch, mode="loss")
    sum(losses.values()).backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters()}
    return {name: loss.detach() for name, loss in losses.items()}, grads, model.last_noise.clone()


def assert_equal_steps(one, other, bound):
    (losses, grads, noise), (other_losses, other_grads, other_noise) = one, other
    for name in losses:
        torch.testing.assert_close(other_losses[name], losses[name], rtol=bound, atol=0)
    largest = max(float(grad.abs().max()) for grad in grads.values())
    for name, grad in grads.items():
        torch.testing.assert_close(other_grads[name], grad, rtol=bound, atol=bound * largest, msg=name)
    torch.testing.assert_close(other_noise, noise, rtol=0, atol=max(bound, 1e-6))


@settings(max_examples=6, deadline=None)
@given(micro_batch=st.integers(1, 9), with_cp=st.booleans(), token_loss=st.booleans(), stated=st.booleans())
def test_gradient_caching_is_exact(micro_batch, with_cp, token_loss, stated):
    model, batch = tiny_model(torch.float64), global_batch(torch.float64)
    if token_loss:
        model.token_loss = TokenPatchLoss(layer=1, max_pairs=5)
    if stated:
        batch["lengths"] = (batch["text"].argmax(dim=1) + 1).tolist()
    expected = gradients(model, batch)
    model.micro_batch = micro_batch
    model.image_encoder.with_cp = model.text_encoder.with_cp = with_cp
    assert_equal_steps(expected, gradients(model, batch), 1e-9)


def test_gradient_caching_encodes_chunk_by_chunk():
    model, batch = tiny_model(torch.float32), global_batch(torch.float32)
    model.micro_batch = 3
    sizes = []
    model.image_encoder.layers[0].register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    loss = model(**batch, mode="loss")["loss_sdm"]
    assert sizes == [3, 3, 2]
    loss.backward()
    assert sizes == [3, 3, 2, 2, 3, 3]  # again, the last first: each is done with before the next is met
    sizes.clear()
    with torch.no_grad():
        model(**batch, mode="loss")
    assert sizes == [3, 3, 2]


def test_gradient_caching_under_autocast():
    model, batch = tiny_model(torch.float32), global_batch(torch.float32)
    results = []
    for micro_batch in (None, 3):
        model.micro_batch = micro_batch
        model.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = model(**batch, mode="loss")["loss_sdm"]
        loss.backward()
        results.append((loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters()}))
    (loss, grads), (other_loss, other_grads) = results
    torch.testing.assert_close(other_loss, loss, rtol=1e-3, atol=0)
    norm = torch.stack([grad.norm() for grad in grads.values()]).norm()
    error = torch.stack([(grad - other_grads[name]).norm() for name, grad in grads.items()]).norm()
    assert error / norm < 0.02


@pytest.mark.parametrize("wrapper", [OptimWrapper, AutocastOptimWrapper])
def test_gradient_caching_with_clipping_and_accumulation(wrapper):
    ends = []
    for micro_batch in (None, 3):
        model, batch = tiny_model(torch.float32), global_batch(torch.float32)
        batch["image"] = (batch["image"] * 40 + 120).clamp(0, 255).to(torch.uint8)
        model.micro_batch = micro_batch
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
        optim = wrapper(optimizer=optimizer, accumulative_counts=2, clip_grad={"max_norm": 0.5})
        for _ in range(4):
            log = model.train_step(batch, optim)
        ends.append((log["loss"], {name: p.detach().clone() for name, p in model.named_parameters()}))
    (loss, weights), (other_loss, other_weights) = ends
    bound = 1e-5 if wrapper is OptimWrapper else 2e-2
    torch.testing.assert_close(other_loss, loss, rtol=bound, atol=0)
    for name, weight in weights.items():
        torch.testing.assert_close(other_weights[name], weight, rtol=0, atol=bound * 1e-2, msg=name)


def test_wrong_micro_batch_is_named():
    with pytest.raises(ValueError, match="micro_batch must be at least 1, or None for none, got 0"):
        tiny_model(torch.float32, micro_batch=0)


@pytest.mark.parametrize("micro_batch", [None, 3])
@pytest.mark.parametrize("token_loss", [False, True])
def test_the_step_waits_for_nothing(monkeypatch, micro_batch, token_loss):
    model, batch = tiny_model(torch.float32, micro_batch=micro_batch), global_batch(torch.float32)
    if token_loss:
        model.token_loss = TokenPatchLoss(layer=2, max_pairs=4)
    batch["lengths"] = (batch["text"].argmax(dim=1) + 1).tolist()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    optim = DeferredOptimWrapper(optimizer=optimizer, clip_grad={"max_norm": 0.5})
    before = model.text_encoder.projection.weight.clone()
    with no_wait(monkeypatch):
        losses = model(**batch, mode="loss")
        optim.update_params(model.parse_losses(losses)[0])
    assert optim.take_norm() > 0
    assert not torch.equal(before, model.text_encoder.projection.weight)
    with no_wait(monkeypatch), pytest.raises(AssertionError, match="within the step"):
        model.last_noise[batch["text"] == VOCAB - 1].sum().item()  # the guard guards
    stock = OptimWrapper(optimizer=optimizer, clip_grad={"max_norm": 0.5})
    losses = model(**batch, mode="loss")
    with no_wait(monkeypatch), pytest.raises(AssertionError, match="__float__ within the step"):
        stock.update_params(model.parse_losses(losses)[0])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("micro_batch", [None, 3])
def test_the_step_on_a_gpu_waits_for_nothing(micro_batch):
    model = tiny_model(torch.float32, micro_batch=micro_batch).cuda()
    batch = global_batch(torch.float32)
    batch["image"] = (batch["image"] * 40 + 120).clamp(0, 255).to(torch.uint8)
    batch = {key: value.pin_memory() for key, value in batch.items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    optim = AutocastOptimWrapper(optimizer=optimizer, clip_grad={"max_norm": 0.5})
    model.train_step(batch, optim)  # allocates and chooses kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        model.train_step(batch, optim)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_compile_by_config(tmp_path):
    losses = {}
    for name, compile_cfg in (("plain", False), ("compiled", {"backend": "aot_eager"})):
        torch._dynamo.reset()
        model = tiny_model(torch.float32)
        for encoder in (model.image_encoder, model.text_encoder):  # compiles in a third of the time
            encoder.layers, encoder.depth = encoder.layers[:1], 1
        model.token_noise.layer = 1
        runner = Runner(
            model=model,
            work_dir=str(tmp_path / name),
            train_dataloader={
                "dataset": Pairs(),
                "batch_size": 8,
                "sampler": {"type": "DefaultSampler", "shuffle": False},
                "collate_fn": {"type": "default_collate"},
            },
            train_cfg={"by_epoch": True, "max_epochs": 3},
            randomness={"seed": 0},
            optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.01}},
            log_level="ERROR",
            experiment_name=f"{tmp_path.name}_{name}",
            default_scope="mmreid_text",
            cfg=Config({"compile": compile_cfg}),
        )
        runner.train()
        losses[name] = runner.message_hub.get_scalar("train/loss").data[0]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert len(set(losses["plain"])) == 3  # it learns
    np.testing.assert_allclose(losses["compiled"], losses["plain"], rtol=1e-5)
