"""Perceptual hashes of images, and which images of two collections are near-duplicates by them.

The hash is written out here rather than taken from ImageHash: that package computes the same one through Pillow and
scipy, two further dependencies for fifteen lines, while our decoder and ``cv2.dct`` are at hand.

What makes a duplicate is measured in docs/data.md, *Leakage*.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from mmreid_text.atomic_write import remove_leftovers
from mmreid_text.datasets.arrow_files import facts_of, write_arrow
from mmreid_text.datasets.image_packing import names_hash
from mmreid_text.datasets.image_store import ImageStore
from mmreid_text.datasets.transforms.image import decode_image, read_image
from mmreid_text.datasets.work_folder import work_folder
from mmreid_text.datasets.worker_pool import map_ahead, worker_pool

ALGORITHM = "dct 32, 8 x 8, median"
"""Stands in every hash file; another text makes older files void."""
DISTANCE = 4
"""Bits of 64 by which a duplicate may differ, unless told otherwise."""
MAX_PAIRS = 20_000_000
CHUNK = 4096
"""Images between two savings."""
SCHEMA = pa.schema([("hash", pa.uint64()), ("error", pa.string())])
_SIDE = 32
_TASK = 64  # images that a process hashes at a time
_AHEAD = 64  # tasks that are handed over in advance
_BLOCK_ROWS, _BLOCK_COLUMNS = 16, 32_768  # hashes compared at a time; their 4 MB of differences stay in the cache


@dataclass(frozen=True)
class HashedImages:
    """Images with their hashes.

    Attributes:
        root: Folder, or folder or URL of an image store.
        names: Of the images, relative to ``root``.
        hashes: uint64 (n,), 0 where the image cannot be read.
        errors: Why, by name, for images that cannot be read.
    """

    root: str
    names: pa.LargeStringArray
    hashes: np.ndarray
    errors: dict[str, str]

    def readable(self) -> np.ndarray:
        """Rows of the images that have a hash; int64 (m,)."""
        if not self.errors:
            return np.arange(len(self.hashes))
        bad = pc.is_in(self.names, value_set=pa.array(list(self.errors), pa.large_string()))
        return np.flatnonzero(~bad.to_numpy(zero_copy_only=False))


@dataclass(frozen=True)
class NearPairs:
    """Pairs of images, nearest first: rows int32 (p,) on both sides and the bits that differ, uint8 (p,)."""

    train: np.ndarray
    benchmark: np.ndarray
    distance: np.ndarray


def perceptual_hash(image: np.ndarray) -> int:
    """64 bits of an image's coarse structure, of which rescaling and encoding change few.

    The image in grey is scaled to 32 x 32 pixels; bit i says whether coefficient i of the 8 x 8 lowest frequencies of
    its discrete cosine transform lies above their median.

    Args:
        image: uint8 (H, W, 3) RGB.
    """
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    low = cv2.dct(small.astype(np.float32))[:8, :8].ravel()
    return int.from_bytes(np.packbits(low > np.median(low)).tobytes(), "little")


def hash_images(root: str, names: pa.LargeStringArray, path: Path, jobs: int = 1) -> HashedImages:
    """Hash images once and keep the hashes in the Arrow file ``path``.

    Stopped at any moment, a second call goes on after the last :data:`CHUNK`. A finished file serves as long as root,
    names and algorithm are the same; changed pixels go unnoticed, so delete the file then. Images that could not be
    read are tried again by every call. Memory does not depend on the images, but for their names and hashes.

    Args:
        root: Folder, or folder or URL of an image store.
        names: Without repeats, relative to ``root``.
        path: File of the hashes. Meanwhile ``<path>.work`` stands beside it.
        jobs: Processes.

    Raises:
        ChildProcessError: A process was killed.
        ValueError: Another process writes the same file.
    """
    stamp = {"algorithm": ALGORITHM, "root": root, "images": names_hash(names)}
    rows = _read(path, stamp)
    failed = np.zeros(0, dtype=np.int64) if rows is None else _failed(rows)
    if rows is not None and not len(failed):
        return HashedImages(root, names, rows.column("hash").to_numpy(), {})
    with (
        work_folder(path, stamp) as work,
        _one_thread(),
        worker_pool(jobs, "hashing images", _open, (root,)) as pool,
    ):
        remove_leftovers(path.parent, path.name)
        if rows is None:
            parts = _hashed_parts(names, work, pool, path.name)
        else:
            parts = _tried_again(rows, failed, names, pool, path.name)
        write_arrow(path, SCHEMA, parts, stamp)
    rows = _read(path, stamp)
    assert rows is not None
    failed = _failed(rows)
    errors = zip(names.take(pa.array(failed)).to_pylist(), rows.column("error").take(pa.array(failed)).to_pylist())
    return HashedImages(root, names, rows.column("hash").to_numpy(), dict(errors))


def near_pairs(train: np.ndarray, benchmark: np.ndarray, distance: int, jobs: int = 1) -> NearPairs:
    """All pairs of hashes that differ in at most ``distance`` bits; every pair is compared.

    Args:
        train: uint64 (N,).
        benchmark: uint64 (M,).
        distance: Bits, 0 to 63.
        jobs: Threads.

    Raises:
        ValueError: More than :data:`MAX_PAIRS` pairs are that near, or ``distance`` is out of range.
    """
    if not 0 <= distance < 64:
        raise ValueError(f"distance {distance} must lie in 0..63, the bits by which two images may differ.")
    blocks = [(r, c) for r in range(0, len(train), 16_384) for c in range(0, len(benchmark), _BLOCK_COLUMNS)]
    found: list[tuple[np.ndarray, ...]] = []
    count = 0
    compare = partial(_compare, train, benchmark, distance)
    total = len(train) * len(benchmark)
    with (
        ThreadPoolExecutor(max(1, jobs)) as pool,  # numpy counts bits without the interpreter's lock
        tqdm(total=total, unit=" pairs", unit_scale=True, desc="comparing", delay=2) as bar,
    ):
        for compared, *pairs in map_ahead(pool, compare, blocks, 2 * max(1, jobs)):
            bar.update(compared)
            found.append(tuple(pairs))
            count += len(pairs[0])
            if count > MAX_PAIRS:
                raise ValueError(
                    f"More than {MAX_PAIRS:,} pairs differ in at most {distance} bits, so most are no duplicates: "
                    "take a smaller --distance."
                )
    if not found:
        return NearPairs(np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.uint8))
    rows, columns, bits = (np.concatenate(part) for part in zip(*found))
    order = np.lexsort((rows, columns, bits))
    return NearPairs(rows[order], columns[order], bits[order])


def _compare(
    train: np.ndarray, benchmark: np.ndarray, distance: int, block: tuple[int, int]
) -> tuple[int, np.ndarray, np.ndarray, np.ndarray]:
    """Number of pairs compared, rows, columns and distances of the near ones."""
    first, left = block
    columns = benchmark[left : left + _BLOCK_COLUMNS]
    rows = train[first : first + 16_384]
    changed = np.empty((_BLOCK_ROWS, len(columns)), np.uint64)
    bits = np.empty((_BLOCK_ROWS, len(columns)), np.uint8)
    found = []
    for start in range(0, len(rows), _BLOCK_ROWS):
        part = rows[start : start + _BLOCK_ROWS, None]
        np.bitwise_xor(part, columns, out=changed[: len(part)])
        np.bitwise_count(changed[: len(part)], out=bits[: len(part)])
        near = bits[: len(part)] <= distance
        if near.any():
            row, column = np.nonzero(near)
            at = (row + start + first).astype(np.int32), (column + left).astype(np.int32)
            found.append((*at, bits[row, column]))
    if not found:
        return rows.size * columns.size, np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.uint8)
    row, column, distances = (np.concatenate(part) for part in zip(*found))
    return rows.size * columns.size, row, column, distances


_read_named: Callable[[str], np.ndarray]


def image_reader(root: str) -> Callable[[str], np.ndarray]:
    """What reads an image by its name below ``root``, uint8 (H, W, 3) RGB; OSError where it cannot be read."""
    store = ImageStore.find(root)
    if store is None:
        return lambda name: read_image(os.path.join(root, name))
    return lambda name: decode_image(store.read(name), name)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Without OpenCV's threads: a process that is forked lacks them, and would wait for them for ever."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


def _open(root: str) -> None:
    global _read_named
    _read_named = image_reader(root)


def _hash_names(names: Sequence[str]) -> pa.RecordBatch:
    """Rows of :data:`SCHEMA` for images below the opened root."""
    hashes, errors = [], []
    for name in names:
        try:
            hashes.append(perceptual_hash(_read_named(name)))
            errors.append("")
        except OSError as error:
            hashes.append(0)
            errors.append(str(error.__cause__ or error))
    return pa.record_batch([pa.array(hashes, pa.uint64()), pa.array(errors, pa.string())], schema=SCHEMA)


def _hashed_parts(names: pa.LargeStringArray, work: Path, pool: Executor, title: str) -> Iterator[pa.RecordBatch]:
    """All rows: from the chunks that stand in ``work``, then from new ones, which are put there first."""
    done = 0
    while (path := work / f"{done // CHUNK:06d}").exists():
        with pa.ipc.open_file(path.read_bytes()) as file:
            yield from file.read_all().to_batches()
        done += CHUNK
    tasks = (names[i : i + _TASK].to_pylist() for i in range(done, len(names), _TASK))
    with tqdm(total=len(names), initial=min(done, len(names)), unit=" images", desc=title) as bar:
        batches = _counted(map_ahead(pool, _hash_names, tasks, _AHEAD), bar)
        while chunk := list(islice(batches, CHUNK // _TASK)):
            write_arrow(work / f"{done // CHUNK:06d}", SCHEMA, chunk)
            done += CHUNK
            yield from chunk


def _tried_again(
    rows: pa.Table, failed: np.ndarray, names: pa.LargeStringArray, pool: Executor, title: str
) -> Iterator[pa.RecordBatch]:
    """All rows, those of the images ``failed`` made anew."""
    tasks = (names.take(pa.array(failed[i : i + _TASK])).to_pylist() for i in range(0, len(failed), _TASK))
    with tqdm(total=len(failed), unit=" images", desc=f"{title}, unreadable before") as bar:
        new = pa.Table.from_batches(_counted(map_ahead(pool, _hash_names, tasks, _AHEAD), bar), SCHEMA)
    where = np.arange(len(rows))
    where[failed] = len(rows) + np.arange(len(failed))
    both = pa.concat_tables([rows.replace_schema_metadata(), new])
    yield from both.take(pa.array(where)).to_batches()


def _counted(batches: Iterable[pa.RecordBatch], bar: tqdm) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        yield batch
        bar.update(batch.num_rows)


def _failed(rows: pa.Table) -> np.ndarray:
    """Rows of the images that could not be read; int64 (n,)."""
    return np.flatnonzero(pc.not_equal(rows.column("error"), "").to_numpy())


def _read(path: Path, stamp: dict[str, str]) -> pa.Table | None:
    """The hash file, if it is there and whole and has this stamp."""
    try:
        with pa.memory_map(str(path)) as content:
            rows = pa.ipc.open_file(content).read_all()
        return rows if facts_of(rows.schema) == stamp else None
    except (FileNotFoundError, KeyError, ValueError, pa.ArrowInvalid):
        return None
