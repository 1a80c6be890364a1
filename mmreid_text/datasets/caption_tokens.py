"""Token ids of a caption table's rows: computed once, and memory-mapped from beside the table."""

import json
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from mmreid_text.datasets.arrow_files import META, facts_of
from mmreid_text.datasets.caption_table import CaptionTable
from mmreid_text.datasets.transforms.tokenizer import get_tokenizer
from mmreid_text.datasets.worker_pool import map_ahead, worker_pool
from mmreid_text.file_lock import alone

SUFFIX = ".tokens"
CHUNK_ROWS = 16_384
"""Rows of a record batch, all of which but the last are full; also what a killed writer loses at most, per process."""
Chunk = tuple[np.ndarray, np.ndarray]
"""Tokens uint16 (T,) and where each row's end, int32 (rows + 1,), as ``ClipTokenizer.uncut`` returns them."""
_TWO_ENDS = struct.Struct("<ii").unpack_from
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"


class CaptionTokens:
    """The ids between SOT and EOT of every row of a caption table, uint16 and uncut.

    The file is an Arrow IPC stream of one column ``ids`` (lists of uint16), named after the table with ``.tokens``
    behind it. It is mapped, so all workers and ranks of a host share one copy; a row is read as a slice.
    It is stamped with the fingerprints of the table's content and of the tokenizer, and valid for these alone.

    Raises:
        ValueError: The file is damaged, or made for another table or tokenizer.
    """

    def __init__(self, path: str | os.PathLike[str], stamp: dict[str, Any]) -> None:
        self.path, self.stamp = os.fspath(path), stamp
        try:
            content = pa.memory_map(self.path).read_buffer()
            reader = pa.ipc.open_stream(content)
            found = facts_of(reader.schema)
            columns = [batch.column("ids") for batch in reader] if found == stamp else []
        except FileNotFoundError:
            raise
        except (OSError, KeyError, ValueError) as error:  # pyarrow's own errors are among these
            raise ValueError(f"it is damaged ({type(error).__name__}: {error})") from error
        if found != stamp:
            other = ", ".join(key for key in stamp if found.get(key) != stamp[key])
            raise ValueError(f"it was made for another {other}")
        if sum(map(len, columns)) != stamp["rows"]:
            raise ValueError(f"it is damaged: it holds {sum(map(len, columns)):,} of {stamp['rows']:,} rows")
        self._chunk_rows = len(columns[0]) if columns else 1
        # As in CaptionCells, numbers and not arrays for each chunk, so that they stay in the caches.
        self._words = np.frombuffer(content, dtype="<u2", count=content.size // 2)
        self._ids_at = [(column.values.buffers()[1].address - content.address) // 2 for column in columns]
        self._ends_at = [column.buffers()[1].address - content.address for column in columns]
        self._content = memoryview(content)

    def __len__(self) -> int:
        return self.stamp["rows"]

    def __getitem__(self, row: int) -> np.ndarray:
        """uint16 (n,), read-only: the tokens of a row of the whole table, from 0, without SOT and EOT."""
        chunk, i = divmod(row, self._chunk_rows)
        start, stop = _TWO_ENDS(self._content, self._ends_at[chunk] + 4 * i)
        first = self._ids_at[chunk]
        return self._words[first + start : first + stop]

    def __reduce__(self) -> tuple[Any, ...]:
        return CaptionTokens, (self.path, self.stamp)


def tokens_path(table: CaptionTable) -> Path | None:
    """Where the tokens of a mapped table are; None for a table in memory."""
    return None if table.path is None else Path(table.path + SUFFIX)


def open_caption_tokens(table: CaptionTable) -> CaptionTokens | None:
    """The tokens beside a table, None where there are none.

    Raises:
        ValueError: There are, but damaged or made for another table or tokenizer.
    """
    path = tokens_path(table)
    return CaptionTokens(path, _stamp(table)) if path is not None and path.exists() else None


def write_caption_tokens(table: CaptionTable, jobs: int = 1) -> CaptionTokens:
    """Tokenize all rows of a mapped table, in ``jobs`` processes, into the file beside it.

    The rows done are kept in ``<table>.tokens.part``; a killed writer goes on from there, and renames it when whole.
    Memory stays at two chunks of rows per process.

    Raises:
        ChildProcessError: One of the processes was killed.
        ValueError: The table is in memory, or another process writes its tokens.
    """
    if table.path is None:
        raise ValueError(f"Caption table {table.name} is in memory: write it to a file first.")
    with worker_pool(jobs, "tokenizing captions", _start_worker, (table.path,)) as pool:
        return write_chunks(table, lambda starts: map_ahead(pool, _tokenize_chunk, starts, 2 * max(1, jobs)))


def write_chunks(table: CaptionTable, tokenize: Callable[[range], Iterator[Chunk]]) -> CaptionTokens:
    """Write the file of a mapped table from ``tokenize(starts)``: the tokens of ``CHUNK_ROWS`` rows from each start.

    Raises:
        ValueError: Another process writes it.
    """
    path = Path(f"{table.path}{SUFFIX}")
    refusal = f"Another process is writing {path}: wait for it, or end it and run the same command again"
    with alone(path.with_name(f"{path.name}.lock"), refusal):
        return _write_chunks(table, tokenize, path)


def _write_chunks(table: CaptionTable, tokenize: Callable[[range], Iterator[Chunk]], path: Path) -> CaptionTokens:
    rows, stamp, part = table.num_whole_rows, _stamp(table), path.with_name(f"{path.name}.part")
    schema = pa.schema([pa.field("ids", pa.list_(pa.uint16()))], {META: json.dumps(stamp)})
    done = _continue(part, schema)
    with (
        open(part, "ab", buffering=0) as file,
        tqdm(total=rows, initial=done, unit=" captions", unit_scale=True, desc=str(path)) as bar,
    ):
        for tokens, ends in tokenize(range(done, rows, CHUNK_ROWS)):
            batch = pa.RecordBatch.from_arrays([pa.ListArray.from_arrays(ends, tokens)], schema=schema)
            file.write(batch.serialize())
            bar.update(batch.num_rows)
        file.write(_END_OF_STREAM)
        os.fsync(file.fileno())
    os.replace(part, path)
    return CaptionTokens(path, stamp)


def _stamp(table: CaptionTable) -> dict[str, Any]:
    fingerprint = table.info["fingerprint"]
    return {"table": fingerprint, "tokenizer": get_tokenizer().fingerprint, "rows": table.num_whole_rows}


def _continue(part: Path, schema: pa.Schema) -> int:
    """Cut an unfinished file behind its last whole chunk, or begin one. Returns the rows that it holds."""
    rows = end = 0
    with suppress(OSError, ValueError), pa.OSFile(str(part)) as source:
        reader = pa.ipc.open_stream(source)
        if reader.schema.equals(schema, check_metadata=True):
            end = source.tell()
            for batch in reader:
                if batch.num_rows != CHUNK_ROWS:
                    break
                rows, end = rows + batch.num_rows, source.tell()
    with open(part, "ab") as file:
        file.truncate(end)
        if not end:
            file.write(schema.serialize())
    return rows


_table: CaptionTable
"""The table that a process of the pool tokenizes."""


def _start_worker(path: str) -> None:
    global _table
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # the processes share the cores already
    _table = CaptionTable.open(path)


def _tokenize_chunk(start: int) -> Chunk:
    return get_tokenizer().uncut(_captions(start))


def _captions(start: int) -> Iterator[str]:
    for row in range(start, min(start + CHUNK_ROWS, len(_table))):
        yield _table.caption(row)
