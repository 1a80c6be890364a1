"""Writes procedural people as the published datasets lie on disk, so that their readers read them."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from mmreid_text.atomic_write import write_text
from mmreid_text.procedural.domains import World

_CUHK_FOLDERS = ("cam_a", "cam_b", "CUHK01", "CUHK03", "Market")
_LUPERSON_SOURCES = ("Ts-qwen", "Td-qwen", "Ts-shikra", "Td-shikra")
_JPEG_QUALITY = 95


@dataclass(frozen=True)
class _Row:
    """One image of the export."""

    split: str
    identity: int  # counted over all splits, from 0
    index: int  # number in the split's world
    view: int  # number among the identity's images
    number: int  # counted over all images, from 0
    captions: list[str]


@dataclass(frozen=True)
class _Layout:
    """How a published dataset lies on disk.

    Attributes:
        folder: Name under the data root.
        splits: Those that it has.
        image: Path of an image, relative to ``image_root``.
        image_root: Folder of images in ``folder``.
        annotations: Rows and their image paths -> contents of the JSON files, by path in ``folder``.
    """

    folder: str
    splits: tuple[str, ...]
    image: Callable[[_Row], str]
    image_root: str
    annotations: Callable[[list[tuple[_Row, str]]], dict[str, Any]]


def _cuhk_image(row: _Row) -> str:
    if row.split == "test":  # the published test images lie in these two folders too
        return f"{('test_query', 'train_query')[row.number % 2]}/p{row.identity}_s{row.number}.jpg"
    return f"{_CUHK_FOLDERS[row.number % len(_CUHK_FOLDERS)]}/{row.identity:05d}_{row.view:02d}.jpg"


def _cuhk_annotations(rows: list[tuple[_Row, str]]) -> dict[str, Any]:
    entries = [
        {
            "split": row.split,
            "captions": row.captions[:2],
            "file_path": path,
            "processed_tokens": [caption.lower().replace(",", "").strip(".").split() for caption in row.captions[:2]],
            "id": row.identity + 1,
        }
        for row, path in rows
    ]
    return {"reid_raw.json": entries}


def _icfg_annotations(rows: list[tuple[_Row, str]]) -> dict[str, Any]:
    entries = [
        {"split": row.split, "captions": row.captions[:1], "file_path": path, "id": row.identity} for row, path in rows
    ]
    return {"ICFG-PEDES.json": entries}


def _rstp_annotations(rows: list[tuple[_Row, str]]) -> dict[str, Any]:
    entries = [
        {"id": row.identity, "img_path": path, "captions": row.captions[:2], "split": row.split} for row, path in rows
    ]
    return {"data_captions.json": entries}


def _luperson_annotations(rows: list[tuple[_Row, str]]) -> dict[str, Any]:
    return {
        f"captions/{source}.json": {
            f"LUPerson/images/{path}": row.captions[i % len(row.captions)] for row, path in rows
        }
        for i, source in enumerate(_LUPERSON_SOURCES)
    }


LAYOUTS: dict[str, _Layout] = {
    "cuhk_pedes": _Layout("CUHK-PEDES", ("train", "val", "test"), _cuhk_image, "imgs", _cuhk_annotations),
    "icfg_pedes": _Layout(
        folder="ICFG-PEDES",
        splits=("train", "test"),
        image=lambda row: f"{row.split}/{row.identity:04d}/{row.identity:04d}_{row.view:03d}_01.jpg",
        image_root="imgs",
        annotations=_icfg_annotations,
    ),
    "rstpreid": _Layout(
        folder="RSTPReid",
        splits=("train", "val", "test"),
        image=lambda row: f"{row.identity:04d}_c{row.view + 1}_{row.number:06d}.jpg",
        image_root="imgs",
        annotations=_rstp_annotations,
    ),
    "luperson_mllm": _Layout(
        folder="LUPerson-MLLM",
        splits=("train",),
        image=lambda row: f"{row.number:07d}.jpg",
        image_root="images",
        annotations=_luperson_annotations,
    ),
}


def export(
    layout: str,
    data_root: str | os.PathLike[str],
    domain: str,
    num_ids: Mapping[str, int],
    images_per_id: int | None = None,
    size: tuple[int, int] = (384, 128),
    seed: int = 0,
    noise_rate: float = 0.2,
    overwrite: bool = False,
) -> Path:
    """Write a domain's people in a published layout; a run that was stopped goes on where it was.

    JPEGs appear whole or not at all, those that are there already stay, and the annotation comes last. Splits hold
    different identities, numbered as published: from 1 in CUHK-PEDES, from 0 elsewhere. CUHK-PEDES and RSTPReid take
    the first two captions of an image, ICFG-PEDES the first; LUPerson-MLLM has four, repeated where a domain writes
    fewer.

    Args:
        layout: 'cuhk_pedes', 'icfg_pedes', 'rstpreid' or 'luperson_mllm'.
        data_root: Folder above the dataset's own.
        domain: Name of a domain.
        num_ids: Identities per split; a split that the layout lacks must not be named.
        images_per_id: Images of each identity; None takes the domain's number.
        size: Height and width in pixels.
        seed: Seed of the world.
        noise_rate: Chance that a stated value is wrong (source domain only).
        overwrite: Whether other annotations that stand there, such as published captions, are replaced.

    Returns:
        The dataset's folder.

    Raises:
        FileExistsError: Other annotations stand there.
        ValueError: Unknown layout or split, or the folder holds an export with other settings.
    """
    form = _layout(layout, num_ids)
    folder = Path(data_root) / form.folder
    settings = {
        "domain": domain,
        "num_ids": dict(num_ids),
        "images_per_id": images_per_id,
        "size": list(size),
        "seed": seed,
        "noise_rate": noise_rate,
    }
    worlds = {
        split: World(domain, num_ids[split], images_per_id, seed, noise_rate, size, split)
        for split in form.splits
        if num_ids.get(split)
    }
    _claim(folder, settings)
    rows = _rows(form, worlds)
    annotations = {folder / name: _json(content) for name, content in form.annotations(rows).items()}
    if not overwrite:
        _refuse_others(annotations)
    with tqdm(rows, desc=form.folder, unit="image") as bar:
        for row, path in bar:
            _write_image(folder / form.image_root / path, worlds[row.split], row.index)
    for path, text in annotations.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    return folder


def _layout(name: str, num_ids: Mapping[str, int]) -> _Layout:
    """The layout of a name, which must have the splits that are asked for."""
    if name not in LAYOUTS:
        raise ValueError(f"layout {name!r} is unknown; choose one of {', '.join(LAYOUTS)}")
    form = LAYOUTS[name]
    strangers = [split for split in num_ids if split not in form.splits]
    if strangers or not num_ids:
        raise ValueError(f"{form.folder} has the splits {', '.join(form.splits)}, but not {strangers or 'none at all'}")
    return form


def _rows(form: _Layout, worlds: Mapping[str, World]) -> list[tuple[_Row, str]]:
    """Every row with its image path."""
    rows: list[tuple[_Row, str]] = []
    first_id = 0
    for split, world in worlds.items():
        for index in range(len(world)):
            captions = [caption.text for caption in world.captions(index)]
            identity = first_id + int(world.pid[index])
            row = _Row(split, identity, index, index % world.images_per_id, len(rows), captions)
            rows.append((row, form.image(row)))
        first_id += len(world.attributes)
    return rows


def _refuse_others(annotations: Mapping[Path, str]) -> None:
    """Raise where a file says something else than this export would write."""
    for path, text in annotations.items():
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise FileExistsError(
                f"{path} holds other captions than the people's own, as tools/caption.py --publish leaves them; pass "
                "--overwrite to replace them, or export to another data root"
            )


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Note the settings in the folder, or refuse one that was begun with others."""
    note = folder / "procedural.json"
    if note.exists():
        known = json.loads(note.read_text())
        other = [key for key in settings if known.get(key) != settings[key]]
        if other:
            raise ValueError(
                f"{folder} holds procedural people with {other[0]}={known.get(other[0])!r}, not "
                f"{settings[other[0]]!r}; export to another data root or delete that folder"
            )
    elif folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} holds data that is not procedural; export to another data root")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write_text(note, _json(settings))


def _write_image(path: Path, world: World, index: int) -> None:
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = cv2.cvtColor(world.render(index), cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    beside = path.with_suffix(".jpg.tmp")
    beside.write_bytes(data.tobytes())
    os.replace(beside, path)


def _json(content: object) -> str:
    return json.dumps(content, indent=1)
