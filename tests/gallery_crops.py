"""Small crops of random patches in a folder, and the model of the package."""

from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from mmreid_text.apis import TextReIDInferencer


@cache
def inferencer() -> TextReIDInferencer:
    """The small CLIP of the package, on the CPU."""
    return TextReIDInferencer(device="cpu")


def write_crop(path: Path, seed: int) -> None:
    """A picture of 20 by 40 pixels that its seed alone determines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 2, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((20, 40), Image.Resampling.BICUBIC).save(path)


def write_crops(folder: Path, count: int) -> list[str]:
    """Crops of two folders and three cameras; their names."""
    names = [f"{'night/' if i % 2 else ''}{i:03d}_c{i % 3}.png" for i in range(count)]
    for i, name in enumerate(names):
        write_crop(folder / name, i)
    return sorted(names)
