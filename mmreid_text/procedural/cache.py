"""Pictures of a world on disk: drawn once, resumed after a kill, shared by processes, memory-mapped."""

import hashlib
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mmreid_text import randomness
from mmreid_text.atomic_write import write_text
from mmreid_text.file_lock import alone
from mmreid_text.procedural.domains import World

_DRAWING = (
    *("attributes", "bags", "body", "clothes", "domains", "draw", "figure", "head", "palette", "person", "scenery"),
    "shots",
)
_CHUNK = 256


def cached_images(world: World, folder: str | os.PathLike[str]) -> Path:
    """The world's pictures as a ``.npy`` file, uint8 (num_images, H, W, 3) RGB; renders what is missing.

    The name holds a fingerprint of all that the pixels depend on, the drawing code included. Pictures are written to
    a file beside it, in chunks whose number is kept, so a killed run goes on where it stopped. Only one process
    renders; others wait for it.
    """
    facts = [
        world.domain.name,
        world.split,
        world.seed,
        len(world),
        world.images_per_id,
        list(world.size),
        cv2.__version__,
    ]
    path = Path(folder) / f"{world.domain.name}_{world.split}_{fingerprint(facts, _DRAWING)}.npy"
    if path.exists():
        return path
    with alone(lock_of(path)):
        if not path.exists():
            _render_all(world, path)
    return path


def fingerprint(facts: Sequence[object], modules: Sequence[str]) -> str:
    """Sixteen hexadecimal digits over facts and over the code of this package's ``modules``."""
    digest = hashlib.sha256(json.dumps(facts).encode())
    for path in [Path(randomness.__file__), *(Path(__file__).with_name(f"{module}.py") for module in modules)]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def lock_of(path: Path) -> Path:
    """The lock of a file that is being made."""
    return path.with_name(f"{path.name}.lock")


def _render_all(world: World, path: Path) -> None:
    partial, count = path.with_suffix(".partial"), path.with_suffix(".count")
    shape = (len(world), *world.size, 3)
    done = int(count.read_text()) if count.exists() and partial.exists() else 0
    images = np.lib.format.open_memmap(partial, "r+" if done else "w+", np.uint8, shape)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # the pictures are too small to share, and data workers are many
    try:
        title = f"images of {world.stream}"
        for index in tqdm(range(done, len(world)), title, total=len(world), initial=done, unit="image", delay=2):
            images[index] = world.render(index)
            if (index + 1) % _CHUNK == 0:
                images.flush()
                write_text(count, str(index + 1))
        images.flush()
    finally:
        cv2.setNumThreads(threads)
    del images
    os.replace(partial, path)
    with suppress(FileNotFoundError):
        count.unlink()
