"""Files that are whole or not there, whenever a process is killed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """Give a file to write beside ``path``, which takes its place when the block has ended without an error.

    Whatever ends the process before, ``path`` stays as it was; what was written until then is left in the folder as
    ``.<name>.<process id>``, see :func:`remove_leftovers`.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, all or nothing."""
    with written_beside(path) as beside:
        beside.write_text(text, encoding="utf-8")


def remove_leftovers(folder: Path, name: str) -> None:
    """Remove what killed processes left of files whose name matches a pattern, as ``*.pth``."""
    for beside in folder.glob(f".{name}.*"):
        if beside.suffix[1:].isdecimal():
            beside.unlink(missing_ok=True)
