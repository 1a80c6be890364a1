"""Parameter groups merged by their settings: the same update, in few groups."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from mmreid_text.engine.config import load_config

ROOT = Path(__file__).parents[2]
SETTINGS = [
    {},
    {"bias_lr_mult": 2.0, "bias_decay_mult": 0.0},
    {"norm_decay_mult": 0.0, "custom_keys": {"head": {"lr_mult": 5.0}, "0.weight": {"lr_mult": 0.1, "decay_mult": 0}}},
]


def small_model():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.Linear(6, 6))
    frozen = nn.Linear(2, 2).requires_grad_(False)
    return nn.ModuleDict({"body": body, "head": nn.Linear(6, 3), "frozen": frozen})


def optim(model, constructor, paramwise_cfg, fused=False):
    cfg = {
        "type": "OptimWrapper",
        "constructor": constructor,
        "optimizer": {"type": "Adam", "lr": 1e-2, "eps": 1e-3, "weight_decay": 4e-2, "fused": fused},
        "paramwise_cfg": copy.deepcopy(paramwise_cfg) or None,
    }
    with DefaultScope.overwrite_default_scope("mmreid_text"):
        return build_optim_wrapper(model, cfg)


def train(model, wrapper, steps, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        x = torch.randn(5, 4, generator=generator)
        wrapper.update_params(model["head"](model["body"](x)).square().sum())


def settings_of(wrapper, model):
    name_of = {p: name for name, p in model.named_parameters()}
    return {
        name_of[p]: (group["lr"], group["weight_decay"])
        for group in wrapper.optimizer.param_groups
        for p in group["params"]
    }


@pytest.mark.parametrize("paramwise_cfg", SETTINGS)
@pytest.mark.parametrize("fused", [False, True])
def test_update_equals_that_of_a_group_per_tensor(paramwise_cfg, fused):
    ours, theirs = small_model(), small_model()
    grouped = optim(ours, "GroupedOptimWrapperConstructor", paramwise_cfg, fused)
    plain = optim(theirs, "DefaultOptimWrapperConstructor", paramwise_cfg)
    assert settings_of(grouped, ours).items() == settings_of(plain, theirs).items()
    distinct = set(settings_of(grouped, ours).values())
    assert len(grouped.optimizer.param_groups) == max(1, len(distinct)) < 7
    train(ours, grouped, 5), train(theirs, plain, 5)
    for (name, a), b in zip(ours.named_parameters(), theirs.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=name)
    assert torch.equal(ours["frozen"].weight, small_model()["frozen"].weight)


def test_resumed_optimiser_goes_on():
    straight, first, second = small_model(), small_model(), small_model()
    wrappers = [optim(m, "GroupedOptimWrapperConstructor", SETTINGS[1], True) for m in (straight, first, second)]
    train(straight, wrappers[0], 2), train(straight, wrappers[0], 2, seed=1)
    train(first, wrappers[1], 2)
    second.load_state_dict(first.state_dict())
    wrappers[2].load_state_dict(wrappers[1].state_dict())
    train(second, wrappers[2], 2, seed=1)
    for a, b in zip(straight.parameters(), second.parameters()):
        assert torch.equal(a, b)


def test_flagship_has_one_fused_group():
    cfg = load_config(str(ROOT / "configs/nam/clip_b16_luperson.py")).optim_wrapper
    with DefaultScope.overwrite_default_scope("mmreid_text"):
        wrapper = build_optim_wrapper(small_model(), cfg)
    (group,) = wrapper.optimizer.param_groups
    assert group["fused"]
    assert group["eps"] == 1e-3
