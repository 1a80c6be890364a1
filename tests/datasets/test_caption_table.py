import itertools
import multiprocessing
import os
import pickle
import signal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.datasets import CaptionTable, caption_table, write_caption_table
from mmreid_text.datasets.caption_cells import CaptionCells

SOURCES = ["a", "b"]


def make_columns(images_per_split, captions_per_image=2):
    columns = {key: [] for key in ("image", "caption", "pid", "image_id", "source", "split")}
    for split, number in images_per_split.items():
        for image in range(number):
            for k in range(captions_per_image):
                columns["image"].append(f"{split}/{image}.jpg")
                columns["caption"].append(f"{split} {image} {k} é日")
                columns["pid"].append(image // 2)
                columns["image_id"].append(image)
                columns["source"].append(SOURCES[k % 2])
                columns["split"].append(split)
    return columns


def chunked(columns, borders):
    borders = [0, *sorted(borders), len(columns["image"])]
    return [{k: v[a:b] for k, v in columns.items()} for a, b in itertools.pairwise(borders)]


def rows_of(table):
    return [(table.image(i), table.caption(i), *table.ids(i)) for i in range(len(table))]


def expected_rows(columns):
    return list(zip(columns["image"], columns["caption"], columns["pid"], columns["image_id"]))


@settings(max_examples=30, deadline=None)
@given(
    numbers=st.tuples(*[st.integers(0, 6)] * 3),
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=36, max_size=36),
    borders=st.lists(st.integers(0, 36), max_size=4),
    batch_rows=st.integers(1, 7),
)
def test_round_trip(tmp_path_factory, numbers, texts, borders, batch_rows):
    columns = make_columns(dict(zip(("train", "val", "test"), numbers)))
    columns["caption"] = texts[: len(columns["image"])]
    chunks = chunked(columns, [min(b, len(columns["image"])) for b in borders])
    path = tmp_path_factory.mktemp("table") / "t.arrow"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(caption_table, "BATCH_ROWS", batch_rows)
        mapped = write_caption_table(path, chunks, "mine", "root", SOURCES)
    memory = CaptionTable.from_chunks([columns], "mine", "root", SOURCES)
    assert rows_of(mapped) == rows_of(memory) == expected_rows(columns)
    assert mapped.info == memory.info  # the fingerprint knows no chunks
    assert mapped.pid.tolist() == columns["pid"]
    assert mapped.image_id.tolist() == columns["image_id"]
    for split, number in zip(("train", "val", "test"), numbers):
        rows = [r for r, s in zip(expected_rows(columns), columns["split"]) if s == split]
        if not number:
            assert split not in mapped.splits
            continue
        part = mapped.split(split)
        assert rows_of(part) == rows
        assert part.first_rows().tolist() == list(range(0, len(rows) + 1, 2))
        assert mapped.info["summary"][split] == {
            "identities": len({r[2] for r in rows}),
            "images": number,
            "captions": len(rows),
        }
        assert rows_of(part.filter_sources(["b"])) == rows[1::2]
    assert list(mapped.images()) == list(dict.fromkeys(columns["image"]))


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_views_compose(data):
    columns = make_columns({"train": 5, "test": 4}, 3)
    table, rows = CaptionTable.from_columns(columns, "mine"), expected_rows(columns)
    for _ in range(3):
        if not rows:
            break
        chosen = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1)))
        table, rows = table.select(np.array(chosen)), [rows[i] for i in chosen]
        assert rows_of(table) == rows
        assert table.pid.tolist() == [r[2] for r in rows]
        assert rows_of(pickle.loads(pickle.dumps(table))) == rows
        starts = [i for i in range(len(rows)) if i == 0 or rows[i][0] != rows[i - 1][0]]
        assert table.first_rows().tolist() == [*starts, len(rows)]


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(1, 5), min_size=1, max_size=5), data=st.data())
def test_cells_equal_arrow(sizes, data):
    rows = sum(sizes)
    text = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=5), min_size=rows, max_size=rows)
    numbers = st.lists(st.integers(0, 2**62), min_size=rows, max_size=rows)
    columns = {"image": text, "caption": text, "pid": numbers, "image_id": numbers}
    whole = pa.table({key: data.draw(values) for key, values in columns.items()})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, whole.schema) as writer:
        for stop, size in zip(itertools.accumulate(sizes), sizes):
            writer.write_table(whole.slice(stop - size, size))
    cells = CaptionCells(sink.getvalue())
    for i, row in enumerate(whole.to_pylist()):
        assert {key: cells.text(key, i) for key in ("image", "caption")} == {k: row[k] for k in ("image", "caption")}
        assert {key: cells.number(key, i) for key in ("pid", "image_id")} == {k: row[k] for k in ("pid", "image_id")}


def test_fingerprint_changes_with_every_column():
    columns = make_columns({"train": 3})
    seen = {CaptionTable.from_columns(columns, "mine").fingerprint}
    for key, value in {"image": "train/2.png", "caption": "other", "pid": 9, "source": "a"}.items():
        changed = {k: list(v) for k, v in columns.items()}
        changed[key][-2:] = [value] * 2
        seen.add(CaptionTable.from_columns(changed, "mine").fingerprint)
    shifted = {k: list(v) for k, v in columns.items()}
    shifted["caption"][:2] = [columns["caption"][0] + columns["caption"][1][:1], columns["caption"][1][1:]]
    seen.add(CaptionTable.from_columns(shifted, "mine").fingerprint)
    assert len(seen) == 6
    table = CaptionTable.from_columns(columns, "mine")
    halves = {table.select(np.arange(2)).fingerprint, table.select(np.arange(2, 4)).fingerprint, table.fingerprint}
    assert len(halves) == 3
    assert table.select(np.arange(6)).fingerprint == table.fingerprint


def test_mapped_table_pickles_by_path_and_shares_memory(tmp_path):
    table = write_caption_table(tmp_path / "t.arrow", [make_columns({"train": 2000})], "mine", sources=SOURCES)
    pickled = pickle.dumps(table.split("train"))
    assert len(pickled) < 500
    assert rows_of(pickle.loads(pickled))[-1] == rows_of(table)[-1]
    assert not table.pid.flags.owndata  # zero-copy
    assert not table.pid.flags.writeable
    before = pa.total_allocated_bytes()
    CaptionTable.open(tmp_path / "t.arrow").caption(3999)
    assert pa.total_allocated_bytes() - before < 10_000


def test_unpickling_notices_a_replaced_table(tmp_path):
    path = tmp_path / "t.arrow"
    pickled = pickle.dumps(write_caption_table(path, [make_columns({"train": 2})], "mine", sources=SOURCES))
    write_caption_table(path, [make_columns({"train": 3})], "mine", sources=SOURCES)
    with pytest.raises(ValueError, match="replaced by other content"):
        pickle.loads(pickled)


def test_writing_streams_and_leaves_no_half_file(tmp_path):
    path = tmp_path / "t.arrow"

    def chunks():
        yield make_columns({"train": 2})
        assert not path.exists()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_caption_table(path, chunks(), "mine", sources=SOURCES)
    assert os.listdir(tmp_path) == []


def test_killed_writer_leaves_no_table_and_can_be_repeated(tmp_path):
    path = tmp_path / "t.arrow"

    def chunks():
        yield {"image": ["a"], "caption": ["b"], "pid": [0], "image_id": [0]}
        os.kill(os.getpid(), signal.SIGKILL)

    writer = multiprocessing.get_context("fork").Process(target=write_caption_table, args=(path, chunks(), "mine"))
    writer.start()
    writer.join()
    assert writer.exitcode == -signal.SIGKILL
    assert not path.exists()
    write_caption_table(path, [make_columns({"train": 1})], "mine", sources=SOURCES)
    assert os.listdir(tmp_path) == ["t.arrow"]


def test_writing_needs_the_memory_of_a_chunk(tmp_path):
    peak = 0

    def chunks():
        nonlocal peak
        for start in range(0, 400_000, 4_000):
            yield {
                "image": [f"{i}.jpg" for i in range(start, start + 4_000)],
                "caption": ["x" * 100] * 4_000,
                "pid": np.arange(start, start + 4_000),
                "image_id": np.arange(start, start + 4_000),
            }
            peak = max(peak, pa.total_allocated_bytes())

    before = pa.total_allocated_bytes()
    table = write_caption_table(tmp_path / "t.arrow", chunks(), "mine")
    assert os.path.getsize(tmp_path / "t.arrow") > 50_000_000
    assert peak - before < 5_000_000
    assert len(table) == 400_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"split": ["test", "train"]}, "ordered by split"),
        ({"image_id": [0, 2]}, "row 1 has 2"),
        ({"image_id": [1, 2]}, "row 0 has 1"),
        ({"pid": [0, -1]}, "pid must lie"),
        ({"pid": [0, 10**9]}, "number it from 0"),
        ({"image_id": [0, 0]}, "continues image_id 0 with another path"),
        ({"split": ["train", "dev"]}, "'dev'; allowed"),
        ({"caption": ["x", None]}, "1 empty cells"),
    ],
)
def test_rows_out_of_order_are_refused(change, message):
    columns = {"image": ["a", "b"], "caption": ["x", "y"], "pid": [0, 1], "image_id": [0, 1], **change}
    with pytest.raises(ValueError, match=message):
        CaptionTable.from_columns(columns, "mine")


def test_wrong_files_and_names(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.arrow does not exist.*prepare_data.py"):
        CaptionTable.open(tmp_path / "nowhere.arrow")
    whole = write_caption_table(tmp_path / "t.arrow", [make_columns({"train": 50})], "mine", sources=SOURCES)
    (tmp_path / "half.arrow").write_bytes((tmp_path / "t.arrow").read_bytes()[:3000])
    with pytest.raises(ValueError, match=r"half.arrow is not a complete caption table"):
        CaptionTable.open(tmp_path / "half.arrow")
    with pa.OSFile(str(tmp_path / "other.arrow"), "wb") as sink:
        data = pa.table({"x": [1]})
        with pa.ipc.new_file(sink, data.schema) as writer:
            writer.write_table(data)
    with pytest.raises(ValueError, match=r"other.arrow is not a complete caption table"):
        CaptionTable.open(tmp_path / "other.arrow")
    with pytest.raises(ValueError, match="no split 'val'; it has train"):
        whole.split("val")
    with pytest.raises(ValueError, match=r"no caption source \['c'\]"):
        whole.filter_sources(["c"])
    with pytest.raises(ValueError, match="must ascend"):
        whole.select(np.array([3, 1]))
    with pytest.raises(IndexError, match="Row 100"):
        whole.caption(100)
