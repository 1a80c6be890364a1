"""Exports in the published layouts, read by the real readers; resumed after a stop."""

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmreid_text.datasets import CUHKPEDES, ICFGPEDES, LUPersonMLLM, RSTPReid
from mmreid_text.procedural import World
from mmreid_text.procedural import export as export_module
from mmreid_text.procedural.export import LAYOUTS, export

IDS = {"cuhk_pedes": {"train": 5, "val": 2, "test": 3}, "icfg_pedes": {"train": 5, "test": 3},
       "rstpreid": {"train": 5, "val": 2, "test": 3}, "luperson_mllm": {"train": 6}}  # fmt: skip
READERS = {"cuhk_pedes": CUHKPEDES, "icfg_pedes": ICFGPEDES, "rstpreid": RSTPReid, "luperson_mllm": LUPersonMLLM}
SMALL = (32, 16)


@pytest.mark.parametrize("domain", ["street", "source"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_readers_read_it(layout: str, domain: str, tmp_path: Path) -> None:
    folder = export(layout, tmp_path, domain, IDS[layout], images_per_id=2, size=SMALL, noise_rate=0.0)
    captions = {"cuhk_pedes": 2, "icfg_pedes": 1, "rstpreid": 2, "luperson_mllm": 4}[layout]
    for split, ids in IDS[layout].items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = READERS[layout](folder, split=split, protocol="test-selected" if split == "train" else "val")
        assert dataset.num_images == 2 * ids
        assert dataset.num_captions == 2 * ids * captions
        assert dataset.num_ids == (2 * ids if layout == "luperson_mllm" else ids)
        world = World(domain, ids, 2, noise_rate=0.0, size=SMALL, split=split)
        texts = [[caption.text for caption in world.captions(i)] for i in range(len(world))]
        for item in (dataset[i] for i in range(len(dataset))):
            told = item.get("captions") or [item["caption"]]
            with Image.open(item["img_path"]) as image:
                pixels = np.asarray(image).astype(int)
            same = [i for i, known in enumerate(texts) if set(told) <= set(known)]
            assert min(np.abs(pixels - world.render(i)).mean() for i in same) < 12  # JPEG at 32x16


def test_keys_and_ids_as_published(tmp_path: Path) -> None:
    for layout in ("cuhk_pedes", "icfg_pedes", "rstpreid"):
        export(layout, tmp_path, "mall", IDS[layout], size=SMALL)
    cuhk = json.loads((tmp_path / "CUHK-PEDES/reid_raw.json").read_text())
    assert {tuple(sorted(row)) for row in cuhk} == {("captions", "file_path", "id", "processed_tokens", "split")}
    assert sorted({row["id"] for row in cuhk if row["split"] == "train"}) == [1, 2, 3, 4, 5]
    assert sorted({row["id"] for row in cuhk}) == list(range(1, 11))
    folders = {row["file_path"].split("/")[0] for row in cuhk}
    assert folders == {"cam_a", "cam_b", "CUHK01", "CUHK03", "Market", "test_query", "train_query"}
    icfg = json.loads((tmp_path / "ICFG-PEDES/ICFG-PEDES.json").read_text())
    assert {tuple(sorted(row)) for row in icfg} == {("captions", "file_path", "id", "split")}
    assert {row["split"] for row in icfg} == {"train", "test"}
    assert all(row["file_path"].startswith(row["split"] + "/") for row in icfg)
    rstp = json.loads((tmp_path / "RSTPReid/data_captions.json").read_text())
    assert {tuple(sorted(row)) for row in rstp} == {("captions", "id", "img_path", "split")}
    assert sorted({row["id"] for row in rstp if row["split"] == "train"}) == [0, 1, 2, 3, 4]
    assert not any("/" in row["img_path"] for row in rstp)


def test_a_stopped_export_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = export("rstpreid", tmp_path / "whole", "street", IDS["rstpreid"], size=SMALL)
    drawn: list[int] = []
    draw = World.render

    def stop_after_seven(world: World, index: int) -> np.ndarray:
        if len(drawn) == 7:
            raise KeyboardInterrupt
        drawn.append(index)
        return draw(world, index)

    monkeypatch.setattr(export_module.World, "render", stop_after_seven)
    with pytest.raises(KeyboardInterrupt):
        export("rstpreid", tmp_path, "street", IDS["rstpreid"], size=SMALL)
    assert not (tmp_path / "RSTPReid/data_captions.json").exists()
    images = {path: os.stat(path).st_mtime_ns for path in (tmp_path / "RSTPReid/imgs").iterdir()}
    assert len(images) == 7
    monkeypatch.setattr(export_module.World, "render", draw)
    folder = export("rstpreid", tmp_path, "street", IDS["rstpreid"], size=SMALL)
    assert all(os.stat(path).st_mtime_ns == time for path, time in images.items())
    for path in (p for p in whole.rglob("*") if p.is_file()):
        assert (folder / path.relative_to(whole)).read_bytes() == path.read_bytes()
    assert len(list(folder.rglob("*"))) == len(list(whole.rglob("*")))


def test_other_settings_and_real_data_are_not_overwritten(tmp_path: Path) -> None:
    export("luperson_mllm", tmp_path, "source", {"train": 2}, size=SMALL)
    with pytest.raises(ValueError, match="seed=0, not 1"):
        export("luperson_mllm", tmp_path, "source", {"train": 2}, size=SMALL, seed=1)
    (tmp_path / "RSTPReid").mkdir()
    (tmp_path / "RSTPReid/data_captions.json").write_text("[]")
    with pytest.raises(ValueError, match="not procedural"):
        export("rstpreid", tmp_path, "street", {"train": 2}, size=SMALL)


def test_published_captions_are_not_overwritten_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = export("luperson_mllm", tmp_path, "source", {"train": 2}, size=SMALL)
    captions = folder / "captions/Td-qwen.json"
    own = captions.read_text()
    captions.write_text("{}")
    with monkeypatch.context() as patch:
        patch.setattr(export_module, "_write_image", None)  # refused before a picture is drawn
        with pytest.raises(FileExistsError, match=r"Td-qwen\.json holds other captions .*--overwrite"):
            export("luperson_mllm", tmp_path, "source", {"train": 2}, size=SMALL)
    assert captions.read_text() == "{}"
    export("luperson_mllm", tmp_path, "source", {"train": 2}, size=SMALL, overwrite=True)
    assert captions.read_text() == own
    export("luperson_mllm", tmp_path, "source", {"train": 2}, size=SMALL)  # nothing else than before


def test_bad_arguments_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'market' is unknown"):
        export("market", tmp_path, "street", {"train": 2})
    with pytest.raises(ValueError, match=r"ICFG-PEDES has the splits train, test, but not \['val'\]"):
        export("icfg_pedes", tmp_path, "street", {"val": 2})


def test_command_line(tmp_path: Path) -> None:
    tool = Path(__file__).parents[2] / "tools/export_procedural.py"
    command = [sys.executable, str(tool), "icfg_pedes", str(tmp_path), "--train", "2", "--size", "32", "16"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "is complete" in done.stdout
    assert "6/6" in done.stderr
    refused = subprocess.run([*command, "--val", "2"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "error: ICFG-PEDES has the splits" in refused.stderr
