"""Image files below a folder, out of which no name and no link leads."""

import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
FILES = pa.schema([("path", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64())])
_CHUNK = 65_536


@dataclass(frozen=True)
class Listing:
    """Image files, sorted by path, as a table of :data:`FILES`; ``refused`` are paths and why they are passed over."""

    files: pa.Table
    refused: dict[str, str]


def list_files(root: Path) -> Listing:
    """All image files below a folder.

    Links to files are followed as long as they stay below the folder, links to folders are not: what they lead to is
    listed anyway, or lies outside.

    Raises:
        FileNotFoundError: There is no such folder.
        ValueError: It holds no image, as when a disk is not mounted.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"The image folder {root} does not exist.")
    refused: dict[str, str] = {}
    real = os.path.realpath(root)
    tables, rows = [], []
    for row in _walk(root, "", real, refused):
        rows.append(row)
        if len(rows) == _CHUNK:
            tables.append(_table(rows))
            rows = []
    tables.append(_table(rows))
    files = pa.concat_tables(tables).combine_chunks()
    if not len(files):
        raise ValueError(f"{root} holds no image ({', '.join(SUFFIXES)}): name the folder of the crops.")
    return Listing(files.sort_by("path").combine_chunks(), refused)


def _table(rows: list[tuple[str, int, int]]) -> pa.Table:
    columns = zip(*rows) if rows else ([], [], [])
    return pa.table([pa.array(values, field.type) for values, field in zip(columns, FILES)], schema=FILES)


def _walk(root: Path, inner: str, real: str, refused: dict[str, str]) -> Iterator[tuple[str, int, int]]:
    folders = [inner]
    while folders:
        inner = folders.pop()
        try:
            entries = os.scandir(os.path.join(root, inner))
        except OSError as error:
            refused[f"{inner}/"] = f"the folder cannot be read ({error.strerror})"
            continue
        with entries:
            for entry in entries:
                name = os.path.join(inner, entry.name)
                try:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(name)
                        continue
                    is_image = entry.name.lower().endswith(SUFFIXES)
                    if entry.is_symlink() and (is_image or entry.is_dir()) and not _inside(entry.path, real):
                        refused[_printable(name)] = "is a link out of the folder"
                    elif is_image and entry.is_file():
                        if _printable(name) != name:
                            refused[_printable(name)] = "has a name that is no readable text"
                            continue
                        stat = entry.stat()
                        yield name, stat.st_size, stat.st_mtime_ns
                except FileNotFoundError:  # deleted meanwhile
                    continue
                except OSError as error:  # a link to itself, say
                    refused[_printable(name)] = f"cannot be looked at ({error.strerror})"


def inside(root: Path, path: str) -> Path:
    """The real path of an image of a gallery.

    Raises:
        PermissionError: ``path`` leads out of ``root``, by itself or through a link, or is no plain relative path.
    """
    if "\0" in path or not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise PermissionError(f"{path!r} is no image of the gallery.")
    full = os.path.realpath(root / path)
    if not _inside(full, os.path.realpath(root)):
        raise PermissionError(f"{path!r} leads out of the gallery's folder.")
    return Path(full)


def _inside(path: str, real: str) -> bool:
    return os.path.commonpath([os.path.realpath(path), real]) == real


def _printable(name: str) -> str:
    """The name if it is Unicode text without control characters, else what can be shown of it."""
    return name if is_text(name) else name.encode("unicode_escape", "backslashreplace").decode()


def is_text(text: str) -> bool:
    """Whether all characters can be printed, spaces of every width among them."""
    return text.isprintable() or all(mark.isprintable() or unicodedata.category(mark) == "Zs" for mark in text)


def rows_of(paths: pa.ChunkedArray | pa.Array, among: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Row of each of ``paths`` in ``among``, int64 (n,), -1 where it is not there."""
    import pyarrow.compute as pc

    return pc.fill_null(pc.index_in(paths, value_set=among), -1).to_numpy().astype(np.int64)
