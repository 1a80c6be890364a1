"""LUPerson-T's published layouts out of a caption table: JSON beside the images, and Arrow files that hold them."""

import itertools
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from operator import itemgetter
from pathlib import Path

import pyarrow as pa
from tqdm import tqdm

from mmreid_text.atomic_write import written_beside
from mmreid_text.captioning.image_sources import ImageSource
from mmreid_text.datasets.caption_table import CaptionTable
from mmreid_text.file_lock import alone
from mmreid_text.pseudo_text.composer import image_ids
from mmreid_text.randomness import uniform

JSON_NAME = "LUPerson-T.json"
#: Splits of the Arrow files and where each ends in [0, 1), as the authors' ``write_LUPerson.py`` draws them per image.
SPLIT_ENDS = {"test": 0.001, "val": 0.0015, "restval": 0.002, "train": 1.0}
_ARROW = pa.schema(
    [("image", pa.binary()), ("caption", pa.list_(pa.string())), ("image_id", pa.string()), ("split", pa.string())]
)
_ROWS = 256
"""Rows of a record batch."""


def publish_json(table: CaptionTable, folder: Path, images: Path | None) -> list[Path]:
    """Write ``LUPerson-T.json``, a list of ``{file_path, captions}``, and link ``images`` beside it.

    Args:
        table: Captions; those of one image follow each other.
        folder: Where to write; made where there is none.
        images: Folder of the images, linked as ``images`` unless that is there; None for none.

    Returns:
        The file, and the link if it was made.
    """
    path, written = folder / JSON_NAME, []
    with alone(folder / ".publish.lock"):  # processes of other machines may share it
        with written_beside(path) as beside, beside.open("w", encoding="utf-8") as file:
            between = "[\n"
            for name, captions in captions_by_image(table):
                entry = {"file_path": name, "captions": captions}
                file.write(between + json.dumps(entry, ensure_ascii=False))
                between = ",\n"
            file.write("\n]\n")
        written.append(path)
        link = folder / "images"
        if images is not None and not os.path.lexists(link):
            link.symlink_to(os.path.relpath(images, os.path.realpath(folder)))
            written.append(link)
    return written


def publish_arrow(table: CaptionTable, folder: Path, images: ImageSource, seed: int = 0) -> list[Path]:
    """Write ``LUPerson_{train,val,restval,test}.arrow`` with the image files in them.

    Columns are those of the authors: ``image`` (file content), ``caption`` (list), ``image_id`` (name) and ``split``.
    Each image is in test by a chance of 0.1%, in val and restval of 0.05% each, else in train, by hash of its name.

    Args:
        table: Captions; those of one image follow each other.
        folder: Where to write; made where there is none.
        images: Gives the files' content.
        seed: Of the splits.

    Returns:
        The four files.

    Raises:
        OSError: An image cannot be read.
    """
    paths = {split: folder / f"LUPerson_{split}.arrow" for split in SPLIT_ENDS}
    with ExitStack() as stack:
        stack.enter_context(alone(folder / ".publish.lock"))
        sinks = {}
        for split, path in paths.items():
            beside = stack.enter_context(written_beside(path))
            sink = stack.enter_context(pa.OSFile(str(beside), "wb"))
            sinks[split] = stack.enter_context(pa.ipc.new_file(sink, _ARROW))
        rows: dict[str, list[dict]] = {split: [] for split in SPLIT_ENDS}
        for name, captions in tqdm(captions_by_image(table), "Arrow files", unit="image", delay=2):
            split = split_of(name, seed)
            rows[split].append({"image": images.read(name), "caption": captions, "image_id": name, "split": split})
            if len(rows[split]) == _ROWS:
                sinks[split].write_batch(pa.RecordBatch.from_pylist(rows[split], _ARROW))
                rows[split] = []
        for split, rest in rows.items():
            if rest:
                sinks[split].write_batch(pa.RecordBatch.from_pylist(rest, _ARROW))
    return list(paths.values())


def split_of(name: str, seed: int = 0) -> str:
    """Split of an image in the Arrow files."""
    place = uniform(seed, 0, image_ids([name]), "LUPerson-T split", 1)[0, 0]
    return next(split for split, end in SPLIT_ENDS.items() if place < end)


def captions_by_image(table: CaptionTable) -> Iterator[tuple[str, list[str]]]:
    """Each image with its captions, without those that are said already."""
    rows = itertools.chain.from_iterable(
        zip(part["image"].to_pylist(), part["caption"].to_pylist()) for part in table.columns()
    )
    for name, group in itertools.groupby(rows, key=itemgetter(0)):
        yield name, list(dict.fromkeys(caption for _, caption in group))
