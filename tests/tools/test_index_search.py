"""The commands that index and search, as users call them."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from gallery_crops import write_crop, write_crops
from PIL import Image

from mmreid_text.visualization.result_sheet import COLUMNS, FoundImage, draw_result_sheet

pytest.importorskip("faiss")
TOOLS = Path(__file__).parents[2] / "tools"


def load(name):
    spec = importlib.util.spec_from_file_location(f"{name}_tool", TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


index, search = load("index"), load("search")


def make(tmp_path):
    """A folder of twelve crops, indexed with the cameras in their names."""
    write_crops(tmp_path / "crops", 12)
    (tmp_path / "crops/bad.jpg").write_bytes(b"no image")
    options = ["--device", "cpu", "--pattern", r"(?P<number>\d+)_(?P<camera>c\d)"]
    assert index.main([str(tmp_path / "crops"), "--out", str(tmp_path / "index"), *options]) == 0
    return tmp_path


def test_indexing_tells_what_it_did(tmp_path, capsys):
    folder = make(tmp_path)
    told = capsys.readouterr()
    assert "12 images can be found: 12 encoded now" in told.out
    assert "unreadable: bad.jpg: Image bad.jpg is none of JPEG" in told.out
    assert "13/13" in told.err  # the bar
    write_crop(folder / "crops/new_c7.png", 99)
    assert index.main([str(folder / "crops"), "--out", str(folder / "index"), "--device", "cpu", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["encoded"], report["unchanged"], report["images"]) == (1, 12, 13)
    assert report["manifest"]["metadata"]["pattern"] == r"(?P<number>\d+)_(?P<camera>c\d)"
    assert report["unreadable"].keys() == {"bad.jpg"}


def test_searching_prints_lines_json_and_a_sheet(tmp_path, capsys):
    folder = make(tmp_path)
    capsys.readouterr()
    command = ["--index", str(folder / "index"), "--device", "cpu", "--topk", "3"]
    sheet = folder / "sheets/a.png"
    where = 'camera in ["c1", "c2"] and number >= 4'
    assert search.main([*command, "a red coat", "a man", "--where", where, "--sheet", str(sheet)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a red coat  (3 of 12 images)"
    assert lines[4].startswith("a man  (3 of 12")
    assert Image.open(sheet).size[0] > 900
    assert search.main([*command, "a red coat", "a man", "--where", where, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [query["sentence"] for query in found["queries"]] == ["a red coat", "a man"]
    for line, hit in zip(lines[1:4], found["queries"][0]["hits"]):
        assert line.split()[:3] == [str(hit["rank"]), f"{hit['score']:.3f}", hit["path"]]
        assert Path(hit["file"]).read_bytes() == (folder / "crops" / hit["path"]).read_bytes()
        assert hit["metadata"]["camera"] in ("c1", "c2")
        assert hit["metadata"]["number"] >= 4


def test_what_is_wrong_is_said_in_a_line(tmp_path, capsys):
    folder = make(tmp_path)
    capsys.readouterr()
    command = ["--index", str(folder / "index"), "--device", "cpu"]
    for arguments, words in (
        ([*command, "x", "--where", "cam == 1"], "there is no column 'cam'. Did you mean 'camera'?"),
        ([*command, "  "], "A sentence is empty"),
        ([*command, "x", "--topk", "0"], "topk=0 must lie in"),
        (["x", "--index", str(tmp_path / "nowhere")], "nowhere holds no index"),
        ([*command, "x", "--config", "configs/clip/nowhere.py"], "configs/clip/nowhere.py does not exist"),
    ):
        assert search.main(arguments) == 2
        told = capsys.readouterr()
        assert told.err.startswith("error: ")
        assert words in told.err
        assert not told.out
    for arguments, words in (
        ([str(tmp_path / "nowhere")], "nowhere does not exist"),
        ([str(folder / "crops"), "--store", "int8"], "has store 'exact', and 'int8' is asked for"),
        ([str(folder / "crops"), "--metadata", "gone.csv"], "gone.csv does not exist"),
        ([str(folder / "crops"), "--pattern", "("], "is no regular expression"),
    ):
        assert index.main([*arguments, "--out", str(folder / "index"), "--device", "cpu"]) == 2
        assert words in capsys.readouterr().err


def test_a_sheet_shows_what_is_there(tmp_path):
    write_crop(tmp_path / "a.png", 1)
    found = [FoundImage(tmp_path / "a.png", "folder/a.png", 0.5)] * COLUMNS
    one = draw_result_sheet([("a man", found)])
    two = draw_result_sheet([("a man", [*found, FoundImage(None, "gone.png", 0.4)]), ("nobody", [])])
    assert one.shape[1] == two.shape[1]
    assert two.shape[0] > one.shape[0] + 200
    assert np.abs(one[60:200, 30:100].astype(int) - 255).mean() > 20  # the crop
    with pytest.raises(ValueError, match="no query"):
        draw_result_sheet([])
