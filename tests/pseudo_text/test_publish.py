"""The published layouts of LUPerson-T: written here, read by its data set."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from conftest import write_jpeg

from mmreid_text.captioning.image_sources import ImageFolder
from mmreid_text.datasets import CaptionTable, LUPersonT, write_caption_table
from mmreid_text.pseudo_text.publish import publish_arrow, publish_json, split_of

pytestmark = pytest.mark.filterwarnings("ignore::mmreid_text.datasets.published.DataWarning")


@pytest.fixture
def people(tmp_path):
    """A table of 40 images, every third with two captions, one of them with the same one twice; and the images."""
    columns = {key: [] for key in ("image", "caption", "pid", "image_id", "source")}
    for i in range(40):
        write_jpeg(tmp_path / f"crops/{i:04d}.jpg", i)
        for number in range(2 if i % 3 == 0 else 1):
            columns["image"].append(f"{i:04d}.jpg")
            columns["caption"].append(f"A man wears coat {i}." if number == 0 or i == 3 else f'Coat "{i}" \u00e9.')
            columns["pid"].append(i)
            columns["image_id"].append(i)
            columns["source"].append(f"UniPT-{number + 1}")
    path = tmp_path / "people.arrow"
    write_caption_table(path, iter([columns | {"split": "train"}]), "people", sources=["UniPT-1", "UniPT-2"])
    return CaptionTable.open(path), ImageFolder(tmp_path / "crops")


def captions_of(table):
    told = {}
    for row in range(len(table)):
        told.setdefault(table.image(row), []).append(table.caption(row))
    return told


def test_json_reads_as_it_was_written(people, tmp_path):
    table, _ = people
    root = tmp_path / "LUPerson-T"
    path, link = publish_json(table, root, tmp_path / "crops")
    assert (link.is_symlink(), link.resolve()) == (True, (tmp_path / "crops").resolve())
    entries = json.loads(path.read_text(encoding="utf-8"))
    assert entries[0] == {"file_path": "0000.jpg", "captions": ["A man wears coat 0.", 'Coat "0" \u00e9.']}
    assert entries[3] == {"file_path": "0003.jpg", "captions": ["A man wears coat 3."]}
    dataset = LUPersonT(root, pipeline=[dict(type="LoadImage")])
    assert captions_of(dataset.table) == {entry["file_path"]: entry["captions"] for entry in entries}
    assert dataset[5]["img"].dtype == np.uint8
    assert publish_json(table, root, tmp_path / "crops") == [path]  # the link stays


def test_a_folder_of_images_that_is_there_stays(people, tmp_path):
    table, _ = people
    (tmp_path / "out/images").mkdir(parents=True)
    publish_json(table, tmp_path / "out", tmp_path / "crops")
    assert not (tmp_path / "out/images").is_symlink()
    publish_json(table, tmp_path / "bare", None)
    assert not (tmp_path / "bare/images").exists()


def test_arrow_files_hold_images_and_captions(people, tmp_path, monkeypatch):
    monkeypatch.setattr("mmreid_text.pseudo_text.publish.SPLIT_ENDS", dict(test=0.2, val=0.3, restval=0.4, train=1.0))
    monkeypatch.setattr("mmreid_text.pseudo_text.publish._ROWS", 7)
    table, images = people
    paths = publish_arrow(table, tmp_path / "arrow", images)
    assert sorted(path.name for path in paths) == [f"LUPerson_{s}.arrow" for s in ("restval", "test", "train", "val")]
    seen = {}
    for path in paths:
        rows = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        assert rows.schema.names == ["image", "caption", "image_id", "split"]
        for row in rows.to_pylist():
            assert f"LUPerson_{row['split']}.arrow" == path.name
            assert row["image"] == images.read(row["image_id"])
            seen[row["image_id"]] = row["caption"]
    told = captions_of(table)
    assert seen == {name: list(dict.fromkeys(captions)) for name, captions in told.items()}
    splits = Counter(split_of(name) for name in told)
    assert set(splits) == {"train", "test", "val", "restval"}
    train = LUPersonT(tmp_path / "arrow", pipeline=[dict(type="LoadImage")])
    assert len(set(train.table.image_id)) == splits["train"] + splits["restval"]
    assert train[0]["img"].ndim == 3
    assert len(LUPersonT(tmp_path / "arrow", split="test", pipeline=[]).table) >= splits["test"]


def test_splits_are_the_authors_shares():
    counts = Counter(split_of(f"{i}.jpg") for i in range(20_000))
    assert counts.keys() == {"train", "test", "val", "restval"}
    for split, share in (("test", 0.001), ("val", 0.0005), ("restval", 0.0005)):
        assert abs(counts[split] - 20_000 * share) < 5 * (20_000 * share) ** 0.5
    assert split_of("7.jpg") == split_of("7.jpg")
