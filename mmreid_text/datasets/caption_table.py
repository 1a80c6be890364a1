"""Memory-mapped Arrow table of (image, caption, ids): millions of rows that workers and ranks share."""

import hashlib
import json
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmreid_text.datasets.arrow_files import META, facts_of
from mmreid_text.datasets.caption_cells import CaptionCells
from mmreid_text.datasets.caption_rows import COLUMNS, Columns, Content, record_batches, schema_of
from mmreid_text.datasets.shared_array import SharedArray

BATCH_ROWS = 65_536


class CaptionTable:
    """Rows of (image, caption) pairs, one per caption, without a Python object per row.

    Columns: ``image`` (path relative to the image root), ``caption``, ``pid`` int64 (identity), ``image_id`` int64,
    ``source`` (which captioner; '' where there is one only) and ``split``. Rows are ordered by split (train, val,
    test) and then image; an image's captions are contiguous and ``image_id`` counts images from 0 within a split.

    A table is a view: :meth:`split`, :meth:`select` and :meth:`filter_sources` copy no text. A mapped table pickles as
    its path and shares its rows, so every worker reads the same page cache and memory under fork and spawn alike.

    >>> table = CaptionTable.from_columns(
    ...     dict(image=["a.jpg", "a.jpg"], caption=["A man.", "He walks."], pid=[0, 0], image_id=[0, 0]), name="mine")
    >>> len(table), table.caption(1)
    (2, 'He walks.')
    """

    def __init__(self, cells: CaptionCells, info: dict[str, Any], path: str | None, rows: range | SharedArray) -> None:
        self.info = info
        self.path = path
        self._cells = cells
        self._rows = rows
        self._views: dict[str, np.ndarray] = {}

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "CaptionTable":
        """Map the table at ``path``; nothing is read but its footer.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: The file is no caption table, or an incomplete one.
        """
        path = os.path.abspath(path)
        check_table(path)
        try:
            content = pa.memory_map(path).read_buffer()
            info = facts_of(pa.ipc.open_file(content).schema)
            cells = CaptionCells(content)
        except (pa.ArrowInvalid, KeyError, ValueError) as error:
            raise ValueError(
                f"{path} is not a complete caption table ({type(error).__name__}: {error}). "
                "Remove it and write it again with `python tools/prepare_data.py` (docs/data.md)."
            ) from error
        return cls(cells, info, path, range(cells.data.num_rows))

    @classmethod
    def from_chunks(
        cls,
        chunks: Iterable[Columns],
        name: str,
        image_root: str = "",
        sources: Sequence[str] = ("",),
        extra: Mapping[str, Any] | None = None,
    ) -> "CaptionTable":
        """Build a table in memory; the arguments are those of :func:`write_caption_table`."""
        schema = schema_of(sources)
        content = Content(name, image_root)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, schema) as writer:
            for batch in _rebatched(content.follow(record_batches(chunks, schema))):
                writer.write_batch(batch)
        cells = CaptionCells(sink.getvalue())
        return cls(cells, content.info(extra), None, range(cells.data.num_rows))

    @classmethod
    def from_columns(cls, columns: Columns, name: str, image_root: str = "") -> "CaptionTable":
        """Build a table in memory from whole columns (lists or arrays; ``source`` '' and ``split`` 'train' if absent).

        Raises:
            ValueError: The columns break the order or the value ranges that the class states.
        """
        sources = columns.get("source", "")
        known = [sources] if isinstance(sources, str) else sorted(set(sources))
        return cls.from_chunks([columns], name, image_root, known)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"CaptionTable({self.name!r}, {len(self):,} captions, path={self.path!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.path is None:
            return _unpickle, (self._cells.content, self.info, self._rows)
        return _reopen, (self.path, self.info["fingerprint"], self._rows)

    @property
    def name(self) -> str:
        return self.info["name"]

    @property
    def image_root(self) -> str:
        return self.info["image_root"]

    @property
    def fingerprint(self) -> str:
        """sha256 over the content of the columns; of a view: over the whole table's fingerprint and the view's rows."""
        whole = self.info["fingerprint"]
        if isinstance(self._rows, range):
            if len(self) == self._cells.data.num_rows:
                return whole
            rows = f"{self._rows.start}:{self._rows.stop}".encode()
        else:
            rows = np.ascontiguousarray(self._rows.values, dtype="<i8").tobytes()
        return hashlib.sha256(whole.encode() + rows).hexdigest()

    @property
    def splits(self) -> list[str]:
        """Names of the splits that the view has rows of."""
        return [
            name for name, (start, stop) in self.info["splits"].items() if self._first_at(stop) > self._first_at(start)
        ]

    @property
    def sources(self) -> list[str]:
        """Every caption source that the whole table knows."""
        return self._cells.data.schema.field("source").metadata[b"values"].decode().split("\n")

    def split(self, name: str) -> "CaptionTable":
        """View of one split.

        Raises:
            ValueError: The table has no rows of that split.
        """
        if name not in self.splits:
            raise ValueError(f"{self._title()} has no split {name!r}; it has {', '.join(self.splits) or 'no rows'}.")
        start, stop = self.info["splits"][name]
        if isinstance(self._rows, range):
            first = max(start, self._rows.start)
            return self._view(range(first, max(first, min(stop, self._rows.stop))))
        return self._view(SharedArray(self._rows.values[self._first_at(start) : self._first_at(stop)]))

    def select(self, rows: np.ndarray) -> "CaptionTable":
        """View of ``rows``, int64 (n,), strictly ascending positions in this view.

        Raises:
            ValueError: The rows do not ascend (an image's captions would part) or lie outside.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and (rows[0] < 0 or rows[-1] >= len(self) or (np.diff(rows) <= 0).any()):
            raise ValueError(f"Rows of {self._title()} must ascend within 0..{len(self) - 1}, without repeats.")
        rows = rows + self._rows.start if isinstance(self._rows, range) else self._rows.values[rows]
        if rows.size and rows[-1] - rows[0] + 1 == rows.size:
            return self._view(range(int(rows[0]), int(rows[-1]) + 1))
        return self._view(SharedArray(rows))

    def filter_sources(self, sources: Sequence[str]) -> "CaptionTable":
        """View of the captions that came from ``sources``.

        Raises:
            ValueError: The table knows no such source.
        """
        known = self.sources
        unknown = [source for source in sources if source not in known]
        if unknown or not sources:
            raise ValueError(f"{self._title()} has no caption source {unknown or '[]'}; it has {known}.")
        codes = _joined(self._parts([chunk.indices.to_numpy() for chunk in self._cells.data.column("source").chunks]))
        return self.select(np.flatnonzero(np.isin(codes, [known.index(source) for source in sources])))

    @property
    def num_whole_rows(self) -> int:
        """Rows of the whole table that this is a view of."""
        return self._cells.data.num_rows

    def position(self, row: int) -> int:
        """Row of the whole table that row ``row`` of this view is."""
        if not 0 <= row < len(self):
            raise IndexError(f"Row {row} lies outside {self._title()} of {len(self)} rows.")
        return self._rows[row] if isinstance(self._rows, range) else int(self._rows.values[row])

    def image(self, row: int) -> str:
        """Path of the row's image relative to the image root."""
        return self._cells.text("image", self.position(row))

    def caption(self, row: int) -> str:
        return self._cells.text("caption", self.position(row))

    def ids(self, row: int) -> tuple[int, int]:
        """``pid`` and ``image_id`` of one row."""
        position = self.position(row)
        return self._cells.number("pid", position), self._cells.number("image_id", position)

    @property
    def pid(self) -> np.ndarray:
        """int64 (n,): zero-copy within one record batch, else gathered once on first use."""
        return self._column("pid")

    @property
    def image_id(self) -> np.ndarray:
        """int64 (n,): zero-copy within one record batch, else gathered once on first use."""
        return self._column("image_id")

    def parts(self, key: str) -> Iterator[np.ndarray]:
        """Column 'pid' or 'image_id' in pieces int64, in order: zero-copy unless the view skips rows."""
        return self._parts([chunk.to_numpy() for chunk in self._cells.data.column(key).chunks])

    def first_rows(self) -> np.ndarray:
        """int64 (images + 1,): the row at which every image's captions start, and the end."""
        image = self.image_id
        if not len(image):
            return np.zeros(1, dtype=np.int64)
        # An image of another split may carry the same number, so a split's border is a start, too.
        borders = np.diff(image) != 0
        for start, _ in self.info["splits"].values():
            border = self._first_at(start)
            if 0 < border < len(self):
                borders[border - 1] = True
        return np.concatenate([[0], np.flatnonzero(borders) + 1, [len(image)]]).astype(np.int64)

    def images(self) -> Iterator[str]:
        """Every image of the view once, in order."""
        for row in self.first_rows()[:-1]:
            yield self.image(int(row))

    def columns(self) -> Iterator[dict[str, Any]]:
        """The view's rows as chunks that :func:`write_caption_table` takes."""
        for start in range(0, len(self), BATCH_ROWS):
            if isinstance(self._rows, range):
                part = self._cells.data.slice(self._rows.start + start, min(BATCH_ROWS, len(self) - start))
            else:
                part = self._cells.data.take(pa.array(self._rows.values[start : start + BATCH_ROWS]))
            yield {key: part.column(key) for key in COLUMNS}

    def _title(self) -> str:
        return f"Caption table {self.path or self.name}"

    def _first_at(self, position: int) -> int:
        """The first row of this view that is at ``position`` of the whole table or behind it."""
        return bisect_left(self._rows if isinstance(self._rows, range) else self._rows.values, position)

    def _view(self, rows: range | SharedArray) -> "CaptionTable":
        return CaptionTable(self._cells, self.info, self.path, rows)

    def _column(self, key: str) -> np.ndarray:
        if key not in self._views:
            view = _joined(self.parts(key))
            view.flags.writeable = False
            self._views[key] = view
        return self._views[key]

    def _parts(self, chunks: list[np.ndarray]) -> Iterator[np.ndarray]:
        for start, chunk in zip(self._cells.starts, chunks):
            if isinstance(self._rows, range):
                part = chunk[max(self._rows.start - start, 0) : max(self._rows.stop - start, 0)]
            else:
                part = chunk[self._rows.values[self._first_at(start) : self._first_at(start + len(chunk))] - start]
            if len(part):
                yield part


def check_table(path: str | os.PathLike[str]) -> None:
    """Raise FileNotFoundError if there is no table at ``path``."""
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"Caption table {path} does not exist. Write it with `python tools/prepare_data.py` (docs/data.md)."
        )


def write_caption_table(
    path: str | os.PathLike[str],
    chunks: Iterable[Columns],
    name: str,
    image_root: str = "",
    sources: Sequence[str] = ("",),
    extra: Mapping[str, Any] | None = None,
) -> CaptionTable:
    """Stream rows into an uncompressed Arrow IPC file and map it; ``path`` appears whole or not at all.

    Memory stays at one chunk and one record batch, whatever the number of rows.

    Args:
        path: The file to write. Work files with its name and ``.body``, ``.tmp`` lie beside it meanwhile.
        chunks: Column mappings of any lengths, in table order (see :class:`CaptionTable`). ``source`` and ``split``
            may be one string for a whole chunk; they default to '' and 'train'.
        name: Name of the dataset, such as ``cuhk_pedes``.
        image_root: Folder that the image paths are relative to, kept as given.
        sources: All caption sources that may occur.
        extra: Further facts for the table's ``info``, in JSON types; read after the last chunk.

    Raises:
        ValueError: A chunk breaks the order or the value ranges that :class:`CaptionTable` states.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    body, final = path.with_name(path.name + ".body"), path.with_name(path.name + ".tmp")
    schema = schema_of(sources)
    content = Content(name, image_root)
    try:
        with pa.OSFile(str(body), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in content.follow(record_batches(chunks, schema)):
                writer.write_batch(batch)
        # The schema stands first in the file, but counts and fingerprint are known last: hence the second pass.
        full = schema.with_metadata({META: json.dumps(content.info(extra), ensure_ascii=False)})
        with pa.OSFile(str(body)) as source, pa.OSFile(str(final), "wb") as sink:
            reader = pa.ipc.open_file(source)
            with pa.ipc.new_file(sink, full) as writer:
                for batch in _rebatched(reader.get_batch(i) for i in range(reader.num_record_batches)):
                    writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=full))
        with open(final, "rb") as file:
            os.fsync(file.fileno())
        os.replace(final, path)
    finally:
        for leftover in (body, final):
            with suppress(FileNotFoundError):
                leftover.unlink()
    return CaptionTable.open(path)


def _rebatched(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of ``BATCH_ROWS``."""
    held: list[pa.RecordBatch] = []
    room = BATCH_ROWS
    for batch in batches:
        while batch.num_rows:
            held.append(batch.slice(0, room))
            room -= held[-1].num_rows
            batch = batch.slice(held[-1].num_rows)
            if not room:
                yield from pa.Table.from_batches(held).combine_chunks().to_batches()
                held, room = [], BATCH_ROWS
    if held:
        yield from pa.Table.from_batches(held).combine_chunks().to_batches()


def _reopen(path: str, fingerprint: str, rows: range | SharedArray) -> CaptionTable:
    table = CaptionTable.open(path)
    if table.info["fingerprint"] != fingerprint:
        raise ValueError(f"Caption table {path} was replaced by other content while a process was using it.")
    return CaptionTable(table._cells, table.info, path, rows)


def _unpickle(content: pa.Buffer, info: dict[str, Any], rows: range | SharedArray) -> CaptionTable:
    return CaptionTable(CaptionCells(content), info, None, rows)


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    parts = list(parts)
    return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.zeros(0, dtype=np.int64)])
