"""LUPerson-MLLM (Tan et al., Harnessing the Power of MLLMs for Transferable Text-to-Image Person ReID, CVPR 2024)."""

import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmreid_text.datasets.caption_rows import Columns
from mmreid_text.datasets.caption_table import CaptionTable
from mmreid_text.datasets.published import PublishedDataset, Tree, file_state, read_json
from mmreid_text.datasets.text_reid_dataset import log
from mmreid_text.randomness import uniform
from mmreid_text.registry import DATASETS

SOURCES = ("Ts-qwen", "Td-qwen", "Ts-shikra", "Td-shikra")
STATIC = np.array([source.startswith("Ts-") for source in SOURCES])
"""Captions after one fixed instruction; the others follow sentence templates ("dynamic")."""
DIRTY = ("description]", "<")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
CHUNK_IMAGES = 16_384
SUBSET_SEED = 0


@DATASETS.register_module()
class LUPersonMLLM(PublishedDataset):
    """LUPerson-MLLM: 1.0 M images without identities, each with four captions by two multi-modal LLMs.

    Reads ``{Ts,Td}-{qwen,shikra}.json`` in ``captions/`` or ``caption/``, each a dict of path or file name to caption,
    joined by file name with the ``.jpg`` files of ``images/`` (or of ``data_root`` itself). ``pid`` is the image row,
    so an image's captions are positives of each other.

    The published cleaning rule: a caption with ``description]`` or ``<`` in it is swapped for a random static (``Ts-``)
    caption of its image. Here the swap takes clean captions only and is drawn from a hash of the file name; where the
    image has no clean static caption the row is left out and counted.

    There is one split, 'train', under every protocol. Other arguments and errors are those of
    :class:`~mmreid_text.datasets.published.PublishedDataset`.

    Args:
        sources: Caption files to train on, by name without ``.json`` (the paper's Table 1); None takes all.
        num_images: Size of a random subset of the images, the same in every run; a smaller one lies within a larger
            one. It is drawn before ``sources`` are chosen. None takes all.

    Config::

        dict(type='LUPersonMLLM', data_root='data/LUPerson-MLLM', pipeline=train_pipeline,
             sources=['Ts-qwen', 'Td-qwen'], num_images=100_000)
    """

    name = "luperson_mllm"
    TITLE = "LUPerson-MLLM"
    # The paper gives rounded numbers.
    PUBLISHED: ClassVar = {"train": (1_000_000, 1_000_000, 4_000_000)}
    TOLERANCE = 0.05

    def __init__(
        self,
        data_root: str | os.PathLike[str],
        split: str = "train",
        pipeline: Sequence[Any] = (),
        table: str | os.PathLike[str] | None = None,
        protocol: str = "val",
        sources: Sequence[str] | None = None,
        num_images: int | None = None,
        test_mode: bool | None = None,
        seed: int = 0,
    ) -> None:
        if split != "train":
            raise ValueError(f"LUPerson-MLLM has the split 'train' only, but split={split!r} was asked for.")
        self.sources = None if sources is None else list(sources)
        self.subset = num_images
        super().__init__(data_root, split, pipeline, table, protocol, test_mode, seed)

    def choose(self, table: CaptionTable, split: str, protocol: str) -> CaptionTable:
        rows = super().choose(table, "train", "test-selected")
        if self.subset is not None:
            rows = _subset(rows, self.subset)
        return rows if self.sources is None else rows.filter_sources(self.sources)

    @classmethod
    def find_images(cls, root: Path) -> Path:
        return root / "images" if (root / "images").is_dir() else root

    @classmethod
    def check_annotation(cls, root: Path) -> None:
        _caption_files(root)

    @classmethod
    def inputs(cls, root: Path) -> dict[str, list[int]]:
        states = {path.name: file_state(path) for path in _caption_files(root).values()}
        return {**states, "images": [len(_list_images(cls.find_images(root)))]}

    @classmethod
    def load(cls, root: Path) -> CaptionTable:
        log(f"{cls.TITLE}: reading the published JSON into memory; `tools/prepare_data.py` writes a table that maps.")
        return super().load(root)

    @classmethod
    def read(cls, root: Path) -> Tree:
        files = _caption_files(root)
        images = cls.find_images(root)
        names = _list_images(images)
        if not len(names):
            raise FileNotFoundError(
                f"{cls.TITLE}: no .jpg image lies in {root / 'images'} or {root}. docs/data.md says how to get them."
            )
        tree = Tree(iter(()), images, 0, sources=SOURCES)
        if len(files) < len(SOURCES):
            absent = [f"{source}.json" for source in SOURCES if source not in files]
            tree.warn(
                f"{cls.TITLE}: {len(absent)} of 4 caption files are absent ({', '.join(absent)}); images keep the "
                "captions of the others. Fetch them too to train as published."
            )
        captions = {source: _read_captions(path, names, tree) for source, path in files.items()}
        tree.captions = sum(part.count for part in captions.values())
        if not tree.captions:
            raise FileNotFoundError(
                f"{cls.TITLE}: no caption belongs to one of the {len(names):,} images in {images}. Captions and images "
                "are joined by file name; were the files renamed?"
            )
        tree.chunks = _join(names, captions, tree)
        return tree


@dataclass
class _Captions:
    """Captions of one file; ``position[i]`` is the caption of image ``i``, or -1."""

    texts: pa.LargeStringArray
    position: np.ndarray
    count: int


def _caption_files(root: Path) -> dict[str, Path]:
    LUPersonMLLM.check_root(root)
    for folder in (root / "captions", root / "caption"):
        files = {source: folder / f"{source}.json" for source in SOURCES}
        found = {source: path for source, path in files.items() if path.is_file()}
        if found:
            return found
    raise FileNotFoundError(
        f"LUPerson-MLLM: no caption file ({', '.join(f'{source}.json' for source in SOURCES)}) lies in "
        f"{root / 'captions'} or {root / 'caption'}. docs/data.md says how to get them."
    )


def _list_images(folder: Path) -> pa.StringArray:
    with os.scandir(folder) as entries:
        return pa.array(sorted(e.name for e in entries if e.name.lower().endswith(IMAGE_SUFFIXES)), pa.string())


def _read_captions(path: Path, names: pa.StringArray, tree: Tree) -> _Captions:
    content = read_json(path, dict)
    files = pa.array([key.replace("\\", "/").rsplit("/", 1)[-1] for key in content], pa.string())
    try:
        texts = pa.array(content.values(), pa.large_string(), size=len(content))
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        texts = None
    if texts is None or texts.null_count:
        key, value = next((k, v) for k, v in content.items() if not isinstance(v, str))
        raise ValueError(f"{path}: the caption of {key!r} is {value!r:.80}, but must be one string.")
    del content
    image = pc.index_in(files, value_set=names)
    known = np.flatnonzero(image.is_valid().to_numpy(zero_copy_only=False))
    position = np.full(len(names), -1, dtype=np.int64)
    position[image.drop_null().to_numpy()] = known
    count = int((position >= 0).sum())
    strangers = len(files) - len(known)
    if strangers:
        first = files[int(np.argmin(image.is_valid().to_numpy(zero_copy_only=False)))].as_py()
        tree.warn(
            f"{path.name}: {strangers:,} of {len(files):,} captions belong to images that are not in "
            f"{tree.image_root} (first: {first!r}); they are left out. Fetch the rest of the images to use them."
        )
    if len(known) > count:
        twice = known[position[image.drop_null().to_numpy()] != known]
        tree.warn(
            f"{path.name}: {len(known) - count:,} captions share their file name with another path's (first: "
            f"{files[int(twice[0])].as_py()!r}); the last of each is used. Captions are joined by file name."
        )
    log(f"{path.name}: {count:,} captions of {len(names):,} images")
    return _Captions(texts, position, count)


def _join(names: pa.StringArray, captions: Mapping[str, _Captions], tree: Tree) -> Iterator[Columns]:
    """Rows in image order, each image's captions side by side in the order of ``SOURCES``, cleaned."""
    written = swapped = 0
    dropped: list[str] = []
    held: np.ndarray = np.zeros(len(names), dtype=np.int8)  # captions per image as found
    lost = np.zeros(len(names), dtype=bool)
    for start in range(0, len(names), CHUNK_IMAGES):
        stop = min(start + CHUNK_IMAGES, len(names))
        image, source, texts = _interleave(captions, start, stop)
        held[start:stop] = np.bincount(image, minlength=stop - start)
        chunk_names = names.slice(start, stop - start)
        replacement, keep = _clean(image, source, texts, chunk_names)
        swapped += int((keep & (replacement != np.arange(len(image)))).sum())
        dropped += [chunk_names[int(i)].as_py() for i in image[~keep]]
        rows = replacement[keep]
        image, source = image[keep], source[keep]
        if not len(image):
            lost[start:stop] = held[start:stop] > 0
            continue
        kept, row_image = np.unique(image, return_inverse=True)
        lost[start:stop] = held[start:stop] > 0
        lost[start + kept] = False
        image_id = row_image + written
        written += len(kept)
        yield {
            "image": chunk_names.take(pa.array(image)),
            "caption": texts.take(pa.array(rows)).cast(pa.string()),
            "pid": image_id,
            "image_id": image_id,
            "source": pa.array(SOURCES).take(pa.array(source)),
            "split": "train",
        }
    _report(names, held, lost, len(captions), swapped, dropped, tree)


def _interleave(
    captions: Mapping[str, _Captions], start: int, stop: int
) -> tuple[np.ndarray, np.ndarray, pa.LargeStringArray]:
    """Image (from 0 in the chunk), source code and text of every caption of images ``start`` to ``stop``."""
    images, sources, texts = [], [], []
    for source, part in captions.items():
        position = part.position[start:stop]
        present = np.flatnonzero(position >= 0)
        images.append(present)
        sources.append(np.full(len(present), SOURCES.index(source)))
        texts.append(part.texts.take(pa.array(position[present])))
    image, source_code = np.concatenate(images), np.concatenate(sources)
    order = np.lexsort((source_code, image))
    return image[order], source_code[order], pa.concat_arrays(texts).take(pa.array(order))


def _clean(
    image: np.ndarray, source: np.ndarray, texts: pa.LargeStringArray, names: pa.StringArray
) -> tuple[np.ndarray, np.ndarray]:
    """The row whose text each row takes, and which rows have a clean one."""
    dirty = np.zeros(len(image), dtype=bool)
    for mark in DIRTY:
        dirty |= pc.match_substring(texts, mark).to_numpy(zero_copy_only=False)
    replacement, keep = np.arange(len(image)), np.ones(len(image), dtype=bool)
    rows = np.flatnonzero(dirty)
    if not len(rows):
        return replacement, keep
    clean_static = np.flatnonzero(~dirty & STATIC[source])
    candidates = np.full((len(SOURCES), len(names)), -1, dtype=np.int64)
    candidates[source[clean_static], image[clean_static]] = clean_static
    choice = candidates[:, image[rows]]  # (sources, dirty rows)
    number = (choice >= 0).sum(axis=0)
    keys = np.array([zlib.crc32(names[int(i)].as_py().encode()) for i in image[rows]], dtype=np.int64)
    draws = uniform(0, 0, keys, "LUPersonMLLM.clean", len(SOURCES))[np.arange(len(rows)), source[rows]]
    wanted = np.floor(draws * number).astype(np.int64)
    chosen = np.argmax((np.cumsum(choice >= 0, axis=0) == wanted + 1) & (choice >= 0), axis=0)
    found = number > 0
    replacement[rows[found]] = choice[chosen, np.arange(len(rows))][found]
    keep[rows[~found]] = False
    return replacement, keep


def _report(
    names: pa.StringArray,
    held: np.ndarray,
    lost: np.ndarray,
    files: int,
    swapped: int,
    dropped: list[str],
    tree: Tree,
) -> None:
    if swapped:
        tree.notes.append(f"{swapped:,} captions with {' or '.join(map(repr, DIRTY))} took a static caption's text.")
    if dropped:
        tree.warn(
            f"{len(dropped):,} captions contain {' or '.join(map(repr, DIRTY))} and their image has no clean static "
            f"caption to take instead (first: {dropped[0]!r}); they are left out, and {int(lost.sum()):,} images with "
            "them. Write new captions for these images to keep them."
        )
    bare = np.flatnonzero(held == 0)
    if len(bare):
        tree.warn(
            f"{len(bare):,} of {len(names):,} images have a caption in none of the files (first: "
            f"{names[int(bare[0])].as_py()!r}); they are left out. That is as published where the folder holds all of "
            "LUPerson, of which 1.0 M images have captions; else fetch the caption files again."
        )
    partial = np.flatnonzero((held > 0) & (held < files))
    if len(partial):
        tree.warn(
            f"{len(partial):,} of {len(names):,} images have captions in some of the {files} files only (first: "
            f"{names[int(partial[0])].as_py()!r}); they train with those. Fetch the caption files again if unexpected."
        )


def _subset(table: CaptionTable, num_images: int) -> CaptionTable:
    image = table.image_id
    known = np.unique(image)
    if not 0 < num_images <= len(known):
        raise ValueError(f"num_images={num_images:,} must lie in 1..{len(known):,}, the images of {table.name!r}.")
    order = np.argsort(uniform(SUBSET_SEED, 0, known, "LUPersonMLLM.num_images", 1)[:, 0], kind="stable")
    chosen = np.zeros(int(known[-1]) + 1, dtype=bool)
    chosen[known[order[:num_images]]] = True
    return table.select(np.flatnonzero(chosen[image]))
