"""Names of the image files in a folder or an image store, relative to it."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmreid_text.datasets.image_store import ImageStore, name_hash

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")


def image_names(folder: Path, nested: bool = False) -> Iterator[str]:
    """Names in any order; with ``nested`` also those in folders below, as ``inner/name.jpg``."""
    store = ImageStore.find(folder)
    if store is not None:
        for name in store.index.names():
            yield name.as_py()
        return
    pending = [""]
    while pending:
        inner = pending.pop()
        with os.scandir(folder / inner) as entries:
            for entry in entries:
                if entry.name.lower().endswith(IMAGE_SUFFIXES):
                    yield inner + entry.name
                elif nested and entry.is_dir():
                    pending.append(f"{inner}{entry.name}/")


def name_hashes(folder: Path, nested: bool = False) -> np.ndarray:
    """uint64 (n,): :func:`~mmreid_text.datasets.image_store.name_hash` of the names, in any order.

    Raises:
        ValueError: A name is no Unicode text.
    """
    store = ImageStore.find(folder)
    if store is not None:
        return store.index.hashes()
    try:
        return np.fromiter(map(name_hash, image_names(folder, nested)), dtype=np.uint64)
    except UnicodeEncodeError as error:
        raise ValueError(f"{folder}: the file name {error.object!r} is no Unicode text; rename the file.") from error
