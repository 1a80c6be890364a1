"""Images packed into tar shards with one mapped index: random access by name on a disk or an object store.

A store is a folder (or a URL) with plain tar files, whose members are the image files under their names relative to
the image root, and :data:`INDEX`, an Arrow file with one row per image in the order of a hash of its name. Any program
that reads tar reads the shards; only random access needs the index. ``tools/pack_images.py`` writes both. Any other
file in which images lie in one piece may stand for a shard (:mod:`~mmreid_text.datasets.arrow_images`).
"""

import hashlib
import io
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from mmengine.dist import is_main_process

from mmreid_text.datasets.arrow_files import facts_of
from mmreid_text.datasets.caption_table import CaptionTable

INDEX = "image_index.arrow"
INDEX_SCHEMA = pa.schema(
    [
        ("hash", pa.uint64()),  # name_hash(name), ascending
        ("name", pa.large_string()),  # relative to the image root
        ("shard", pa.int32()),
        ("offset", pa.int64()),  # of the content in the shard, bytes
        ("size", pa.int64()),  # of the content, bytes
        ("error", pa.string()),  # why the image could not be packed, '' for those that are there
    ]
)
_MAX_OPEN = 128


def name_hash(name: str) -> int:
    """64 bits of BLAKE2b over the name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


class ImageIndex:
    """The mapped index file: which image lies where. Nothing is read but the pages that a look-up touches.

    Args:
        path: A file in the format that the module states.

    Raises:
        ValueError: It is another file, or an incomplete one.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        try:
            self.rows = pa.ipc.open_file(pa.memory_map(os.fspath(path))).read_all()
            self.info: dict[str, Any] = facts_of(self.rows.schema)
        except (pa.ArrowInvalid, KeyError, ValueError) as error:
            raise ValueError(
                f"{path} is not a complete image index ({type(error).__name__}: {error}). Remove it and run "
                "`python tools/pack_images.py` again (docs/data.md)."
            ) from error
        columns = [self.rows.column(key).chunk(0) for key in ("hash", "name", "shard", "offset", "size", "error")]
        self._hash, self._shard, self._offset, self._size = (columns[i].to_numpy() for i in (0, 2, 3, 4))
        self._name, self._error = columns[1], columns[5]
        self.shards: list[str] = self.info["shards"]

    def __len__(self) -> int:
        return len(self._hash)

    def find(self, name: str) -> int | None:
        """Row of an image, None where there is none."""
        wanted = np.uint64(name_hash(name))
        row = int(np.searchsorted(self._hash, wanted))
        while row < len(self) and self._hash[row] == wanted:  # hashes of two names may be equal
            if self._name[row].as_py() == name:
                return row
            row += 1
        return None

    def place(self, row: int) -> tuple[int, int, int]:
        """Shard number, offset and size in bytes."""
        return int(self._shard[row]), int(self._offset[row]), int(self._size[row])

    def error(self, row: int) -> str:
        """Why the image was left out, '' where it is in a shard."""
        return self._error[row].as_py()

    def names(self) -> pa.LargeStringArray:
        """Names of all images, those that were left out included, in the order of their hashes."""
        return self._name

    def hashes(self) -> np.ndarray:
        """uint64 (n,), read-only: :func:`name_hash` of the names, ascending."""
        return self._hash

    def left_out(self) -> pa.StringArray:
        """Names of the images that could not be packed."""
        return self._name.filter(pc.not_equal(self._error, "")).cast(pa.string())


class ImageStore:
    """Reads image files out of shards.

    Files are opened by the process that reads, on first use, so a store passes to workers under fork and spawn alike.
    The index is mapped: a worker's own memory does not grow with the number of images. Local shards are read with
    ``pread``; a URL's by byte ranges through fsspec, whose package for the protocol must be installed (s3fs, gcsfs,
    ...), after its index was copied once into ``$XDG_CACHE_HOME/mmreid_text`` (``~/.cache``).

    Args:
        root: Folder or URL of the store.

    Raises:
        FileNotFoundError: There is no index.
        ValueError: The index is damaged.
    """

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.fspath(root).rstrip("/")
        self._open()

    @classmethod
    def find(cls, root: str | os.PathLike[str]) -> "ImageStore | None":
        """The store at ``root``, or None where it is a folder without an index, that is of plain image files."""
        return cls(root) if is_url(root) or (Path(root) / INDEX).is_file() else None

    def _open(self) -> None:
        self._shards: _Shards = _RemoteShards(self.root) if is_url(self.root) else _LocalShards(self.root)
        self.index = ImageIndex(self._shards.index_path())

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.root = state["root"]
        self._open()

    def __len__(self) -> int:
        """Images in the shards, those that were left out not counted."""
        return len(self.index) - self.index.info["left_out"]

    @property
    def packed(self) -> bool:
        """Whether ``tools/pack_images.py`` wrote the shards, decoding each image; else other files were indexed."""
        return "settings" in self.index.info

    def without_left_out(self, table: CaptionTable) -> CaptionTable:
        """View of ``table`` without the images that the store left out as unreadable; warns if there are any."""
        if not self.index.info["left_out"]:
            return table
        left_out = self.index.left_out()
        keep, lost = [], []
        for part in table.columns():
            known = pc.is_in(part["image"], value_set=left_out)
            keep.append(pc.invert(known).to_numpy())
            lost += part["image"].filter(known).unique().to_pylist()
        if lost and is_main_process():
            warnings.warn(
                f"{self.root}: {len(set(lost)):,} images of {table.name} were left out of the image store as "
                f"unreadable (first: {lost[0]!r}); their captions are left out, too. Mend the images and pack again.",
                stacklevel=3,
            )
        return table.select(np.flatnonzero(np.concatenate(keep))) if lost else table

    def read(self, name: str) -> bytes:
        """Content of the image file ``name``.

        Raises:
            FileNotFoundError: The store has no such image, or left it out as unreadable; or the shard is missing.
            OSError: The shard is cut short.
        """
        row = self.index.find(name)
        error = "" if row is None else self.index.error(row)
        if row is None or error:
            why = f"was left out of the image store when it was packed: {error}" if error else "is not in the store"
            raise FileNotFoundError(
                f"Image {name} {why} (index {self.root}/{INDEX}, {len(self):,} images). Mend the image or add "
                "it to the table, and pack again with `python tools/pack_images.py` (docs/data.md)."
            )
        shard, offset, size = self.index.place(row)
        file = self.index.shards[shard]
        try:
            data = self._shards.read(file, offset, size)
        except FileNotFoundError as cause:
            raise FileNotFoundError(
                f"Shard {self.root}/{file}, which holds image {name}, does not exist. Copy it again: all of "
                f"{len(self.index.shards):,} shards must lie beside {INDEX}."
            ) from cause
        if len(data) < size:
            raise OSError(
                f"Shard {self.root}/{file} ends within image {name}: {len(data):,} of {size:,} bytes at offset "
                f"{offset:,}. Copy the shard again."
            )
        return data


def is_url(root: str | os.PathLike[str]) -> bool:
    """Whether ``root`` is no local path, as in ``s3://bucket/folder``."""
    return "://" in os.fspath(root)


class _Shards(Protocol):
    def index_path(self) -> str: ...

    def read(self, file: str, offset: int, size: int) -> bytes: ...


class _LocalShards:
    def __init__(self, root: str) -> None:
        self.root = root
        self._files: dict[str, io.FileIO] = {}

    def index_path(self) -> str:
        path = os.path.join(self.root, INDEX)
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{self.root} has no {INDEX}: pack images with `python tools/pack_images.py`.")
        return path

    def read(self, file: str, offset: int, size: int) -> bytes:
        # A file position is shared by forked processes, so pread. A file dropped here closes when its last reader ends.
        opened = self._files.get(file)
        if opened is None:
            if len(self._files) >= _MAX_OPEN:
                self._files.pop(next(iter(self._files)), None)
            opened = self._files[file] = io.FileIO(os.path.join(self.root, file))
        return os.pread(opened.fileno(), size, offset)


class _RemoteShards:
    def __init__(self, root: str) -> None:
        self.root = root
        self._pid = -1
        self._connect()

    def _connect(self) -> None:
        import fsspec  # comes with torch, and only URLs need it

        # fsspec's clients run a thread, which a forked process lacks: each process takes one of its own.
        self._files, self._folder = fsspec.core.url_to_fs(self.root, skip_instance_cache=True)
        self._pid = os.getpid()

    def index_path(self) -> str:
        remote = f"{self._folder}/{INDEX}"
        try:
            facts = self._files.info(remote)
            key = hashlib.sha256(f"{self.root} {facts['size']} {self._files.ukey(remote)}".encode()).hexdigest()[:16]
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{self.root} has no {INDEX}: pack images with `python tools/pack_images.py` and copy the whole folder."
            ) from error
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mmreid_text"
        path = cache / f"{key}-{INDEX}"
        if not path.exists():
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as beside:
                self._files.get_file(remote, f"{beside}/{INDEX}")
                os.replace(f"{beside}/{INDEX}", path)
        return str(path)

    def read(self, file: str, offset: int, size: int) -> bytes:
        if self._pid != os.getpid():
            self._connect()
        return self._files.cat_file(f"{self._folder}/{file}", start=offset, end=offset + size)
