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


@pytest.mark.parametrize("study", ["matrix_parts", "matrix_batch", "matrix_random-text"])
def test_arms_of_a_study_share_people_steps_and_choice_of_epoch(study, tmp_path):
    planned = plan_matrix(str(CONFIGS / f"{study}.py"), 1, tmp_path)
    shared = []
    for own in planned:
        cfg = own.runs[0].cfg
        cfg.pop("custom_hooks", None)
        if cfg.model.type != "CMMT":  # the arm with identities
            cfg.train_dataloader.dataset.pipeline.insert(1, dict(type="HideIdentity"))
        for key in ("type", "losses", "iou_losses", "cluster_memory"):
            cfg.model.pop(key, None)
        if study == "matrix_random-text":  # whose first arm has a rate of its own
            cfg.optim_wrapper.optimizer.pop("lr")
        if own.row.name != "CMPM, pairs, batch 128":
            shared.append(cfg.to_dict())
    assert len(shared) >= 4
    assert all(arm == shared[0] for arm in shared)
    names = {own.row.name for own in planned}
    assert "CMPM, pairs" in names
    assert any(name.endswith("CMMT") for name in names)
    assert ("CMPM, identities" in names) == (study != "matrix_random-text")
