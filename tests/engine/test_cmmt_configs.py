"""CMMT's configs: identities are hidden wherever it trains, and the study's arms differ in their subject alone."""

from pathlib import Path

import pytest

from mmreid_text.engine.config import load_config
from mmreid_text.engine.matrix_runs import plan_matrix

CONFIGS = Path(__file__).parents[2] / "configs/cmmt"
WITH_IDENTITIES = "tiny_identities"
TRAINED = sorted(path.stem for path in CONFIGS.glob("*.py") if not path.stem.startswith("matrix"))


def config(name):
    return load_config(str(CONFIGS / f"{name}.py"))


@pytest.mark.parametrize("name", [name for name in TRAINED if name != WITH_IDENTITIES])
def test_identities_are_hidden(name):
    cfg = config(name)
    assert cfg.model.type == "CMMT"
    loader = cfg.train_dataloader
    assert loader.sampler.type == "ArraySampler"  # others draw by identity
    assert [step.type for step in loader.dataset.pipeline].count("HideIdentity") == 1
    assert {hook.type for hook in cfg.custom_hooks} <= {"TextIoUHook", "PseudoLabelHook", "SyncBuffersHook"}


STUDIES = ("matrix_parts", "matrix_batch", "matrix_random-text")


def hooks_of(cfg):
    return {hook.type: hook for hook in cfg.get("custom_hooks", [])}


def check_parts(cfg):
    """Each part has what it reads, and begins before training ends."""
    model, hooks, epochs = cfg.model, hooks_of(cfg), cfg.train_cfg.max_epochs
    assert not model.get("iou_losses") or "TextIoUHook" in hooks
    assert bool(model.get("cluster_memory")) == ("PseudoLabelHook" in hooks)
    starts = [node.start for node in [*model.get("iou_losses", []), *hooks.values()] if "start" in node]
    assert all(start < epochs for start in starts)
    assert all(step.end == epochs for step in cfg.param_scheduler if step.type == "CosineAnnealingLR")


@pytest.mark.parametrize("name", TRAINED)
def test_parts_have_what_they_read(name):
    check_parts(config(name))


@pytest.mark.parametrize("study", STUDIES)
def test_arms_of_a_study_differ_in_their_subject_alone(study, tmp_path):
    planned = {own.row.name: own for own in plan_matrix(str(CONFIGS / f"{study}.py"), 1, tmp_path)}
    planned.pop("CLIP", None)  # which trains nothing
    assert {"CMPM, pairs", "CMMT"} <= planned.keys()
    assert ("CMPM, identities" in planned) == (study != "matrix_random-text")
    assert len({own.runs[0].stamp for own in planned.values()}) == len(planned) >= 4
    shared = {}
    for name, own in planned.items():
        cfg = own.runs[0].cfg
        check_parts(cfg)
        cfg.pop("custom_hooks", None)
        if name == "CMPM, identities":
            cfg.train_dataloader.dataset.pipeline.insert(1, dict(type="HideIdentity"))
        for key in ("type", "losses", "iou_losses", "cluster_memory"):
            cfg.model.pop(key, None)
        if study == "matrix_batch":  # one arm has smaller batches, and the rate and warm-up of these
            small = name == "CMPM, pairs, batch 128"
            assert cfg.train_dataloader.pop("batch_size") == (128 if small else 512)
            assert cfg.param_scheduler[0].pop("end") == (50 if small else 60)
            assert cfg.optim_wrapper.optimizer.pop("lr") == (5e-4 if small else 7e-4)
        shared[name] = cfg.to_dict()
    assert all(arm == shared["CMPM, pairs"] for arm in shared.values())
