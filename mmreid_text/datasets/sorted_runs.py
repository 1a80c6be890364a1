"""Sorting more names and captions than memory should hold: runs sorted one by one, then read side by side."""

import glob
import heapq
from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from mmreid_text.datasets.arrow_files import facts_of, write_arrow
from mmreid_text.datasets.json_pairs import Pair, read_pairs

RUN_NAMES = 262_144
RUN_CAPTIONS = 65_536
"""Captions of a run; also what a killed reader of a caption file loses at most."""
_NAME = pa.schema([("name", pa.string())])
_CAPTION = pa.schema([("name", pa.string()), ("caption", pa.string())])


class SortedNames:
    """File names in ascending order, in chunks; below ``folder``, which a later call finds them in, or in memory.

    Args:
        names: The names, in any order.
        size: Names of a chunk.
        folder: Where the work files are kept; None keeps the names in memory.
        run: Names that are sorted at a time, in memory; None takes ``RUN_NAMES``.
    """

    def __init__(self, names: Iterator[str], size: int, folder: Path | None, run: int | None = None) -> None:
        self._chunks: list[pa.StringArray] = []
        self._path = None if folder is None else folder / "names.arrow"
        if self._path is None:
            ordered = sorted(names)
            self._chunks = [pa.array(ordered[i : i + size], pa.string()) for i in range(0, len(ordered), size)]
            self.count = len(ordered)
            return
        if not self._path.exists():
            self._write(names, size, self._path, run or RUN_NAMES)
        with pa.OSFile(str(self._path)) as source, pa.ipc.open_file(source) as reader:
            self.count = sum(reader.get_batch(i).num_rows for i in range(reader.num_record_batches))

    def __iter__(self) -> Iterator[pa.StringArray]:
        if self._path is None:
            yield from self._chunks
            return
        with pa.OSFile(str(self._path)) as source, pa.ipc.open_file(source) as reader:
            for i in range(reader.num_record_batches):
                yield reader.get_batch(i).column("name")

    def _write(self, names: Iterator[str], size: int, path: Path, run: int) -> None:
        runs: list[Path] = []
        while block := sorted(islice(names, run)):
            runs.append(path.with_name(f"names-{len(runs):05d}.arrow"))
            write_arrow(runs[-1], _NAME, [pa.record_batch([block], _NAME)])
        merged = heapq.merge(*map(_names_of, runs))
        chunks = iter(lambda: list(islice(merged, size)), [])
        write_arrow(path, _NAME, (pa.record_batch([chunk], _NAME) for chunk in chunks))
        for leftover in runs:
            leftover.unlink()


def read_named_pairs(path: Path, offset: int = 0) -> Iterator[Pair]:
    """Read ``{path or file name of the image: caption}``, JSON, with the file names as keys."""
    for key, text, end in read_pairs(path, offset):
        yield Pair(key.replace("\\", "/").rsplit("/", 1)[-1], text, end)


class CaptionRuns:
    """The captions of one file, as runs sorted by the images' names.

    Args:
        path: The caption file.
        folder: Where the runs are kept, so that a killed call is gone on with; None keeps them in memory.
        read: Reads the file from its start or from behind a pair, whose ``offset`` it is given.

    Raises:
        ValueError: The file is damaged or not of this form.
    """

    def __init__(
        self, path: Path, folder: Path | None, read: Callable[[Path, int], Iterator[Pair]] = read_named_pairs
    ) -> None:
        self.path = path
        self._folder = folder
        self._runs: list[pa.RecordBatch] = []
        self._kept: list[Path] = [] if folder is None else sorted(folder.glob(f"{glob.escape(path.stem)}-*.arrow"))
        offset, self.count, done = 0, 0, False
        if self._kept:
            with pa.OSFile(str(self._kept[-1])) as source, pa.ipc.open_file(source) as reader:
                state = facts_of(reader.schema)
            offset, self.count, done = state["offset"], state["count"], state["done"]
        if not done:
            self._read(read(path, offset), offset)

    def between(self, first: str | None, last: str | None) -> pa.Table:
        """Rows (``name``, ``caption``) with first <= name < last, those of one name in the order of the file."""
        parts = [_between(run, first, last) for run in self._runs]
        for path in self._kept:  # mapped anew for each call: what stays mapped counts as this process's memory
            with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
                parts.append(_between(reader.get_batch(0), first, last))
        return pa.Table.from_batches(parts, _CAPTION).combine_chunks()

    def _read(self, pairs: Iterator[Pair], offset: int) -> None:
        size, done = self.path.stat().st_size, False
        with tqdm(total=size, initial=offset, unit="B", unit_scale=True, desc=self.path.name, delay=2) as bar:
            while not done:
                block = list(islice(pairs, RUN_CAPTIONS))
                done = len(block) < RUN_CAPTIONS
                bar.update((block[-1].offset if block else size) - offset)
                offset = block[-1].offset if block else size
                self.count += len(block)
                try:
                    run = pa.record_batch([[pair.key for pair in block], [pair.text for pair in block]], _CAPTION)
                except UnicodeEncodeError as error:
                    raise ValueError(f"{self.path}: a name or caption is no Unicode text ({error}).") from error
                self._add(run.take(pc.sort_indices(run.column("name"))), offset, done)

    def _add(self, run: pa.RecordBatch, offset: int, done: bool) -> None:
        if self._folder is None:
            self._runs.append(run)
            return
        state = {"offset": offset, "count": self.count, "done": done}
        self._kept.append(self._folder / f"{self.path.stem}-{len(self._kept):05d}.arrow")
        write_arrow(self._kept[-1], _CAPTION, [run], state)


def _names_of(path: Path) -> Iterator[str]:
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
        names = reader.get_batch(0).column("name")
    return (name.as_py() for name in names)


def _between(run: pa.RecordBatch, first: str | None, last: str | None) -> pa.RecordBatch:
    names = run.column("name")

    def position(border: str) -> int:
        return bisect_left(range(len(names)), border, key=lambda i: names[i].as_py())

    start = 0 if first is None else position(first)
    return run.slice(start, (len(names) if last is None else position(last)) - start)
