"""What is known of images beside their pixels: from a table, or from their names."""

import keyword
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from mmreid_text.gallery.filters import Kind
from mmreid_text.gallery.index_folder import ROWS

PATH = "path"
RESERVED = (*ROWS.names, "score", "true", "false")
"""Names of the index's own columns and of what conditions and hits have beside the metadata."""


@dataclass(frozen=True)
class MetadataSettings:
    """Where metadata comes from.

    Attributes:
        table: CSV, Parquet or JSON-lines file with a column ``path``, relative to the gallery's folder; every other
            column is metadata. '' for none.
        pattern: Regular expression (RE2) whose named groups, matched anywhere in a path, are metadata. '' for none.
    """

    table: str = ""
    pattern: str = ""

    def to_dict(self) -> dict[str, str]:
        return asdict(self)


class Metadata:
    """Columns of metadata for any images.

    Args:
        settings: See there.

    Raises:
        FileNotFoundError: There is no such table.
        ValueError: It cannot be read, has no column ``path`` or one path twice, or a column's name or type is of no
            use; or the pattern is no regular expression or names no group.
    """

    def __init__(self, settings: MetadataSettings) -> None:
        self.pattern = settings.pattern
        self.table = _read_table(Path(settings.table)) if settings.table else None
        if settings.pattern:
            groups = _groups(settings.pattern)
            twice = set(groups) & set(self.table.column_names if self.table is not None else ())
            if twice:
                raise ValueError(f"Both the table and the pattern give the column {sorted(twice)[0]!r}: rename one.")

    def of(self, paths: pa.ChunkedArray) -> pa.Table:
        """Columns of the images ``paths``, in their order, null where nothing is known."""
        columns: dict[str, pa.ChunkedArray] = {}
        if self.table is not None:
            rows = pc.index_in(paths, value_set=self.table.column(PATH))
            found = self.table.drop_columns([PATH]).take(rows)
            columns |= dict(zip(found.column_names, found.columns))
        if self.pattern:
            matches = pc.extract_regex(paths, self.pattern)
            for i, name in enumerate(_groups(self.pattern)):
                columns[name] = _number_if_all(pc.struct_field(matches, [i]))
        return pa.table(columns) if columns else pa.table({"_": pa.nulls(len(paths))}).select([])

    def unknown_images(self, paths: pa.ChunkedArray) -> int:
        """Rows of the table that name none of the images."""
        if self.table is None:
            return 0
        return len(self.table) - int(pc.sum(pc.is_in(self.table.column(PATH), value_set=paths)).as_py() or 0)


def kinds(schema: pa.Schema) -> dict[str, Kind]:
    """Kinds of the metadata columns of a schema, by name; the path is one of them."""
    return {field.name: _kind(field.type) for field in schema}


def _kind(type_: pa.DataType) -> Kind:
    if pa.types.is_boolean(type_):
        return "boolean"
    return "number" if pa.types.is_integer(type_) or pa.types.is_floating(type_) else "text"


def _read_table(path: Path) -> pa.Table:
    if not path.is_file():
        raise FileNotFoundError(f"metadata {path} does not exist")
    readers: dict[str, Any] = {
        ".csv": pyarrow.csv.read_csv,
        ".parquet": pyarrow.parquet.read_table,
        ".jsonl": pyarrow.json.read_json,
        ".ndjson": pyarrow.json.read_json,
    }
    if path.suffix.lower() not in readers:
        raise ValueError(f"metadata {path}: the ending must be one of {', '.join(readers)}")
    try:
        table = readers[path.suffix.lower()](path)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise ValueError(f"metadata {path} cannot be read as {path.suffix[1:]} ({error})") from error
    if PATH not in table.column_names:
        raise ValueError(
            f"metadata {path} has no column 'path', relative to the gallery's folder; it has "
            f"{', '.join(table.column_names)}"
        )
    columns = {}
    for name, column in zip(table.column_names, table.columns):
        if name != PATH:
            _check_name(name, f"metadata {path}")
        columns[name] = _plain(name, column, path)
    table = pa.table(columns)
    counts = pc.value_counts(table.column(PATH))
    twice = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(twice):
        raise ValueError(f"metadata {path} has {twice[0]['values'].as_py()!r} twice: keep one row per image")
    return table


def _plain(name: str, column: pa.ChunkedArray, path: Path) -> pa.ChunkedArray:
    """The column as text, int64, float64 or bool; NaN and empty texts become null."""
    kind = column.type
    if name == PATH:
        return column.cast(pa.string())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_dictionary(kind):
        return _without_empty(column.cast(pa.string()))
    if pa.types.is_boolean(kind):
        return column
    if pa.types.is_integer(kind):
        return column.cast(pa.int64())
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        column = column.cast(pa.float64())
        return pc.if_else(pc.is_finite(column), column, pa.scalar(None, pa.float64()))
    if pa.types.is_temporal(kind):  # such texts sort as the times do
        return column.cast(pa.string())
    if pa.types.is_null(kind):
        return column.cast(pa.string())
    raise ValueError(f"metadata {path}: column {name!r} holds {kind}; give texts, numbers, times or true and false")


def _groups(pattern: str) -> list[str]:
    try:
        groups = list(re.compile(pattern).groupindex)
        pc.extract_regex(pa.array([""]), pattern)
    except (re.error, pa.ArrowInvalid) as error:
        raise ValueError(f"pattern {pattern!r} is no regular expression ({error})") from error
    if not groups:
        raise ValueError(f"pattern {pattern!r} names no group; as in '(?P<camera>c[0-9]+)_'")
    for name in groups:
        _check_name(name, f"pattern {pattern!r}")
    return groups


def _check_name(name: str, where: str) -> None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or keyword.iskeyword(name) or name in RESERVED:
        raise ValueError(
            f"{where}: {name!r} cannot be a column's name: take letters, digits and '_', and none of "
            f"{', '.join(RESERVED)} and Python's words"
        )


def _number_if_all(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Matches as int64 if all that are there are numbers; what did not match, or is empty, is null."""
    column = _without_empty(column)
    try:
        return column.cast(pa.int64()) if column.null_count < len(column) else column
    except pa.ArrowInvalid:
        return column


def _without_empty(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
