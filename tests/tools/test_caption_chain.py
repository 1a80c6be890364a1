"""Pictures, captions, report, training and test, as configs/captioning/README.md has it, in small."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from caption_runs import tool as caption_tool

from mmreid_text.datasets import CaptionTable
from mmreid_text.engine.config import load_config
from mmreid_text.engine.training_run import train_and_test
from mmreid_text.registry import DATASETS

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs/captioning"
DOMAINS = ("street", "mall", "station")
PEOPLE = 20


@pytest.fixture
def call(monkeypatch):
    def main(name, *options):
        spec = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
        tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tool)
        monkeypatch.setattr(sys, "argv", [name, *map(str, options)])
        return tool.main()

    return main


def small(path, folder):
    """A config at the size of the test, all that it draws below ``folder``."""
    cfg = load_config(
        str(path),
        {
            "train_cfg.max_epochs": 1,
            "train_cfg.val_interval": 1,
            "train_dataloader.batch_size": 16,
            "train_dataloader.num_workers": 0,
            "train_dataloader.persistent_workers": False,
            "log_level": "WARNING",
        },
    )
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        for member in loader.dataset.datasets:
            member.update(num_ids=6, cache_dir=str(folder / "cache"))
    return cfg


@pytest.mark.filterwarnings("ignore::mmreid_text.datasets.published.DataWarning")
def test_from_pictures_to_direct_transfer(call, tmp_path, monkeypatch):
    monkeypatch.setenv("PEOPLE_ROOT", str(tmp_path))
    root, out = tmp_path / "LUPerson-MLLM", tmp_path / "captions"
    options = ("--domain", "source", "--train", PEOPLE, "--size", 64, 32)
    assert call("export_procedural", "luperson_mllm", tmp_path, *options) == 0
    drawn = (root / "captions/Td-qwen.json").read_bytes()
    job = str(CONFIGS / "procedural_folder.py")
    assert caption_tool.main([job, "--out", str(out), "--publish", str(root)]) == 0
    assert (root / "captions/Td-qwen.json").read_bytes() != drawn

    call("caption_report", f"{out}.arrow", "--out", out / "diversity")
    rows = json.loads((out / "diversity/diversity.json").read_text())["sets"]["captions"]
    static, dynamic = (rows[source]["pattern_entropy_bits"] for source in ("Ts-qwen", "Td-qwen"))
    assert static < dynamic <= np.log2(PEOPLE) + 1e-6

    table = CaptionTable.open(f"{out}.arrow")
    for name, sources in (
        ("tiny_td", ["Td-qwen", "Td-shikra"]),
        ("tiny_all_nam", ["Ts-qwen", "Td-qwen", "Ts-shikra", "Td-shikra"]),
    ):
        cfg = small(CONFIGS / f"{name}.py", tmp_path)
        read = DATASETS.build(cfg.train_dataloader.dataset).table
        own = table.filter_sources(sources)
        assert sorted(map(read.caption, range(len(read)))) == sorted(map(own.caption, range(len(own))))
    metrics = train_and_test(cfg, tmp_path / "run", features=True)
    assert all(0 <= metrics[f"procedural_{domain}/R1"] <= 100 for domain in DOMAINS)
    assert {path.stem for path in (tmp_path / "run/features").iterdir()} == {f"procedural_{d}" for d in DOMAINS}
