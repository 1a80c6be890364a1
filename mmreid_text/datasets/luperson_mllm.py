"""LUPerson-MLLM (Tan et al., Harnessing the Power of MLLMs for Transferable Text-to-Image Person ReID, CVPR 2024)."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from mmreid_text.datasets.caption_rows import Columns
from mmreid_text.datasets.caption_table import CaptionTable
from mmreid_text.datasets.image_names import image_names, name_hashes
from mmreid_text.datasets.luperson_join import DIRTY, SOURCES, Findings, join
from mmreid_text.datasets.published import PublishedDataset, Tree, file_state
from mmreid_text.datasets.sorted_runs import CaptionRuns, SortedNames
from mmreid_text.datasets.text_reid_dataset import log
from mmreid_text.randomness import uniform
from mmreid_text.registry import DATASETS

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
        hashes = name_hashes(cls.find_images(root))
        # A sum modulo 2^64, as folders are listed in any order.
        return {**states, "images": [len(hashes), int(hashes.sum(dtype=np.uint64))]}

    @classmethod
    def load(cls, root: Path) -> CaptionTable:
        log(f"{cls.TITLE}: reading the published JSON into memory; `tools/prepare_data.py` writes a table that maps.")
        return super().load(root)

    @classmethod
    def read(cls, root: Path, work: Path | None = None) -> Tree:
        files = _caption_files(root)
        images = cls.find_images(root)
        names = SortedNames(image_names(images), CHUNK_IMAGES, work)
        if not names.count:
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
        captions = {}
        for source, path in files.items():
            captions[source] = CaptionRuns(path, work)
            log(f"{path.name}: {captions[source].count:,} captions; {names.count:,} images")
        tree.captions = sum(runs.count for runs in captions.values())
        tree.chunks = cls._rows(names, captions, work, tree)
        return tree

    @classmethod
    def _rows(
        cls, names: SortedNames, captions: Mapping[str, CaptionRuns], work: Path | None, tree: Tree
    ) -> Iterator[Columns]:
        found = Findings()
        yield from join(names, captions, work, found)
        if not any(found.count(f"{source} known") for source in captions):
            raise FileNotFoundError(
                f"{cls.TITLE}: no caption belongs to one of the {names.count:,} images in {tree.image_root}. Captions "
                "and images are joined by file name; were the files renamed?"
            )
        _report(names, captions, found, tree)


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


def _report(names: SortedNames, files: Mapping[str, CaptionRuns], found: Findings, tree: Tree) -> None:
    """Remark on what the join came across."""
    for source, runs in files.items():
        if strangers := found.count(f"{source} strangers"):
            tree.warn(
                f"{runs.path.name}: {strangers:,} of {runs.count:,} captions belong to images that are not in "
                f"{tree.image_root} (first: {found.first(f'{source} strangers')!r}); they are left out. Fetch the rest "
                "of the images to use them."
            )
        if doubles := found.count(f"{source} doubles"):
            tree.warn(
                f"{runs.path.name}: {doubles:,} captions share their file name with another path's (first: "
                f"{found.first(f'{source} doubles')!r}); the last of each is used. Captions are joined by file name."
            )
    marks = " or ".join(map(repr, DIRTY))
    if swapped := found.count("swapped"):
        tree.notes.append(f"{swapped:,} captions with {marks} took a static caption's text.")
    if dropped := found.count("dropped"):
        tree.warn(
            f"{dropped:,} captions contain {marks} and their image has no clean static caption to take instead (first: "
            f"{found.first('dropped')!r}); they are left out, and {found.count('lost'):,} images with them. Write new "
            "captions for these images to keep them."
        )
    if bare := found.count("bare"):
        tree.warn(
            f"{bare:,} of {names.count:,} images have a caption in none of the files (first: "
            f"{found.first('bare')!r}); they are left out. That is as published where the folder holds all of "
            "LUPerson, of which 1.0 M images have captions; else fetch the caption files again."
        )
    if partial := found.count("partial"):
        tree.warn(
            f"{partial:,} of {names.count:,} images have captions in some of the {len(files)} files only (first: "
            f"{found.first('partial')!r}); they train with those. Fetch the caption files again if unexpected."
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
