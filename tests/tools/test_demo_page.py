"""The command of the search page, up to the server that it opens, and the people that it draws."""

import csv
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from gallery_crops import inferencer, write_crops
from PIL import Image

from mmreid_text.apis import Gallery, TextReIDInferencer
from mmreid_text.procedural import crops
from mmreid_text.procedural.crops import draw_crops
from mmreid_text.procedural.domains import World

pytest.importorskip("faiss")
ROOT = Path(__file__).parents[2]


@pytest.fixture
def demo(monkeypatch, tmp_path):
    """The tool in a folder of its own, with a server that notes what it was given in place of opening a port."""
    spec = importlib.util.spec_from_file_location("demo_tool", ROOT / "tools/demo.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    opened = []

    class Server:
        url = "http://127.0.0.1:1"

        def __init__(self, *given):
            opened.append(given)

        def run(self):
            pass

    monkeypatch.setattr(module, "PageServer", Server)
    monkeypatch.chdir(tmp_path)
    module.opened = opened
    return module


def test_without_arguments_drawn_people_are_searched_with_the_packages_model(demo, monkeypatch, capsys):
    monkeypatch.setattr(demo, "draw_crops", lambda folder: draw_crops(folder, 2))
    assert demo.main([]) == 0
    assert "Open http://127.0.0.1:1" in capsys.readouterr().out
    search, title, *rest = demo.opened[0]
    assert title == "18 images in crops, model: the small CLIP of the package"
    assert rest == ["127.0.0.1", 7860, None]
    assert search.gallery.inferencer.fingerprint == inferencer().fingerprint
    assert {facet.column for facet in search.facets()} == {"domain", "camera", "hour"}
    assert demo.main(["--login", "ann:a:b"]) == 0  # again: nothing is drawn or encoded anew
    again, _, *rest = demo.opened[1]
    assert again.gallery.manifest == search.gallery.manifest
    assert rest[-1] == ("ann", "a:b")


def test_the_model_that_make_demo_trained_is_taken(demo, monkeypatch):
    demo.TRAINED.mkdir(parents=True)
    for name in ("epoch_1.pth", "best_mean_R1_epoch_1.pth"):
        (demo.TRAINED / name).touch()
    asked = []

    def refuse(config, checkpoint, device):
        asked.append(checkpoint)
        raise ValueError("enough")

    monkeypatch.setattr(demo, "TextReIDInferencer", refuse)
    assert [demo.main(arguments) for arguments in ([], ["--checkpoint", "mine.pth"])] == [2, 2]
    assert asked == [demo.TRAINED / "best_mean_R1_epoch_1.pth", "mine.pth"]


def test_another_model_a_spoilt_index_and_a_public_host_are_refused(demo, monkeypatch, tmp_path, capsys):
    write_crops(tmp_path / "crops", 2)
    Gallery.build(tmp_path / "crops", inferencer(), tmp_path / "index").close()
    other = TextReIDInferencer(device="cpu")
    other.__dict__["fingerprint"] = "another"
    monkeypatch.setattr(demo, "TextReIDInferencer", lambda **_: other)
    for arguments, message in (
        (["--index", "index"], "holds the vectors of another model"),
        (["--index", "nowhere"], "nowhere"),
        (["--index", "index", "--host", "0.0.0.0"], "give --login as well"),
        (["--login", "ann"], "USER:PASSWORD"),
        (["--login", "@nowhere"], "nowhere"),
    ):
        assert demo.main(arguments) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "index/gallery.json").write_text("{")
    assert demo.main(["--index", "index"]) == 2
    assert "gallery.json" in capsys.readouterr().err
    assert not demo.opened


def test_a_login_comes_from_the_option_a_file_or_the_environment(demo, monkeypatch, tmp_path):
    (tmp_path / "login").write_text("ann:from file\n")
    assert demo.read_login(None) is None
    monkeypatch.setenv(demo.LOGIN, "ann:from environment")
    assert demo.read_login(None) == ("ann", "from environment")
    assert demo.read_login("@login") == ("ann", "from file")
    assert demo.read_login("ann:option") == ("ann", "option")


def test_drawn_crops_go_on_where_they_were_and_are_renewed_with_the_code(tmp_path, monkeypatch):
    root, table = draw_crops(tmp_path, 1, progress=False)
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [
        f"{domain}/0000_c{camera}.jpg" for domain in ("street", "mall", "station") for camera in (1, 2, 3)
    ]
    assert all(6 <= int(row["hour"]) < 22 and row["path"].startswith(row["domain"]) for row in rows)
    drawn = World("mall", 1, size=(240, 96), split="test").render(1)
    picture = np.asarray(Image.open(root / "mall/0000_c2.jpg"))
    assert np.abs(picture.astype(int) - drawn).mean() < 6
    stamps = {path: path.stat().st_mtime_ns for path in root.rglob("*.jpg")}
    (root / "mall/0000_c2.jpg").unlink()
    draw_crops(tmp_path, 1, progress=False)
    again = {path: path.stat().st_mtime_ns for path in root.rglob("*.jpg")}
    assert {path for path in stamps if stamps[path] != again[path]} == {root / "mall/0000_c2.jpg"}
    (tmp_path / "other/crops/mall").mkdir(parents=True)
    (tmp_path / "other/crops/mall/mine.jpg").touch()
    draw_crops(tmp_path / "other", 1, progress=False)
    assert (tmp_path / "other/crops/mall/mine.jpg").exists()
    monkeypatch.setattr(crops, "fingerprint", lambda *_: "new code")
    draw_crops(tmp_path, 1, progress=False)
    assert all(path.stat().st_mtime_ns != again[path] for path in again)
