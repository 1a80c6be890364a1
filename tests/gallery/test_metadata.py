"""Metadata from tables of every format and from names."""

import pyarrow as pa
import pyarrow.parquet
import pytest

from mmreid_text.gallery.metadata import Metadata, MetadataSettings, kinds

PATHS = pa.chunked_array([["night/002_c1.jpg", "001_c2.jpg"], ["x.jpg"]])
WANTED = {"camera": ["c1", None, "c3"], "time": [5, None, 7], "ok": [True, None, False]}


def write_tables(folder):
    table = pa.table(
        {
            "time": [7, 5, 9],
            "path": ["x.jpg", "night/002_c1.jpg", "gone.jpg"],
            "camera": ["c3", "c1", "c9"],
            "ok": [False, True, True],
        }
    )
    pa.parquet.write_table(table, folder / "meta.parquet")
    pa.csv.write_csv(table, folder / "meta.csv")
    lines = ['{"path": "x.jpg", "camera": "c3", "time": 7, "ok": false}']
    lines += ['{"path": "night/002_c1.jpg", "camera": "c1", "time": 5, "ok": true}', '{"path": "gone.jpg"}']
    (folder / "meta.jsonl").write_text("\n".join(lines) + "\n")


def test_tables_are_joined_on_the_path(tmp_path):
    write_tables(tmp_path)
    for name in ("meta.csv", "meta.parquet", "meta.jsonl"):
        metadata = Metadata(MetadataSettings(table=str(tmp_path / name)))
        columns = metadata.of(PATHS)
        assert {key: columns.to_pydict()[key] for key in WANTED} == WANTED
        assert kinds(columns.schema) == {"camera": "text", "time": "number", "ok": "boolean"}
        assert metadata.unknown_images(PATHS) == 1


def test_names_tell_metadata():
    columns = Metadata(MetadataSettings(pattern=r"(?P<person>\d+)_c(?P<camera>\d)|(?P<word>[a-z]+)\.")).of(PATHS)
    assert columns.to_pydict() == {
        "person": [2, 1, None],
        "camera": [1, 2, None],
        "word": [None, None, "x"],
    }


def test_a_table_and_names_together(tmp_path):
    write_tables(tmp_path)
    both = MetadataSettings(str(tmp_path / "meta.csv"), r"(?P<person>\d+)_")
    assert set(Metadata(both).of(PATHS).column_names) == {"camera", "time", "ok", "person"}
    with pytest.raises(ValueError, match="Both the table and the pattern give the column 'camera'"):
        Metadata(MetadataSettings(str(tmp_path / "meta.csv"), r"c(?P<camera>\d)"))


def test_not_a_number_is_not_known(tmp_path):
    (tmp_path / "meta.csv").write_text("path,score1\nx.jpg,nan\n001_c2.jpg,1.5\n")
    columns = Metadata(MetadataSettings(str(tmp_path / "meta.csv"))).of(PATHS)
    assert columns.to_pydict() == {"score1": [None, 1.5, None]}


def test_an_empty_text_is_not_known(tmp_path):
    (tmp_path / "meta.csv").write_text("path,camera\nx.jpg,\n001_c2.jpg,c2\n")
    columns = Metadata(MetadataSettings(str(tmp_path / "meta.csv"))).of(PATHS)
    assert columns.to_pydict() == {"camera": [None, "c2", None]}


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("m.csv", "name,camera\nx,1\n", "no column 'path'"),
        ("m.csv", "path,camera id\nx,1\n", "'camera id' cannot be a column's name"),
        ("m.csv", "path,class\nx,1\n", "'class' cannot be"),
        ("m.csv", "path,score\nx,1\n", "'score' cannot be"),
        ("m.csv", "path,size\nx,1\n", "'size' cannot be"),  # the index has such a column
        ("m.csv", "path,a\nx,1\nx,2\n", "has 'x' twice"),
        ("m.csv", "path,a\nx,1,2\n", "cannot be read as csv"),
        ("m.parquet", "nonsense", "cannot be read as parquet"),
        ("m.jsonl", '{"path": "x", "a": [1]}', "column 'a' holds list"),
        ("m.txt", "x", "the ending must be one of"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(tmp_path, name, content, why):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=why):
        Metadata(MetadataSettings(str(tmp_path / name)))


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("(?P<a>", "no regular expression"),
        ("abc", "names no group"),
        ("(?P<is>a)", "cannot be"),
        ("(?P<a>x)(?=y)", "no"),
    ],
)
def test_what_is_wrong_with_a_pattern_is_named(pattern, why):
    with pytest.raises(ValueError, match=why):
        Metadata(MetadataSettings(pattern=pattern))


def test_a_missing_table_is_named():
    with pytest.raises(FileNotFoundError, match="metadata nowhere"):
        Metadata(MetadataSettings("nowhere.csv"))
