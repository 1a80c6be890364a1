"""Small data roots in exactly the published layouts, with real JPEGs of 12 identities; plain texts of configs."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fork_safe import make_bars_safe
from PIL import Image
from plain_configs import plain

make_bars_safe()

CUHK_FOLDERS = ("cam_a", "cam_b", "CUHK01", "CUHK03", "Market", "test_query", "train_query")
SPLIT_OF = ["train"] * 8 + ["val"] * 2 + ["test"] * 2
COLOURS = ["black", "white", "red", "green", "blue", "grey", "brown", "pink", "yellow", "purple", "orange", "teal"]


@pytest.fixture(autouse=True, scope="session")
def plain_config_text() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yapf.yapflib.yapf_api.FormatCode", plain)
        yield


def write_jpeg(path: Path, seed: int) -> None:
    """A picture of 30 to 60 by 80 to 140 pixels."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (6, 3, 3), dtype=np.uint8)
    size = (int(rng.integers(30, 60)), int(rng.integers(80, 140)))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path, quality=90)


def sentences(identity: int, image: int, number: int) -> list[str]:
    return [
        f"A person in a {COLOURS[identity]} coat walks past camera {image}.",
        f"The {COLOURS[identity]} coat of view {image} hangs over dark trousers.",
    ][:number]


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def cuhk_root(tmp_path: Path) -> Path:
    """Data root with ``CUHK-PEDES``: ids from 1, two images and four captions each."""
    root, entries = tmp_path / "cuhk_root", []
    for identity, split in enumerate(SPLIT_OF):
        for view in range(2):
            name = f"{CUHK_FOLDERS[(2 * identity + view) % 7]}/{identity:04d}_{view}.jpg"
            captions = sentences(identity, view, 2)
            tokens = [caption.lower().strip(".").split() for caption in captions]
            write_jpeg(root / "CUHK-PEDES/imgs" / name, 2 * identity + view)
            entries.append(
                {
                    "split": split,
                    "captions": captions,
                    "file_path": name,
                    "processed_tokens": tokens,
                    "id": identity + 1,
                }
            )
    write_json(root / "CUHK-PEDES/reid_raw.json", entries)
    return root


@pytest.fixture
def icfg_root(tmp_path: Path) -> Path:
    """Data root with ``ICFG-PEDES``: ids from 0, no validation split, two images and two captions each."""
    root, entries = tmp_path / "icfg_root", []
    for identity in range(12):
        split = "train" if identity < 8 else "test"
        for view in range(2):
            folder = "test" if identity % 3 == 0 else "train"  # MSMT17's folders do not tell the split
            name = f"{folder}/{identity:04d}/{identity:04d}_{view:03d}_01_0303morning.jpg"
            write_jpeg(root / "ICFG-PEDES/imgs" / name, 100 + 2 * identity + view)
            entries.append(
                {"split": split, "captions": sentences(identity, view, 1), "file_path": name, "id": identity}
            )
    write_json(root / "ICFG-PEDES/ICFG-PEDES.json", entries)
    return root


@pytest.fixture
def rstp_root(tmp_path: Path) -> Path:
    """Data root with ``RSTPReid``: ids from 0, five images and ten captions each."""
    root, entries = tmp_path / "rstp_root", []
    for identity, split in enumerate(SPLIT_OF):
        for view in range(5):
            name = f"{identity:04d}_c{view}_{view:04d}.jpg"
            write_jpeg(root / "RSTPReid/imgs" / name, 200 + 5 * identity + view)
            entries.append({"id": identity, "img_path": name, "captions": sentences(identity, view, 2), "split": split})
    write_json(root / "RSTPReid/data_captions.json", entries)
    return root


@pytest.fixture
def luperson_root(tmp_path: Path) -> Path:
    """Data root with ``LUPerson-MLLM``: 32 images and four caption files that carry their author's paths."""
    root = tmp_path / "luperson_root"
    names = [f"{7 * i:06d}_{i % 3}.jpg" for i in range(32)]
    for i, name in enumerate(names):
        write_jpeg(root / "LUPerson-MLLM/images" / name, 300 + i)
    for source in ("Ts-qwen", "Td-qwen", "Ts-shikra", "Td-shikra"):
        captions = {
            f"/data0/author/LUPerson/images/{name}": f"{source}: somebody in a {COLOURS[i % 12]} coat, number {i}."
            for i, name in enumerate(names)
        }
        write_json(root / f"LUPerson-MLLM/captions/{source}.json", captions)
    return root
