"""Packs image files into the shards that :mod:`~mmreid_text.datasets.image_store` reads."""

import hashlib
import json
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mmreid_text.atomic_write import write_text
from mmreid_text.datasets.arrow_files import facts_of, write_arrow
from mmreid_text.datasets.image_store import INDEX, INDEX_SCHEMA, ImageIndex, name_hash
from mmreid_text.datasets.transforms.image import Resize, decode_image, read_file
from mmreid_text.datasets.worker_pool import lost_worker
from mmreid_text.file_lock import alone

SUFFIXES = (".jpg", ".jpeg", ".png")
REPORT = "unreadable.json"
LOCK = "packing.lock"
_CHUNK = 32
"""Images that a worker hands over at a time."""


@dataclass(frozen=True)
class PackSettings:
    """What the content of a store depends on; a run that goes on with a store must have the same.

    Attributes:
        name: Shards are called ``<name>-000000.tar`` and so on.
        image_root: Folder that the image names are relative to.
        images: Hash over the names, in order.
        resize: Height and width to store images at, None for the files as they are.
        quality: Of the JPEGs that resizing makes, 1 to 100.
        shard_mb: A shard is closed when it holds as many MB (10^6 bytes).
    """

    name: str
    image_root: str
    images: str
    resize: list[int] | None = None
    quality: int = 95
    shard_mb: float = 1000


def pack_images(
    names: pa.LargeStringArray, settings: PackSettings, out: Path, workers: int = 0, skip_unreadable: bool = False
) -> dict[str, str]:
    """Write the images ``names`` into shards under ``out``, or go on after the last shard that is finished there.

    Every image is decoded once. An unreadable one is left out, tried again by the next run, and written with its error
    into :data:`REPORT`. The index comes last; without ``skip_unreadable`` only when every image is in.

    Args:
        names: Without repeats, relative to ``settings.image_root``, in the order in which they will lie.
        settings: See there.
        out: Folder of the store.
        workers: Processes that read, decode and resize; 0 does it in this one.
        skip_unreadable: Write the index though images are missing from it.

    Returns:
        Error by name of the images that are not in the store.

    Raises:
        ChildProcessError: One of the processes was killed.
        ValueError: ``out`` holds a store of other images or settings, another run packs there, or there are no images.
    """
    if not len(names):
        raise ValueError("There are no images to pack.")
    refusal = (
        f"Another run is packing images into {out}: wait for it, or end it and run the same command again, which goes "
        "on after its last shard; or name another folder"
    )
    with alone(out / LOCK, refusal):
        return _pack_alone(names, settings, out, workers, skip_unreadable)


def _pack_alone(
    names: pa.LargeStringArray, settings: PackSettings, out: Path, workers: int, skip_unreadable: bool
) -> dict[str, str]:
    progress = _Progress.load(out, settings)
    again = pa.array(progress.failed(), pa.large_string())
    pending = pa.chunked_array([again, names.slice(progress.consumed)])
    if len(pending):
        loader: DataLoader[Any] = DataLoader(
            _Prepared(pending, settings), batch_size=_CHUNK, num_workers=workers, collate_fn=list
        )
        with tqdm(total=len(names), initial=len(names) - len(pending), unit=" images", desc=str(out)) as bar:
            images = _counted((image for chunk in _whole(loader) for image in chunk), bar)
            _write_shards(images, len(again), progress, out, settings)
    failed = progress.failed()
    errors = progress.errors(failed)
    write_text(out / REPORT, json.dumps(errors, indent=1, ensure_ascii=False))
    if skip_unreadable or not failed:
        progress.write_index(out, settings)
    return errors


class _Prepared(Dataset):
    """Name, content to store (None if unreadable) and error of each image."""

    def __init__(self, names: pa.ChunkedArray, settings: PackSettings) -> None:
        self.names = names
        self.root = settings.image_root
        self.quality = settings.quality
        self.resize = None if settings.resize is None else Resize((settings.resize[0], settings.resize[1]))

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[str, bytes | None, str]:
        name = self.names[index].as_py()
        path = os.path.join(self.root, name)
        try:
            data = read_file(path)
            image = decode_image(data, path)
        except OSError as error:
            return name, None, str(error.__cause__ or error)
        if self.resize is None or image.shape[:2] == self.resize.size:
            return name, data, ""
        return name, encode_jpeg(self.resize({"img": image})["img"], self.quality), ""


def encode_jpeg(image: np.ndarray, quality: int) -> bytes:
    """JPEG of uint8 (H, W, 3) RGB with colours in full resolution: small images have none to spare."""
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    _, data = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling]
    )
    return data.tobytes()


class _Progress:
    """Rows of the finished shards, kept in one file per shard until the index joins them.

    Attributes:
        consumed: How many of the names, from the first, are dealt with.
        shards: Names of the finished shards.
    """

    def __init__(self, rows: pa.Table, consumed: int, shards: list[str]) -> None:
        self.rows, self.consumed, self.shards = rows, consumed, shards

    @classmethod
    def load(cls, out: Path, settings: PackSettings) -> "_Progress":
        progress = cls(INDEX_SCHEMA.empty_table(), 0, [])
        if (out / INDEX).exists():
            index = ImageIndex(out / INDEX)
            if "settings" not in index.info:
                raise ValueError(
                    f"{out} holds an index of {', '.join(index.shards)}, not of packed images. Pack elsewhere."
                )
            _refuse_other(out, index.info["settings"], settings)
            progress = cls(index.rows, index.info["consumed"], index.shards)
        while (path := _rows_path(out, settings, len(progress.shards))).exists():
            with pa.ipc.open_file(path.read_bytes()) as file:
                rows = file.read_all()
            info = facts_of(rows.schema)
            _refuse_other(out, info["settings"], settings)
            progress.add(rows.replace_schema_metadata(), info["consumed"], info["shard"])
        return progress

    def add(self, rows: pa.Table, consumed: int, shard: str) -> None:
        self.rows = pa.concat_tables([self.rows.replace_schema_metadata(), rows])
        self.consumed += consumed
        self.shards = [*self.shards, shard]

    def failed(self) -> list[str]:
        """Images that no run could read yet, in the order of the attempts."""
        bad = self.rows.filter(pc.not_equal(self.rows.column("error"), "")).column("name")
        known = pc.is_in(self.rows.column("name"), value_set=bad)
        good = self.rows.filter(pc.and_(known, pc.equal(self.rows.column("error"), ""))).column("name")
        return list(dict.fromkeys(bad.filter(pc.invert(pc.is_in(bad, value_set=good))).to_pylist()))

    def errors(self, names: Sequence[str]) -> dict[str, str]:
        """The last error of each name."""
        rows = self.rows.filter(pc.is_in(self.rows.column("name"), value_set=pa.array(names, pa.large_string())))
        return dict(zip(rows.column("name").to_pylist(), rows.column("error").to_pylist()))

    def write_index(self, out: Path, settings: PackSettings) -> None:
        """Join all rows into the index, after which the files per shard are not needed any more."""
        failed = pa.array(self.failed(), pa.large_string())
        good = pc.equal(self.rows.column("error"), "")
        rows = self.rows
        if not pc.all(good).as_py():  # attempts that a later one made good are dropped
            rows = rows.filter(pc.or_(good, pc.is_in(rows.column("name"), value_set=failed)))
        # One batch, as a search needs the hashes in one piece.
        rows = rows.take(pa.array(np.argsort(rows.column("hash").to_numpy(), kind="stable"))).combine_chunks()
        info = {"shards": self.shards, "settings": asdict(settings), "consumed": self.consumed, "left_out": len(failed)}
        write_rows(out / INDEX, rows, info)
        for number in range(len(self.shards)):
            with suppress(FileNotFoundError):
                _rows_path(out, settings, number).unlink()


class _Shard:
    """One tar file in the making."""

    def __init__(self, out: Path, settings: PackSettings, number: int) -> None:
        self.settings = settings
        self.number = number
        self.path = out / f"{settings.name}-{number:06d}.tar"
        self.rows_path = _rows_path(out, settings, number)
        self.rows: list[tuple[int, str, int, int, int, str]] = []
        self.consumed = 0
        self._beside = self.path.with_suffix(".tar.tmp")
        self._tar = tarfile.TarFile(self._beside, "w", format=tarfile.PAX_FORMAT)

    @property
    def size(self) -> int:
        return self._tar.offset

    def add(self, name: str, data: bytes) -> None:
        member = tarfile.TarInfo(name)  # no time, no owner: the same images make the same file
        member.size = len(data)
        self._tar.addfile(member, BytesIO(data))
        padded = -(-len(data) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        self.rows.append((name_hash(name), name, self.number, self._tar.offset - padded, len(data), ""))

    def leave_out(self, name: str, error: str) -> None:
        self.rows.append((name_hash(name), name, self.number, 0, 0, error))

    def finish(self, progress: _Progress) -> None:
        """Let the shard appear; it counts from the moment at which its rows stand beside it."""
        self._tar.close()
        with open(self._beside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(self._beside, self.path)
        columns = [pa.array(values, field.type) for values, field in zip(zip(*self.rows), INDEX_SCHEMA)]
        rows = pa.table(columns, schema=INDEX_SCHEMA)
        info = {"shard": self.path.name, "settings": asdict(self.settings), "consumed": self.consumed}
        write_rows(self.rows_path, rows, info)
        progress.add(rows, self.consumed, self.path.name)


def _write_shards(
    images: Iterable[tuple[str, bytes | None, str]],
    retried: int,
    progress: _Progress,
    out: Path,
    settings: PackSettings,
) -> None:
    """Fill shard after shard; the first ``retried`` images were left out before, and are noted if they are here now."""
    shard: _Shard | None = None
    for i, (name, data, error) in enumerate(images):
        if i < retried and data is None:
            continue
        shard = shard or _Shard(out, settings, len(progress.shards))
        shard.consumed += i >= retried
        if data is None:
            shard.leave_out(name, error)
        else:
            shard.add(name, data)
        if shard.size >= settings.shard_mb * 1_000_000:
            shard.finish(progress)
            shard = None
    if shard is not None:
        shard.finish(progress)


def list_images(folder: Path) -> pa.LargeStringArray:
    """Names of all image files under ``folder``, relative to it, sorted folder by folder."""

    def names() -> Iterator[str]:
        for path, folders, files in os.walk(folder, followlinks=True):
            folders.sort()
            inner = os.path.relpath(path, folder)
            yield from (
                os.path.normpath(os.path.join(inner, file)) for file in sorted(files) if file.lower().endswith(SUFFIXES)
            )

    return pa.array(names(), pa.large_string())


def names_hash(names: pa.LargeStringArray) -> str:
    """sha256 over names, in order."""
    digest = hashlib.sha256()
    for start in range(0, len(names), 65_536):
        digest.update("".join(f"{name}\n" for name in names[start : start + 65_536].to_pylist()).encode())
    return digest.hexdigest()


def _rows_path(out: Path, settings: PackSettings, number: int) -> Path:
    return out / f"{settings.name}-{number:06d}.rows"


def write_rows(path: Path, rows: pa.Table, info: dict[str, Any]) -> None:
    """Write rows of ``INDEX_SCHEMA`` with ``info`` in their metadata; an index must be sorted and in one piece."""
    write_arrow(path, INDEX_SCHEMA, rows.cast(INDEX_SCHEMA).to_batches(), info)


def _refuse_other(out: Path, known: dict[str, Any], settings: PackSettings) -> None:
    for key, value in asdict(settings).items():
        if known[key] != value:
            raise ValueError(
                f"{out} holds a store with {key}={known[key]!r}, but {key}={value!r} is asked for now. Pack into "
                "another folder, or delete that one."
            )


def _whole(loader: Iterable[Any]) -> Iterator[Any]:
    try:
        yield from loader
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise lost_worker("decoding images", "--workers") from error


def _counted(items: Iterable[Any], bar: tqdm) -> Iterator[Any]:
    for item in items:
        yield item
        bar.update()
