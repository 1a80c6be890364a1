"""LUPerson-T in both of its published layouts."""

import errno
import importlib.util
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import write_jpeg
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.datasets import CaptionTable, LUPersonT, arrow_images, captioned_images, sorted_runs
from mmreid_text.datasets.image_packing import PackSettings, pack_images
from mmreid_text.datasets.image_store import INDEX, ImageStore
from mmreid_text.datasets.published import DataWarning
from mmreid_text.datasets.transforms import LoadImage
from mmreid_text.datasets.transforms.image import read_image

pytestmark = pytest.mark.filterwarnings(
    "ignore:LUPerson-T. identities / images:mmreid_text.datasets.published.DataWarning"
)
SPLIT_OF = ["test", "val", "restval"] + ["train"] * 9
NAMES = [f"{97 * i % 13:06d}_{i}.jpg" for i in range(12)]  # in another order than their numbers


def captions_of(i):
    own = [f"A man in colour {i} walks.", f"He wears colour {i} and has a bag."]
    return own[: 1 + i % 2] + own[:1] * (i % 3 == 0)  # every third repeats its first


def expected(names):
    return [(name, text) for name in sorted(names) for text in dict.fromkeys(captions_of(NAMES.index(name)))]


@pytest.fixture
def root(tmp_path):
    """The JSON layout: 12 images and one without captions."""
    root = tmp_path / "LUPerson-T"
    for i, name in enumerate([*NAMES, "bare.jpg"]):
        write_jpeg(root / "images" / name, i)
    write_captions(root, [{"file_path": name, "captions": captions_of(i)} for i, name in enumerate(NAMES)])
    return root


@pytest.fixture
def arrow_root(root, tmp_path):
    """The same as Arrow files, as pandas hands them to the authors' script: several record batches, an index column."""
    folder = tmp_path / "arrow"
    folder.mkdir()
    for split in ("train", "restval", "val", "test"):
        rows = [i for i, own in enumerate(SPLIT_OF) if own == split]
        write_arrow(
            folder / f"LUPerson_{split}.arrow",
            [(root / "images" / NAMES[i]).read_bytes() for i in rows],
            [captions_of(i) for i in rows],
            [NAMES[i] for i in rows],
        )
    return folder


def write_captions(root, entries):
    (root / "LUPerson-T.json").write_text(json.dumps(entries))


def write_arrow(path, images, captions, names, chunk=4, options=None):
    table = pa.table({"image": images, "caption": captions, "image_id": names, "split": ["x"] * len(names)})
    options = pa.ipc.IpcWriteOptions(compression=options)
    with pa.OSFile(str(path), "wb") as sink, pa.RecordBatchFileWriter(sink, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=chunk)


@pytest.fixture
def prepare(monkeypatch):
    """The main function of tools/prepare_data.py, called with command-line arguments in this process."""
    path = Path(__file__).parents[2] / "tools/prepare_data.py"
    spec = importlib.util.spec_from_file_location("prepare_data", path)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["prepare_data.py", *map(str, args), "--jobs", "1"])
        return tool.main()

    return call


def pairs(dataset):
    items = [dataset[i] for i in range(len(dataset))]
    return [(item["img_path"].rsplit("/", 1)[-1], item["caption"]) for item in items]


def test_json_layout(root):
    write_jpeg(root / "images/inner/other.jpg", 0)  # files lie in one folder
    dataset = LUPersonT(root)
    assert pairs(dataset) == expected(NAMES)
    assert (dataset.num_ids, dataset.num_images, len(dataset)) == (12, 12, 18)
    items = [dataset[i] for i in range(len(dataset))]
    assert [item["pid"] for item in items] == [item["image_id"] for item in items]
    assert dataset[0]["img_path"] == str(root / "images" / min(NAMES))
    assert any("4 captions repeat an earlier one" in note for note in dataset.notes)
    assert any("1 of 13 images have no caption" in note for note in dataset.notes)
    with pytest.raises(ValueError, match="has no split 'val'; it has train"):
        LUPersonT(root, split="val")
    assert len(LUPersonT(root, protocol="paper-val")) == len(LUPersonT(root, protocol="test-selected")) == 18


def test_entries_of_one_image_are_joined_and_the_file_may_have_another_name(root):
    before = LUPersonT(root)
    entries = [
        {"file_path": f"/data/LUPerson/{name}", "captions": [text]}
        for i, name in enumerate(NAMES)
        for text in captions_of(i)
    ]
    write_captions(root, sorted(entries, key=lambda entry: entry["captions"]))
    (root / "LUPerson-T.json").rename(root / "phrases_2v.json")
    for path in (root / "images").iterdir():
        path.rename(root / path.name)
    (root / "images").rmdir()
    after = LUPersonT(root)
    assert sorted(pairs(after)) == sorted(pairs(before))
    assert after[0]["img_path"] == str(root / min(NAMES))


def test_arrow_layout_reads_images_from_where_they_lie(root, arrow_root):
    train = LUPersonT(arrow_root, pipeline=[LoadImage()])
    names = [name for name, split in zip(NAMES, SPLIT_OF) if split in ("train", "restval")]
    assert pairs(train) == expected(names)
    for i in range(len(train)):
        name = train[i]["img_path"].rsplit("/", 1)[-1]
        np.testing.assert_array_equal(train[i]["img"], read_image(str(root / "images" / name)))
    assert sorted(p.suffix for p in arrow_root.iterdir()) == [".arrow"] * 5  # four and the index: no copy of images
    for split in ("val", "test"):
        held_out = LUPersonT(arrow_root, split=split, pipeline=[LoadImage()])
        assert held_out[0]["img_path"].endswith(NAMES[SPLIT_OF.index(split)])
        assert held_out[0]["captions"] == list(dict.fromkeys(captions_of(SPLIT_OF.index(split))))
    again = pickle.loads(pickle.dumps(train))
    np.testing.assert_array_equal(again[0]["img"], train[0]["img"])
    index = (arrow_root / INDEX).stat().st_mtime_ns
    LUPersonT(arrow_root)
    assert (arrow_root / INDEX).stat().st_mtime_ns == index
    with pytest.raises(ValueError, match=r"holds an index of LUPerson_train\.arrow, .* not of packed images"):
        pack_images(pa.array(NAMES, pa.large_string()), PackSettings("x", str(root), "0"), arrow_root)
    first = NAMES[3]
    write_arrow(arrow_root / "LUPerson_train.arrow", [b"new"], [["One."]], [first])
    assert ImageStore.find(LUPersonT(arrow_root).image_root).read(first) == b"new"


def test_a_folder_that_takes_no_index_is_named(arrow_root, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(arrow_images, "write_arrow", refuse)
    with pytest.raises(
        PermissionError, match=r"image_index\.arrow .*Read-only file system\)\. Make the folder writable"
    ):
        LUPersonT(arrow_root)


def test_a_name_that_comes_twice_is_one_image(arrow_root):
    write_arrow(arrow_root / "LUPerson_restval.arrow", [b"later", b"x"], [["Later."], ["X."]], [NAMES[3], "x.jpg"])
    with pytest.warns(DataWarning, match=rf"1 images have a name that an earlier one has \(first: '{NAMES[3]}'\)"):
        dataset = LUPersonT(arrow_root)
    found = [text for name, text in pairs(dataset) if name == NAMES[3]]
    assert found == [*dict.fromkeys(captions_of(3)), "Later."]
    assert dataset.image_fields(0)["img_bytes"] != b"later"


@pytest.mark.filterwarnings("ignore::mmreid_text.datasets.published.DataWarning")
@settings(max_examples=25, deadline=None)
@given(data=st.data(), run=st.integers(1, 5), chunk=st.integers(1, 4), layout=st.sampled_from(["json", "arrow"]))
def test_the_join_equals_a_naive_loop_however_it_is_cut_and_stopped(tmp_path_factory, data, run, chunk, layout):
    root = tmp_path_factory.mktemp("root")
    names = data.draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=8, unique=layout == "arrow"))
    texts = st.lists(st.sampled_from(["A man.", "A man. ", "Une élégante.", " ", ""]), max_size=4)
    entries = [(f"{name}.jpg", data.draw(texts)) for name in names]
    merged = {}
    for name, own in entries:
        merged.setdefault(name, []).extend(text for text in own if text.strip())
    wanted = [(name, text) for name in sorted(merged) for text in dict.fromkeys(merged[name])]
    if layout == "json":
        for name in {name for name, _ in entries}:
            (root / name).touch()
        (root / "any.json").write_text(json.dumps([{"file_path": n, "captions": c} for n, c in entries]))
    else:
        columns = ([b"image"] * len(entries), [c for _, c in entries], [n for n, _ in entries])
        captions = pa.array(columns[1], pa.list_(pa.string()))
        write_arrow(root / "LUPerson_train.arrow", columns[0], captions, columns[2], chunk)
    stop = data.draw(st.integers(0, 12))

    def stopping(path, offset, read=LUPersonT.read_captions):
        for i, pair in enumerate(read(path, offset)):
            if i == stop:
                raise KeyboardInterrupt
            yield pair

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_runs, "RUN_CAPTIONS", run)
        patch.setattr(captioned_images, "CHUNK_IMAGES", chunk)
        (work := root / "work").mkdir()
        with patch.context() as killed:
            killed.setattr(LUPersonT, "read_captions", staticmethod(stopping))
            if sum(len(own) for _, own in entries) > stop:
                with pytest.raises(KeyboardInterrupt):
                    LUPersonT.read(root, work)
        if not wanted:
            with pytest.raises(FileNotFoundError, match="no caption belongs to one of the"):
                list(LUPersonT.read(root, work).chunks)
            return
        found = []
        for columns in LUPersonT.read(root, work).chunks:
            found += zip(columns["image"].to_pylist(), columns["caption"].to_pylist(), columns["image_id"])
    assert [row[:2] for row in found] == wanted
    order = {name: i for i, name in enumerate(dict.fromkeys(name for name, _ in wanted))}
    assert [row[2] for row in found] == [order[name] for name, _ in wanted]


def test_missing_images_and_empty_captions_are_told(root):
    (root / "images" / NAMES[4]).unlink()
    entries = json.loads((root / "LUPerson-T.json").read_text())
    entries[5]["captions"].append("  ")
    write_captions(root, entries)
    with pytest.warns(DataWarning) as told:
        dataset = LUPersonT(root)
    text = "\n".join(str(warning.message) for warning in told)
    assert f"1 of 23 captions belong to images that are not in {root}/images (first: {NAMES[4]!r})" in text
    assert f"1 captions are empty (first: of {NAMES[5]!r})" in text
    assert pairs(dataset) == expected([name for name in NAMES if name != NAMES[4]])
    for path in (root / "images").iterdir():
        path.rename(path.with_name(f"x{path.name}"))
    with pytest.raises(FileNotFoundError, match=r"no caption belongs to one of the 12 images .*were the files renamed"):
        LUPersonT(root)
    for path in (root / "images").iterdir():
        path.unlink()
    with pytest.raises(FileNotFoundError, match=r"no image lies in .*images\. docs/data\.md"):
        LUPersonT(root)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"file_path": "a.jpg", "captions": "A man."}, r"captions are 'A man\.', but must be a list"),
        ({"file_path": "a.jpg", "captions": [None]}, r"\(image 'a\.jpg'\): captions are \[None\]"),
        ({"captions": []}, r"file_path is None, but must name an image"),
        ([], r"begins with '\[\]"),
    ],
)
def test_bad_entries_are_named(root, entry, message):
    write_captions(root, [{"file_path": NAMES[0], "captions": ["A man."]}, entry])
    with pytest.raises(ValueError, match=rf"LUPerson-T\.json.* byte 5\d.*{message}"):
        LUPersonT(root)


def test_bad_folders_and_arrow_files_are_named(root, arrow_root, tmp_path):
    for call in (LUPersonT, LUPersonT.check_files):
        with pytest.raises(FileNotFoundError, match=r"data folder .*nowhere does not exist.*docs/data\.md"):
            call(data_root=tmp_path / "nowhere")
    (root / "LUPerson-T.json").rename(root / "a.json")
    (root / "b.json").touch()
    for call in (LUPersonT, LUPersonT.check_files):
        with pytest.raises(FileNotFoundError, match=r"neither .*Of a\.json, b\.json none has that name\. docs/data"):
            call(data_root=root)
    LUPersonT.check_files(data_root=arrow_root)
    (root / "a.json").rename(arrow_root / "LUPerson-T.json")
    with pytest.raises(ValueError, match=r"has both LUPerson-T\.json and LUPerson_train\.arrow, which may differ"):
        LUPersonT(arrow_root)
    (arrow_root / "LUPerson-T.json").unlink()
    path = arrow_root / "LUPerson_train.arrow"
    images, texts, names = [b"a" * 999], [["A man."]], ["a.jpg"]
    for bad, message in (
        (dict(images=images, captions=texts, names=names, options="lz4"), "is compressed, so that images cannot"),
        (dict(images=images, captions=["A man."], names=names), "column 'caption' is string, but the published"),
        (dict(images=[None], captions=texts, names=names), "column 'image' is null, but the published"),
        (dict(images=[b"a", None], captions=texts * 2, names=names * 2), "1 images are missing"),
        (dict(images=images * 2, captions=[["A."], [None]], names=names * 2), r"row 1 has an empty cell \(image_id 'a"),
    ):
        write_arrow(path, **bad)
        with pytest.raises(ValueError, match=f"LUPerson_train.arrow.*{message}"):
            LUPersonT(arrow_root)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"LUPerson_train\.arrow is not a complete Arrow file .*Copy it again"):
        LUPersonT(arrow_root)


def test_both_layouts_are_prepared_and_checked(root, arrow_root, prepare, capsys):
    for folder, rows in ((root, LUPersonT(root)), (arrow_root, LUPersonT(arrow_root))):
        assert prepare("luperson_t", folder) == 0
        assert f"{len(CaptionTable.open(f'{folder}.arrow'))} captions" in capsys.readouterr().out
        mapped = LUPersonT(folder, pipeline=[LoadImage()])
        assert mapped.table.path == f"{folder}.arrow"
        assert mapped.fingerprint == rows.fingerprint
        assert mapped[0]["token_ids"]
        assert mapped[0]["img"].shape[2] == 3
        assert prepare("luperson_t", folder, "--check-images") == 0
        assert "12 images checked, 0 unreadable" in capsys.readouterr().out
    (arrow_root / INDEX).unlink()  # a table that was copied from elsewhere needs it too
    assert LUPersonT(arrow_root, table=f"{arrow_root}.arrow", pipeline=[LoadImage()])[0]["img"].ndim == 3
    write_arrow(arrow_root / "LUPerson_val.arrow", [b"no image"], [["A man."]], ["bad.jpg"])
    assert prepare("luperson_t", arrow_root, "--check-images") == 1
    printed = capsys.readouterr().out
    assert "was made from other files" in printed
    assert "unreadable: bad.jpg" in printed
