"""CMMT's configs: identities are hidden wherever it trains, and the study's arms differ in their subject alone."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmreid_text.engine.config import load_config

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
    assert {hook.type for hook in cfg.custom_hooks} <= {"TextIoUHook", "PseudoLabelHook"}


def test_arms_of_the_study_share_people_steps_and_choice_of_epoch():
    study = Config.fromfile(CONFIGS / "matrix_parts.py")
    names = {Path(row.config).stem for row in study.rows}
    assert {"tiny_baseline", "tiny_full", WITH_IDENTITIES} <= names
    shared = []
    for name in sorted(names):
        cfg = config(name)
        cfg.pop("custom_hooks", None)
        if name == WITH_IDENTITIES:
            cfg.train_dataloader.dataset.pipeline.insert(1, dict(type="HideIdentity"))
        for key in ("type", "losses", "iou_losses", "cluster_memory"):
            cfg.model.pop(key, None)
        shared.append(cfg.to_dict())
    assert all(arm == shared[0] for arm in shared)
