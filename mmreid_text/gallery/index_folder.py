"""Folder of an index: a manifest that is renamed last, the table of its images, and the journal of a run at work.

``gallery.json`` states the generation that counts. Every file of a generation is written once, before the manifest, and
removed after a later manifest stands, so whenever a process is killed the folder opens as it was before or after.
"""

import json
import os
import re
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmreid_text.atomic_write import remove_leftovers, write_text
from mmreid_text.datasets.arrow_files import write_arrow
from mmreid_text.gallery.image_files import FILES

MANIFEST = "gallery.json"
LOCK = "indexing.lock"
FORMAT = 1
STORES = ("exact", "int8", "ivf", "milvus")
ROWS = pa.schema([*FILES, ("digest", pa.string()), ("slot", pa.int64()), ("note", pa.string())])
"""``digest`` is of the file's content; ``slot`` the place of its vector, -1 for none, and ``note`` then says why not.
Columns of metadata follow."""
_GENERATION = re.compile(r"(?:rows|search)-([0-9]+)\.(?:arrow|faiss)")
_VECTORS = re.compile(r"vectors-([0-9]+)\.f32")


@dataclass(frozen=True)
class Manifest:
    """What an index is.

    Attributes:
        root: Absolute folder of the images.
        store: One of :data:`STORES`.
        fingerprint: Of the model that made the vectors.
        dim: Dimensions of a vector.
        model: Its ``config`` and ``checkpoint``, None where it was made without.
        metadata: ``table`` and ``pattern``, see :class:`~mmreid_text.gallery.metadata.MetadataSettings`.
        milvus: ``uri`` and ``collection``; empty for other stores.
        generation: Counts what was published; 0 is the empty index.
        vectors: Number of the file of vectors, which grows over generations.
        slots: Vectors in it, those that no image has any more included.
        images: Images that can be found.
        search: What the store notes of its search structure, as ``nprobe``.
        recall: Measured recall of an approximate store.
        format: Of the folder.
    """

    root: str
    store: str
    fingerprint: str
    dim: int
    model: dict[str, str | None] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    milvus: dict[str, str] = field(default_factory=dict)
    generation: int = 0
    vectors: int = 0
    slots: int = 0
    images: int = 0
    search: dict[str, Any] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)
    format: int = FORMAT

    def with_(self, **changes: Any) -> "Manifest":
        return replace(self, **changes)


class IndexFolder:
    """Paths, manifest, table and journal of one index.

    Args:
        path: The folder.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    @property
    def lock(self) -> Path:
        return self.path / LOCK

    @property
    def journal_path(self) -> Path:
        return self.path / "journal.jsonl"

    def rows_path(self, generation: int) -> Path:
        return self.path / f"rows-{generation}.arrow"

    def search_path(self, generation: int) -> Path:
        return self.path / f"search-{generation}.faiss"

    def vectors_path(self, number: int) -> Path:
        return self.path / f"vectors-{number}.f32"

    def exists(self) -> bool:
        return (self.path / MANIFEST).is_file()

    def manifest(self) -> Manifest:
        """The manifest that counts.

        Raises:
            FileNotFoundError: There is no index.
            ValueError: It is damaged, or of another version of this software.
        """
        path = self.path / MANIFEST
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise FileNotFoundError(
                f"{self.path} holds no index: make one with python tools/index.py FOLDER --out {self.path}"
            ) from None
        except (ValueError, OSError) as error:
            raise self.damaged(path, error) from error
        try:
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']}, this software reads {FORMAT}")
            manifest = Manifest(**{known.name: content[known.name] for known in fields(Manifest)})
            if manifest.store not in STORES or not _numbers(manifest):
                raise ValueError("its values make no sense")
        except (KeyError, TypeError, ValueError) as error:
            raise self.damaged(path, error) from error
        return manifest

    def damaged(self, path: Path, error: Exception) -> ValueError:
        return ValueError(
            f"The index file {path} is damaged or not one of ours ({type(error).__name__}: {error}). Delete "
            f"{self.path} and index again."
        )

    def write_manifest(self, manifest: Manifest) -> None:
        """Let a manifest count from now on."""
        self.path.mkdir(parents=True, exist_ok=True)
        _sync_folder(self.path)  # the files that it names stand even if the power fails
        write_text(self.path / MANIFEST, json.dumps(asdict(manifest), indent=1) + "\n")
        _sync_folder(self.path)

    def rows(self, manifest: Manifest) -> pa.Table:
        """The table of a generation, mapped into memory.

        Raises:
            ValueError: It is damaged.
        """
        if manifest.generation == 0:
            return ROWS.empty_table()
        path = self.rows_path(manifest.generation)
        try:
            with pa.memory_map(str(path)) as file, pa.ipc.open_file(file) as reader:
                rows = reader.read_all().replace_schema_metadata()
            if rows.schema.names[: len(ROWS)] != ROWS.names or rows.schema.types[: len(ROWS)] != ROWS.types:
                raise ValueError("its columns are others")
            slots = rows.column("slot").to_numpy()
            if len(slots) and not -1 <= slots.min() <= slots.max() < manifest.slots:
                raise ValueError("it names vectors that are not there")
        except FileNotFoundError:
            raise
        except (pa.ArrowInvalid, OSError, ValueError) as error:
            raise self.damaged(path, error) from error
        return rows

    def write_rows(self, rows: pa.Table, generation: int) -> None:
        write_arrow(self.rows_path(generation), rows.schema, rows.combine_chunks().to_batches())

    def remove_stale(self, manifest: Manifest) -> None:
        """Remove files of other generations, and what killed runs left of them."""
        for path in self.path.iterdir():
            generation, number = _GENERATION.fullmatch(path.name), _VECTORS.fullmatch(path.name)
            if (generation and int(generation[1]) != manifest.generation) or (
                number and int(number[1]) != manifest.vectors
            ):
                path.unlink(missing_ok=True)
        remove_leftovers(self.path, "*")

    def journal(self, manifest: Manifest, dim: int) -> "Journal":
        return Journal(self.journal_path, manifest, dim)


class Journal:
    """What the run at work has done since the manifest, on disk batch by batch, so that a killed one goes on.

    A line per batch: the rows, and the slots and checksum of the batch's vectors.

    Args:
        path: The file.
        manifest: That the run started from; the journal of another one is of no use.
        dim: Dimensions of a vector.
    """

    def __init__(self, path: Path, manifest: Manifest, dim: int) -> None:
        self.path, self.dim = path, dim
        self._header = {"generation": manifest.generation, "vectors": manifest.vectors, "slots": manifest.slots}
        self._file = -1

    def take_over(self, is_whole: Callable[[dict[str, Any]], bool]) -> list[pa.Table]:
        """Rows of the batches that a killed run left, up to the first one that is not whole; then go on behind them.

        Args:
            is_whole: Whether the vectors of a batch, ``start``, ``stop`` and ``crc``, are there.
        """
        tables, end = [], 0
        if self.path.exists():
            with self.path.open("rb") as file:
                if _parsed(file.readline()) == self._header:
                    end = file.tell()
                    while (batch := _parsed(file.readline())) is not None and is_whole(batch):
                        tables.append(pa.Table.from_pylist(batch["rows"], ROWS))
                        end = file.tell()
        if end:
            os.truncate(self.path, end)
        else:
            write_text(self.path, json.dumps(self._header) + "\n")
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        return tables

    def write(self, rows: list[dict[str, Any]], start: int, vectors: np.ndarray) -> None:
        """Note a batch whose vectors are on disk from slot ``start`` on."""
        batch = {"rows": rows, "start": start, "stop": start + len(vectors), "crc": checksum(vectors)}
        line = json.dumps(batch).encode() + b"\n"
        while line:  # a full disk may take a part
            line = line[os.write(self._file, line) :]

    def end(self) -> None:
        """Remove the file: what it noted is published."""
        self.close()
        self.path.unlink(missing_ok=True)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._file = -1


def checksum(vectors: np.ndarray) -> int:
    """CRC-32 of float32 vectors."""
    return zlib.crc32(np.ascontiguousarray(vectors, np.float32).tobytes())


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line of the journal; None for one that was cut short, and at the end."""
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None


def _numbers(manifest: Manifest) -> bool:
    counts = (manifest.generation, manifest.vectors, manifest.slots, manifest.images)
    return all(isinstance(n, int) and n >= 0 for n in counts) and isinstance(manifest.dim, int) and manifest.dim > 0


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
