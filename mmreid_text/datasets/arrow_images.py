"""Arrow files of encoded images with captions, as ViLT and UniPT write them, read as an image store.

Their columns are ``image`` (file content), ``caption`` (list of strings) and ``image_id`` (file name); others are not
used. The files stay as they are: an index beside them says at which bytes each image lies.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from mmreid_text.datasets.arrow_files import write_arrow
from mmreid_text.datasets.image_store import INDEX, INDEX_SCHEMA, ImageIndex, name_hash
from mmreid_text.datasets.published import file_state, warn

_SLICE = 4_096
"""Rows whose names and captions are Python objects at a time."""


class ArrowImage(NamedTuple):
    """One row: where its image lies in the file, in bytes."""

    name: str
    captions: list[str]
    offset: int
    size: int


def arrow_images(path: Path) -> Iterator[ArrowImage]:
    """Rows in the order of the file, whose images are not read.

    Raises:
        ValueError: The file is incomplete, compressed, of other columns, or a cell is empty.
    """
    content = pa.memory_map(str(path)).read_buffer()
    try:
        file = pa.ipc.open_file(content)
        _check_schema(path, file.schema)
        first = 0
        for i in range(file.num_record_batches):
            batch = file.get_batch(i)
            ends = _image_borders(path, content, batch.column("image"))
            for start in range(0, batch.num_rows, _SLICE):
                names, captions = (
                    batch.column(key).slice(start, _SLICE).to_pylist() for key in ("image_id", "caption")
                )
                for row, (name, texts) in enumerate(zip(names, captions), start):
                    if name is None or texts is None or None in texts:
                        raise ValueError(
                            f"{path}: row {first + row} has an empty cell (image_id {name!r}, caption {texts!r:.80}). "
                            "Copy the file again, or write it anew without that row."
                        )
                    yield ArrowImage(name, texts, int(ends[row]), int(ends[row + 1] - ends[row]))
            first += batch.num_rows
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a complete Arrow file ({error}). Copy it again.") from error


def index_images(root: Path, files: Sequence[Path]) -> None:
    """Write the index of an image store over ``files`` of the folder ``root``, unless theirs is there.

    Of several images of one name the first counts, with a warning.

    Raises:
        PermissionError: The folder cannot be written to.
        ValueError: As :func:`arrow_images`.
    """
    path, states = root / INDEX, {file.name: file_state(file) for file in files}
    if path.exists() and ImageIndex(path).info.get("files") == states:
        return
    columns: list[list[np.ndarray]] = []
    names: list[pa.Array] = []
    for shard, file in enumerate(files):
        for part in _slices(tqdm(arrow_images(file), file.name, unit=" images", unit_scale=True, delay=2)):
            names.append(pa.array([image.name for image in part], pa.large_string()))
            numbers = [(name_hash(image.name), shard, image.offset, image.size) for image in part]
            hashes, *places = zip(*numbers)
            columns.append([np.array(hashes, np.uint64), *(np.array(place, np.int64) for place in places)])
    if not names:
        raise ValueError(f"{', '.join(map(str, files))}: there are no images. Copy the files again.")
    rows = _distinct(root, pa.concat_arrays(names), [np.concatenate(column) for column in zip(*columns)])
    facts = {"shards": [file.name for file in files], "left_out": 0, "files": states}
    try:
        write_arrow(path, INDEX_SCHEMA, rows.combine_chunks().to_batches(), facts)
    except OSError as error:  # a read-only file system's has no class of its own
        raise PermissionError(
            f"The index {path} of the images in {', '.join(states)} cannot be written ({error}). Make the folder "
            "writable for the first use, or link the files into one that is."
        ) from error


def _check_schema(path: Path, schema: pa.Schema) -> None:
    known = {field.name: field.type for field in schema}
    binary, text = (pa.types.is_binary, pa.types.is_large_binary), (pa.types.is_string, pa.types.is_large_string)
    fits = {
        "image": lambda kind: any(test(kind) for test in binary),
        "image_id": lambda kind: any(test(kind) for test in text),
        "caption": lambda kind: pa.types.is_list(kind) and any(test(kind.value_type) for test in text),
    }
    for key, test in fits.items():
        if key not in known or not test(known[key]):
            raise ValueError(
                f"{path}: column {key!r} is {known.get(key, 'missing')}, but the published columns are image (binary), "
                "caption (list of strings) and image_id (string). docs/data.md shows the format."
            )


def _image_borders(path: Path, content: pa.Buffer, column: pa.Array) -> np.ndarray:
    """int64 (n + 1,): bytes of the file at which each image begins, and the end of the last."""
    if not len(column):
        return np.zeros(1, np.int64)
    _, offsets, data = column.buffers()
    if column.null_count or data is None:
        raise ValueError(f"{path}: {column.null_count or len(column):,} images are missing. Copy the file again.")
    kind = np.int64 if pa.types.is_large_binary(column.type) else np.int32
    borders = np.frombuffer(offsets, dtype=kind)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    borders += data.address - content.address
    if not 0 <= borders[0] <= borders[-1] <= content.size:  # decompressed into other memory
        raise ValueError(f"{path} is compressed, so that images cannot be read from where they lie; write it plainly.")
    return borders


def _slices(images: Iterator[ArrowImage]) -> Iterator[list[ArrowImage]]:
    part: list[ArrowImage] = []
    for image in images:
        part.append(image)
        if len(part) == _SLICE:
            yield part
            part = []
    if part:
        yield part


def _distinct(root: Path, names: pa.Array, columns: list[np.ndarray]) -> pa.Table:
    """Rows of the index: in the order of the hashes, each name once."""
    hashes, shard, offset, size = columns
    order = np.argsort(hashes, kind="stable")  # the first of a name stays the first
    ordered = hashes[order]
    again = np.zeros(len(order), dtype=bool)
    for i in np.flatnonzero(ordered[1:] == ordered[:-1]) + 1:
        again[i] = names[int(order[i])] == names[int(order[i - 1])]
    if again.any():
        warn(
            f"{root}: {int(again.sum()):,} images have a name that an earlier one has (first: "
            f"{names[int(order[np.argmax(again)])].as_py()!r}); the first of each name is used, with all captions."
        )
    order = order[~again]
    columns = [hashes[order], names.take(pa.array(order)), shard[order].astype(np.int32), offset[order], size[order]]
    return pa.table([*columns, pa.repeat("", len(order))], schema=INDEX_SCHEMA)
