"""Ordered rules of the optimiser: IRRA's groups, and their learning rates over 60 epochs of a real run."""

import math
from pathlib import Path

import pytest
import torch
from irra_step import tiny_irra
from mmengine.hooks import Hook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from torch import nn

from mmreid_text.engine.config import load_config

ROOT = Path(__file__).parents[2]
CUHK = str(ROOT / "configs/irra/clip_b16_cuhk.py")


def published(name):
    """(lr, weight decay) of a tensor, by the order of the published code's conditions."""
    lr, decay = 1e-5, 4e-5
    if "cross" in name:
        lr = 1e-5 * 5.0
    if "bias" in name:
        lr = 1e-5 * 2.0
        decay = 0.0
    if "classifier" in name or "mlm_head" in name:
        lr = 1e-5 * 5.0
    return lr, decay


def factor(epoch):
    """Warm-up over 5 epochs from 0.1, then half a cosine to 0 at epoch 60."""
    if epoch < 5:
        return 0.1 * (1 - epoch / 5) + epoch / 5
    return 0.5 * (1 + math.cos(math.pi * (epoch - 5) / 55))


class Rates(Hook):
    """Notes every tensor's learning rate and decay while each epoch trains."""

    def __init__(self):
        self.epochs = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        groups = runner.optim_wrapper.optimizer.param_groups
        self.epochs.append({id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]})
        self.groups = [len(g["params"]) for g in groups]


class Toy(nn.Module):
    """IRRA's tensors with a loss of no cost, for a run whose rates alone matter."""

    def __init__(self):
        super().__init__()
        self.inner = tiny_irra(torch.float32)

    def train_step(self, data, optim_wrapper):
        loss = sum(p.sum() for p in self.inner.classifier.parameters())
        optim_wrapper.update_params(loss)
        return {"loss": loss.detach()}

    def forward(self, *args, **kwargs):
        raise AssertionError


def test_every_group_has_the_published_rate_at_every_epoch(tmp_path):
    cfg = load_config(CUHK)
    model, rates = Toy(), Rates()
    runner = Runner(
        model=model,
        work_dir=str(tmp_path),
        train_dataloader={"dataset": [0], "batch_size": 1, "sampler": {"type": "DefaultSampler"}},
        train_cfg=dict(cfg.train_cfg, val_interval=1000),
        optim_wrapper=cfg.optim_wrapper,
        param_scheduler=cfg.param_scheduler,
        default_hooks={"checkpoint": None, "logger": None},
        custom_hooks=[rates],
        default_scope="mmreid_text",
        experiment_name=tmp_path.name,
        log_level="ERROR",
        visualizer={"type": "Visualizer", "vis_backends": []},
    )
    runner.train()
    assert len(rates.epochs) == 60
    named = dict(model.inner.named_parameters())
    assert {published(name) for name in named} == {(1e-5, 4e-5), (5e-5, 4e-5), (2e-5, 0.0), (5e-5, 0.0)}
    assert rates.groups == [sum(published(n) == s for n in named) for s in dict.fromkeys(map(published, named))]
    for epoch, found in enumerate(rates.epochs):
        for name, parameter in named.items():
            lr, decay = published(name)
            assert found[id(parameter)] == (pytest.approx(lr * factor(epoch), rel=1e-9), decay), (epoch, name)


def test_optimiser_is_the_published_one():
    cfg = load_config(CUHK)
    assert {k: cfg.optim_wrapper.optimizer[k] for k in ("type", "lr", "betas", "eps", "weight_decay")} == dict(
        type="Adam", lr=1e-5, betas=(0.9, 0.999), eps=1e-3, weight_decay=4e-5
    )
    assert cfg.train_dataloader.batch_size == 64
    assert [round(factor(epoch), 2) for epoch in range(6)] == [0.1, 0.28, 0.46, 0.64, 0.82, 1.0]


def small():
    torch.manual_seed(0)
    return nn.ModuleDict(
        {"body": nn.Linear(4, 6), "head": nn.Linear(6, 3), "still": nn.Linear(2, 2).requires_grad_(False)}
    )


def build(model, rules, weight_decay=0.1, **paramwise):
    optimizer = {"type": "Adam", "lr": 1.0}
    if weight_decay is not None:
        optimizer["weight_decay"] = weight_decay
    cfg = {
        "type": "OptimWrapper",
        "constructor": "GroupedOptimWrapperConstructor",
        "optimizer": optimizer,
        "paramwise_cfg": {"rules": rules, **paramwise},
    }
    with DefaultScope.overwrite_default_scope("mmreid_text"):
        return build_optim_wrapper(model, cfg)


def settings_of(rules):
    model = small()
    groups = build(model, rules).optimizer.param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}


def test_later_rules_override_setting_by_setting():
    bias, head = dict(key="bias", lr_mult=2, decay_mult=0), dict(key="head", lr_mult=5)
    expected = {"body.weight": (1.0, 0.1), "body.bias": (2.0, 0.0), "head.weight": (5.0, 0.1)}
    assert settings_of([bias, head]) == {**expected, "head.bias": (5.0, 0.0)}
    assert settings_of([head, bias]) == {**expected, "head.bias": (2.0, 0.0)}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (dict(key="clasifier", lr_mult=5), "no tensor that learns has 'clasifier' in its name, among them body.weight"),
        (dict(key="still", lr_mult=5), "no tensor that learns has 'still'"),
        (dict(key="head", lr_mul=5), r"\{'key': 'head', 'lr_mul': 5\} is no rule"),
        (dict(key="head"), r"\{'key': 'head'\} is no rule"),
        (dict(lr_mult=5), r"\{'lr_mult': 5\} is no rule"),
        (dict(key="", lr_mult=5), "is no rule"),
    ],
)
def test_rules_that_say_nothing_are_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        build(small(), [rule])


def test_rules_stand_alone_and_need_what_they_multiply():
    rule = dict(key="bias", decay_mult=0)
    with pytest.raises(ValueError, match="rules beside bias_lr_mult: say those as rules"):
        build(small(), [rule], bias_lr_mult=2)
    with pytest.raises(ValueError, match=r"needs optimizer\.weight_decay, which is not set"):
        build(small(), [rule], weight_decay=None)
