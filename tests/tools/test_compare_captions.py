"""Captions of the same drawn people compared by one command, in small."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from mmreid_text.datasets import CaptionTable, LUPersonMLLM, LUPersonT
from mmreid_text.engine.config import load_config
from mmreid_text.engine.run_pool import config_text
from mmreid_text.engine.training_run import train_and_test
from mmreid_text.evaluation.caption_comparison import check_captions

ROOT = Path(__file__).parents[2]
DOMAINS = ("street", "mall", "station")
PEOPLE = 24
pytestmark = pytest.mark.filterwarnings("ignore::mmreid_text.datasets.published.DataWarning")


def small(path, folder):
    """A config of the comparison at the size of the test, as text."""
    options = {
        "train_cfg.max_epochs": 1,
        "train_cfg.val_interval": 1,
        "train_dataloader.batch_size": 8,
        "train_dataloader.num_workers": 0,
        "train_dataloader.persistent_workers": False,
        "log_level": "WARNING",
    }
    cfg = load_config(str(path), options)
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        for member in loader.dataset.datasets:
            member.update(num_ids=6, cache_dir=str(folder / "cache"))
    return config_text(cfg)


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tools"))  # where Python looks when the tool is run
    spec = importlib.util.spec_from_file_location("compare_captions", ROOT / "tools/compare_captions.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    for name in ("caption", "pseudo_text", "transfer_matrix"):
        sys.modules.pop(name, None)


def test_one_command_captions_trains_and_compares(tool, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PEOPLE_ROOT", str(tmp_path / "people"))
    monkeypatch.setattr(tool, "PEOPLE", PEOPLE)
    trained = []

    def execute(runs, jobs, nproc):  # in this process, which spares the imports of others
        for run in runs:
            if run.metrics() is None:
                trained.append(run.name)
                train_and_test(run.cfg, run.work_dir, checkpoint=run.checkpoint, features=True, stamp=run.stamp)

    monkeypatch.setattr(tool.transfer_matrix, "execute", execute)
    folder = tmp_path / "configs"
    folder.mkdir()
    for name, path in (
        ("static", "captioning/tiny_ts-qwen.py"),
        ("tde", "captioning/tiny_td-qwen.py"),
        ("unipt", "unipt/tiny_clip_luperson-t.py"),
    ):
        (folder / f"{name}.py").write_text(small(ROOT / "configs" / path, tmp_path))
    matrix = (ROOT / "configs/unipt/matrix_captions.py").read_text()
    for path, name in (("tiny_clip_luperson-t", "unipt"), ("../captioning/tiny_ts-qwen", "static")):
        matrix = matrix.replace(path, name)
    (folder / "matrix.py").write_text(matrix.replace("../captioning/tiny_td-qwen", "tde"))
    out = tmp_path / "out"
    options = ["--matrix", str(folder / "matrix.py"), "--work-dir", str(out), "--seeds", "1", "--jobs", "1"]
    tool.main(options)
    assert len(trained) == 4
    printed = capsys.readouterr().out
    text = (out / "captions.md").read_text()
    assert text in printed
    plain = json.loads((out / "captions.json").read_text())

    # Every row has the same images, one caption of its own kind for each, and the diversity of just these.
    people = tmp_path / "people"
    read = {
        "static": LUPersonMLLM(people / "LUPerson-MLLM", sources=["Ts-qwen"]),
        "TDE": LUPersonMLLM(people / "LUPerson-MLLM", sources=["Td-qwen"]),
        "UniPT": LUPersonT(people / "LUPerson-T"),
    }
    assert list(plain["captions"]) == list(read)
    for name, dataset in read.items():
        assert len(dataset) == dataset.num_images == plain["captions"][name][""]["captions"] == PEOPLE
    job = CaptionTable.open(out / "unipt.arrow")
    assert {job.caption(i) for i in range(PEOPLE)} == {read["UniPT"].caption(i) for i in range(PEOPLE)}
    table = [line for line in text.split("##")[0].splitlines() if line.startswith("| ")]
    rows = {line.split("|")[1].strip(): line for line in table}
    for name, figures in plain["captions"].items():
        assert f"{figures['']['pattern_entropy_bits']:.2f}" in rows[name]
    for summary in plain["transfer"]["summaries"]:
        assert f"{summary['metrics']['R1']['mean']:.2f}" in rows[summary["method"]]
        assert summary["cells"] == 3
    pairs = {(one["first"], one["second"]): one["cells"] for one in plain["transfer"]["method_comparisons"]}
    assert pairs == {("static", "TDE"): 3, ("static", "UniPT"): 3, ("TDE", "UniPT"): 3}

    tool.main(options)  # nothing is left to do
    assert len(trained) == 4
    assert (out / "captions.md").read_text() == text


def test_rows_that_differ_in_more_than_captions_are_refused(tmp_path):
    entries = [{"file_path": f"{i}.jpg", "captions": ["A man.", "He walks."][: 1 + (i == 1)]} for i in range(3)]
    other = [*entries[:2], {"file_path": "9.jpg", "captions": ["He walks."]}]
    often = [{**entry, "captions": ["A man.", "He walks."]} for entry in entries]
    kinds = {"all": entries, "same": entries[::-1], "fewer": entries[:2], "other": other, "often": often}
    datasets = {}
    for name, own in kinds.items():
        root = tmp_path / name
        root.mkdir()
        for entry in own:
            (root / entry["file_path"]).touch()
        (root / "LUPerson-T.json").write_text(json.dumps(own))
        datasets[name] = LUPersonT(root)
    same = check_captions({key: datasets[key] for key in ("all", "same")})
    assert same != check_captions({key: datasets[key] for key in ("all",)})
    for name, message in (
        ("fewer", r"'fewer' has 3 captions of 2 images, 'all' has 4 of 3, and one lacks '2\.jpg'"),
        ("other", r"'other' has 4 captions of 3 images, 'all' has 4 of 3, and one lacks '2\.jpg'"),
        ("often", r"'often' has 6 captions of 3 images, 'all' has 4 of 3: rows"),
    ):
        with pytest.raises(ValueError, match=message):
            check_captions({key: datasets[key] for key in ("all", name)})


def test_a_matrix_without_training_is_refused(tool, tmp_path, monkeypatch):
    (tmp_path / "config.py").write_text(small(ROOT / "configs/unipt/tiny_clip_luperson-t.py", tmp_path))
    row = "dict(name='CLIP', source='procedural_web', config='config.py', checkpoint='')"
    (tmp_path / "matrix.py").write_text(f"rows = [{row}]")
    monkeypatch.setattr(tool, "write_captions", lambda people, work_dir: None)
    with pytest.raises(SystemExit, match="error: the matrix trains no row on captions"):
        tool.main(["--matrix", str(tmp_path / "matrix.py"), "--work-dir", str(tmp_path / "out")])
    with pytest.raises(SystemExit):
        tool.main(["--seeds", "0"])
