"""Results marked by how their weights were chosen: in training, in tests of checkpoints, from one run to the next."""

import importlib.util
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from small_procedural import CONFIG, small_procedural

from mmreid_text.engine.config import load_config
from mmreid_text.engine.hooks.protocol_hook import ProtocolHook, protocol_of_file, stated_protocol

ROOT = Path(__file__).parents[2]


def trained(cfg, work_dir):
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = str(work_dir)
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


def results_of(cfg, work_dir, checkpoint):
    """The JSON and the table of a test."""
    cfg = cfg.copy()
    for key in [k for k in cfg if k.startswith(("train_", "val_")) or k in ("optim_wrapper", "param_scheduler")]:
        cfg.pop(key)
    cfg.work_dir = str(work_dir)
    cfg.experiment_name = f"{work_dir}_{checkpoint}"
    cfg.load_from = None if checkpoint is None else str(checkpoint)
    cfg.custom_hooks = []
    cfg.test_evaluator = dict(type="ReIDMetric", out_dir=str(work_dir))
    Runner.from_cfg(cfg).test()
    return json.loads((work_dir / "results.json").read_text()), (work_dir / "results.md").read_text()


@pytest.fixture(scope="module")
def selected(tmp_path_factory):
    """Folder of a run with ``protocol='test-selected'``."""
    folder = tmp_path_factory.mktemp("selected")
    trained(small_procedural(folder, protocol="test-selected"), folder / "run")
    return folder


def config(folder, **options):
    return small_procedural(folder, **options)


def test_validation_and_checkpoints_say_so(selected):
    (log,) = (selected / "run").glob("*/*.log")
    assert "| procedural_street (test-selected)" in log.read_text()
    names = sorted(path.name for path in (selected / "run").glob("best_*.pth"))
    assert names == [f"best_procedural_{d}_R1_epoch_1.pth" for d in ("mall", "station", "street")]
    assert torch.load(selected / "run/epoch_1.pth", weights_only=True)["meta"]["protocol"] == "test-selected"


def test_a_test_is_marked_by_its_checkpoint_not_by_its_config(selected, tmp_path):
    cfg = config(selected)
    assert cfg.protocol == "val"
    content, table = results_of(cfg, tmp_path, selected / "run/epoch_1.pth")
    assert content["protocol"] == "test-selected"
    assert "| procedural_street (test-selected)" in table
    assert "| mean (test-selected)" in table
    assert all(isinstance(value, float) for key, value in content.items() if "/" in key)
    content, table = results_of(cfg, tmp_path, None)  # nothing was selected
    assert "protocol" not in content
    assert "selected" not in table


def test_checkpoints_of_earlier_versions_state_it_in_their_config(selected, tmp_path):
    checkpoint = torch.load(selected / "run/epoch_1.pth", weights_only=True)
    del checkpoint["meta"]["protocol"]
    assert stated_protocol(checkpoint["meta"]) == "test-selected"
    torch.save(checkpoint, tmp_path / "old.pth")
    assert protocol_of_file(tmp_path / "old.pth") == "test-selected"
    torch.save({"state_dict": checkpoint["state_dict"]}, tmp_path / "bare.pth")
    content, _ = results_of(config(selected), tmp_path, tmp_path / "bare.pth")
    assert "protocol" not in content
    content, _ = results_of(config(selected, protocol="paper-val"), tmp_path, tmp_path / "bare.pth")
    assert content["protocol"] == "paper-val"


@pytest.mark.parametrize("how", ["load_from", "init_cfg"])
def test_a_run_from_selected_weights_stays_marked(selected, tmp_path, how):
    start = selected / "run/epoch_1.pth"
    cfg = config(selected)
    if how == "load_from":
        cfg.load_from, cfg.model.init_cfg = str(start), None
    else:
        cfg.model.init_cfg = dict(type="CLIPPretrained", checkpoint=str(start))
    runner = trained(cfg, tmp_path / "next")
    assert protocol_of_file(tmp_path / "next/epoch_1.pth") == "test-selected"
    assert runner.val_evaluator.metrics[0].protocol == "test-selected"
    (log,) = (tmp_path / "next").glob("*/*.log")
    assert "chosen on the test split, so its results are marked" in log.read_text()


def test_published_weights_stay_marked(selected, tmp_path, monkeypatch):
    spec = importlib.util.spec_from_file_location("publish", ROOT / "tools/publish.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setattr(sys, "argv", ["publish.py", str(selected / "run"), str(tmp_path / "small.pt")])
    tool.main()
    assert protocol_of_file(tmp_path / "small.pt") == "test-selected"


def test_other_runs_keep_their_own(selected, tmp_path):
    cfg = config(selected, protocol="paper-val")
    runner = trained(cfg, tmp_path / "run")
    assert protocol_of_file(tmp_path / "run/epoch_1.pth") == "paper-val"
    assert runner.val_evaluator.metrics[0].protocol == "paper-val"
    runner.test()
    assert runner.test_evaluator.metrics[0].protocol == "paper-val"


@pytest.mark.parametrize(
    ("meta", "stated"),
    [
        (None, None),
        ({}, None),
        ({"cfg": "protocol = 'paper-val'\nmodel = dict(protocol='val')\n"}, "paper-val"),
        ({"cfg": "model = dict(protocol='val')\n"}, None),
        ({"cfg": "protocol = print('run me')\n"}, None),
        ({"cfg": "protocol = 'val' +"}, None),
        ({"cfg": "protocol = 'best'"}, None),
        ({"protocol": "val", "cfg": "protocol = 'paper-val'"}, "val"),
    ],
)
def test_what_a_checkpoint_states(meta, stated, capsys):
    assert stated_protocol(meta) == stated
    assert capsys.readouterr().out == ""


def test_files_that_state_nothing(tmp_path):
    (tmp_path / "broken.pth").write_bytes(b"no checkpoint")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("broken.pth", "list.pth", "absent.pth", "openai/clip-vit-base-patch16"):
        assert protocol_of_file(tmp_path / name) is None


@pytest.mark.parametrize(
    ("content", "protocol", "mark"),
    [
        ({"model": {"base_model.ln_final.bias": torch.zeros(2)}, "epoch": 3}, "test-selected", "test-selected"),
        ({"model": {"base_model.ln_final.bias": torch.zeros(2)}, "epoch": 3}, "val", None),
        ({"ln_final.bias": torch.zeros(2)}, "test-selected", None),
    ],
    ids=["IRRA's", "IRRA's, nothing said", "CLIP's"],
)
def test_weights_of_others_are_marked_by_the_config_that_tests_them(content, protocol, mark, tmp_path):
    torch.save(content, tmp_path / "best.pth")
    model = dict(init_cfg=dict(type="CLIPPretrained", checkpoint=str(tmp_path / "best.pth")))
    runner = SimpleNamespace(cfg=Config(dict(model=model, protocol=protocol)), _load_from=None)
    hook = ProtocolHook()
    hook.before_run(runner)
    assert hook.protocol(runner) == mark


def test_every_config_gets_the_hook(tmp_path):
    assert load_config(CONFIG).default_hooks.protocol.type == "ProtocolHook"
    (tmp_path / "bare.py").write_text("model = dict(type='DualEncoder')\n")
    assert load_config(str(tmp_path / "bare.py")).default_hooks == dict(protocol=dict(type="ProtocolHook"))
    assert isinstance(load_config(CONFIG), Config)
