"""Rows on their way into a caption table: encoded, checked, counted and fingerprinted as they stream by."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SPLITS = ("train", "val", "test")
COLUMNS = ("image", "caption", "pid", "image_id", "source", "split")
MAX_PID = 100_000_000

Columns = Mapping[str, Any]
"""A chunk of rows: lists or arrays of one length by column; `source` and `split` may be one string."""


def schema_of(sources: Sequence[str]) -> pa.Schema:
    """Arrow schema; strings of few values are coded as int8 over a dictionary fixed beforehand."""
    coded = pa.dictionary(pa.int8(), pa.string())
    return pa.schema(
        [
            pa.field("image", pa.string()),
            pa.field("caption", pa.string()),
            pa.field("pid", pa.int64()),
            pa.field("image_id", pa.int64()),
            pa.field("source", coded, metadata={"values": "\n".join(sources)}),
            pa.field("split", coded, metadata={"values": "\n".join(SPLITS)}),
        ]
    )


def record_batches(chunks: Iterable[Columns], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Convert chunks; ``source`` and ``split`` default to '' and 'train'. Raises ValueError at an empty cell."""
    for chunk in chunks:
        length = len(chunk["image"])
        arrays = []
        for field in schema:
            values = chunk.get(field.name, {"source": "", "split": "train"}.get(field.name))
            if pa.types.is_dictionary(field.type):
                arrays.append(_encode(values, length, field))
            else:
                array = pa.array(values, field.type) if not isinstance(values, pa.ChunkedArray) else values
                array = array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
                if array.null_count:
                    raise ValueError(f"Column {field.name!r} of a caption table holds {array.null_count} empty cells.")
                arrays.append(array)
        if length:
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _encode(values: Any, length: int, field: pa.Field) -> pa.DictionaryArray:
    """Code strings over the field's fixed values, so that all record batches share one dictionary."""
    known = pa.array(field.metadata[b"values"].decode().split("\n"), pa.string())
    if isinstance(values, str):
        values = pa.repeat(pa.scalar(values), length)
    elif isinstance(values, (pa.Array, pa.ChunkedArray)):
        values = values.cast(pa.string())
    else:
        values = pa.array(values, pa.string())
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    codes = pc.index_in(values, value_set=known)
    if codes.null_count:
        stranger = values.filter(pc.is_null(codes))[0].as_py()
        raise ValueError(f"Column {field.name!r} of a caption table holds {stranger!r}; allowed: {known.to_pylist()}.")
    return pa.DictionaryArray.from_arrays(codes.cast(pa.int8()), known)


class Content:
    """Checks rows that stream by, and gathers their counts and fingerprint."""

    def __init__(self, name: str, image_root: str) -> None:
        self.name, self.image_root = name, image_root
        self.rows = 0
        self.stops = dict.fromkeys(SPLITS, 0)
        self.images = dict.fromkeys(SPLITS, 0)
        self.seen = {split: np.zeros(0, dtype=bool) for split in SPLITS}
        self.last_code, self.last_image, self.last_pid, self.last_path = 0, -1, -1, ""
        # Lengths and bytes of a string column are hashed apart: the digest knows no borders of record batches.
        self.digests = {key: (hashlib.sha256(), hashlib.sha256()) for key in COLUMNS}

    def follow(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            self._check(batch)
            self._hash(batch)
            self.rows += batch.num_rows
            yield batch

    def info(self, extra: Mapping[str, Any] | None) -> dict[str, Any]:
        digest = hashlib.sha256()
        for key, (sizes, values) in self.digests.items():
            digest.update(key.encode() + sizes.digest() + values.digest())
        starts = [0, *(self.stops[split] for split in SPLITS)]
        splits, counts = {}, {}
        for i, split in enumerate(SPLITS):
            start, stop = max(starts[: i + 1]), max(starts[: i + 2])
            splits[split] = [start, stop]
            if stop > start:
                identities = int(self.seen[split].sum())
                counts[split] = {"identities": identities, "images": self.images[split], "captions": stop - start}
        facts = {"name": self.name, "image_root": str(self.image_root), "fingerprint": digest.hexdigest()}
        return {**facts, "splits": splits, "summary": counts, **(extra or {})}

    def _check(self, batch: pa.RecordBatch) -> None:
        codes = batch.column("split").indices.to_numpy()
        if (np.diff(codes, prepend=self.last_code) < 0).any():
            raise ValueError(f"Rows of a caption table must be ordered by split ({', '.join(SPLITS)}).")
        image, pid = batch.column("image_id").to_numpy(), batch.column("pid").to_numpy()
        if pid.min() < 0 or pid.max() > MAX_PID:
            raise ValueError(f"pid must lie in 0..{MAX_PID:,}, but goes {pid.min()}..{pid.max()}; number it from 0.")
        for code, split in enumerate(SPLITS):
            part = np.flatnonzero(codes == code)
            if not part.size:
                continue
            if code != self.last_code:
                self.last_code, self.last_image = code, -1
            step = np.diff(image[part], prepend=self.last_image)
            if ((step < 0) | (step > 1)).any():
                row = self.rows + int(part[np.argmax((step < 0) | (step > 1))])
                raise ValueError(
                    f"image_id must count the images of split {split!r} from 0, captions of an image side by side, "
                    f"but row {row} has {image[row - self.rows]}."
                )
            self._check_same_image(batch, part[step == 0], pid)
            self.last_image = int(image[part[-1]])
            self.stops[split] = self.rows + int(part[-1]) + 1
            self.images[split] = self.last_image + 1
            self._see(split, pid[part])
        self.last_pid, self.last_path = int(pid[-1]), batch.column("image")[-1].as_py()

    def _check_same_image(self, batch: pa.RecordBatch, later: np.ndarray, pid: np.ndarray) -> None:
        """Rows ``later`` continue the image of the row before them: same path and identity."""
        if not later.size:
            return
        paths = batch.column("image")
        before = pa.concat_arrays([pa.array([self.last_path], pa.string()), paths.slice(0, len(paths) - 1)])
        differs = pc.not_equal(paths, before).to_numpy(zero_copy_only=False) | (
            np.diff(pid, prepend=self.last_pid) != 0
        )
        if differs[later].any():
            row = int(later[np.argmax(differs[later])])
            raise ValueError(
                f"Row {self.rows + row} continues image_id {batch.column('image_id')[row]} with another path or pid "
                f"({paths[row].as_py()!r}, {pid[row]})."
            )

    def _see(self, split: str, pid: np.ndarray) -> None:
        top = int(pid.max()) + 1
        seen = self.seen[split]
        if top > len(seen):
            self.seen[split] = seen = np.concatenate([seen, np.zeros(max(top, 2 * len(seen)) - len(seen), dtype=bool)])
        seen[pid] = True

    def _hash(self, batch: pa.RecordBatch) -> None:
        for key, (sizes, values) in self.digests.items():
            column = batch.column(key)
            if pa.types.is_dictionary(column.type):
                column = column.dictionary_decode()
            if pa.types.is_string(column.type):
                sizes.update(pc.binary_length(column).to_numpy().astype("<i8").tobytes())
                _, offsets, text = column.buffers()
                ends = np.frombuffer(offsets, dtype=np.int32)[column.offset : column.offset + len(column) + 1]
                values.update(memoryview(text or b"")[ends[0] : ends[-1]])
            else:
                values.update(column.to_numpy().astype("<i8").tobytes())
