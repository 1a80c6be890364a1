"""What the readers of the published datasets share: finding, checking, comparing and choosing rows."""

import json
import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmengine.dist import is_main_process

from mmreid_text.datasets.caption_rows import SPLITS, Columns
from mmreid_text.datasets.caption_table import CaptionTable, check_table
from mmreid_text.datasets.image_store import ImageStore
from mmreid_text.datasets.splits import protocol_view
from mmreid_text.datasets.text_reid_dataset import TextReIDDataset, check_image_root, format_counts, log


class DataWarning(UserWarning):
    """A dataset on disk differs from what was published, in a counted way that training survives."""


@dataclass
class Tree:
    """A published folder, parsed and ready to stream; ``notes`` are complete after the last chunk."""

    chunks: Iterator[Columns]
    image_root: Path
    captions: int
    sources: Sequence[str] = ("",)
    notes: list[str] = field(default_factory=list)

    def warn(self, message: str) -> None:
        """Keep a remark for the table's summary and show it now."""
        self.notes.append(message)
        warn(message)


class PublishedDataset(TextReIDDataset):
    """Base of the readers: the published files of ``data_root``, or the table that was prepared from them.

    Args:
        data_root: Folder of the dataset, laid out as published (docs/data.md).
        split: 'train', 'val' or 'test'; see :func:`~mmreid_text.datasets.splits.protocol_view`.
        pipeline: Transforms or their configs.
        table: File that ``tools/prepare_data.py`` wrote. None takes ``<data_root>.arrow``, where that tool puts it, if
            it was made from the files as they are now, else reads the published JSON into memory.
        protocol: 'val', 'paper-val' or 'test-selected'.
        test_mode: Rows are images with all their captions; None means every split but 'train'.
        seed: Seed of augmentation. The choice of identities for validation does not depend on it.

    Raises:
        FileNotFoundError: A folder, the annotation file or the table is missing.
        ValueError: A file is not in the published format, or the table is another dataset's.
    """

    TITLE: ClassVar[str]
    PUBLISHED: ClassVar[Mapping[str, tuple[int, int, int]]]
    """Identities, images and captions per split."""
    TOLERANCE: ClassVar[float] = 0.0
    """Relative difference to the published counts that passes without a warning."""
    OWN_VAL: ClassVar[bool] = True

    def __init__(
        self,
        data_root: str | os.PathLike[str],
        split: str = "train",
        pipeline: Sequence[Any] = (),
        table: str | os.PathLike[str] | None = None,
        protocol: str = "val",
        test_mode: bool | None = None,
        seed: int = 0,
    ) -> None:
        root = Path(data_root)
        published = self.find(root) if table is None else self.map(table, root)
        self.counts = {name: tuple(row.values()) for name, row in published.info["summary"].items()}
        self.notes: list[str] = published.info.get("notes", [])
        self.protocol = protocol
        super().__init__(
            self.choose(published, split, protocol),
            pipeline,
            image_root=self.find_images(root),
            test_mode=split != "train" if test_mode is None else test_mode,
            seed=seed,
        )
        self.split = split
        self.compare()
        log(self.summary())
        if protocol == "test-selected" and split == "val":
            log(f"{self.name}: protocol='test-selected' validates on the test split, so results are selected on test.")

    @classmethod
    def find_images(cls, root: Path) -> Path:
        """Folder that image paths are relative to."""
        return root / "imgs"

    @classmethod
    def inputs(cls, root: Path) -> dict[str, list[int]]:
        """What a prepared table depends on, cheap to compare: sizes and times of the annotation files."""
        raise NotImplementedError

    @classmethod
    def read(cls, root: Path, work: Path | None = None) -> Tree:
        """Parse the published files, by way of files in the folder ``work`` where they are larger than memory."""
        raise NotImplementedError

    @classmethod
    def default_table(cls, root: Path) -> Path:
        """Where ``tools/prepare_data.py`` puts the table of ``root`` unless told, and where readers look for it."""
        root = Path(os.path.abspath(root))
        return root.with_name(f"{root.name}.arrow")

    @classmethod
    def finished_table(cls, path: Path, root: Path) -> CaptionTable | None:
        """The table, if made from ``root`` as it is; FileNotFoundError without annotation, ValueError if damaged."""
        if not path.exists():
            return None
        table = cls.map(path, root)
        return table if table.info.get("inputs") == cls.inputs(root) else None

    @classmethod
    def find(cls, root: Path) -> CaptionTable:
        """The prepared table beside ``root`` where it fits, else the published files, read into memory."""
        path = cls.default_table(root)
        table = cls.finished_table(path, root)
        if table is not None:
            log(f"{cls.TITLE}: mapping the prepared table {path}.")
            return table
        if path.exists():
            warn(
                f"{cls.TITLE}: {path} was made from other files than {root} holds now, so these are read instead. "
                f"Write it anew: python tools/prepare_data.py {cls.name} {root}"
            )
        return cls.load(root)

    @classmethod
    def load(cls, root: Path) -> CaptionTable:
        """Read the published files into memory."""
        tree = cls.read(root)
        return CaptionTable.from_chunks(
            tree.chunks, cls.name, str(tree.image_root), tree.sources, extra={"notes": tree.notes}
        )

    @classmethod
    def map(cls, path: str | os.PathLike[str], root: Path) -> CaptionTable:
        """Map a prepared table, refusing another dataset's."""
        table = CaptionTable.open(path)
        if table.name != cls.name:
            raise ValueError(
                f"{path} is the table of {table.name!r}, not of {cls.name!r}. "
                f"Prepare this dataset's with `python tools/prepare_data.py {cls.name} {root} --out ...`."
            )
        cls.check_files(data_root=root, table=path)
        return table

    @classmethod
    def check_files(cls, **cfg: Any) -> None:
        """Raise FileNotFoundError where a folder, the annotation or the table is missing; reads none of them."""
        root, table = Path(cfg["data_root"]), cfg.get("table")
        cls.check_root(root)
        if table is None:
            cls.check_annotation(root)
        else:
            check_table(table)
        check_image_root(cls.find_images(root), cls.TITLE)

    @classmethod
    def check_annotation(cls, root: Path) -> None:
        """Raise FileNotFoundError if the annotation files are missing."""
        raise NotImplementedError

    @classmethod
    def check_root(cls, root: Path) -> None:
        if not root.is_dir():
            raise FileNotFoundError(
                f"{cls.TITLE}: the data folder {root} does not exist. docs/data.md says how to get the dataset and "
                "where to put it; the environment variable DATA_ROOT points to the folder above it."
            )

    def choose(self, table: CaptionTable, split: str, protocol: str) -> CaptionTable:
        """Rows of the whole table that this instance holds."""
        return protocol_view(table, split, protocol, self.OWN_VAL)

    @classmethod
    def deviation(cls, counts: Mapping[str, Sequence[int]]) -> dict[str, str]:
        """Remark per split on how ``counts`` compare with the published ones."""
        remarks = {}
        for split, published in cls.PUBLISHED.items():
            found = counts.get(split, (0, 0, 0))
            near = all(abs(a - b) <= cls.TOLERANCE * b for a, b in zip(found, published))
            remarks[split] = "as published" if near else "published: " + " / ".join(f"{n:,}" for n in published)
        return remarks

    def compare(self) -> None:
        """Warn if the counts are not the published ones."""
        found = self.deviation(self.counts)
        other = [split for split, remark in found.items() if remark != "as published"]
        if other:
            rows = "; ".join(
                f"{split} has {' / '.join(f'{n:,}' for n in self.counts.get(split, (0, 0, 0)))} ({found[split]})"
                for split in other
            )
            warn(
                f"{self.TITLE}: identities / images / captions differ from the published counts: {rows}. "
                "Results do not compare with the literature; compare the download with docs/data.md."
            )

    def summary(self) -> str:
        """Counts of all splits beside the published ones, what this instance uses of them, and remarks."""
        used = f"{self.split}, here"
        counts = {**self.counts, used: (self.num_ids, self.num_images, self.num_captions)}
        marks = {**self.deviation(self.counts), used: f"protocol {self.protocol!r}"}
        return "\n".join([format_counts(self.name, counts, marks), *(f"  note: {note}" for note in self.notes)])


class BenchmarkDataset(PublishedDataset):
    """Base of the benchmarks: one JSON list with an entry per image, images in subfolders of ``imgs``."""

    ANNOTATION: ClassVar[str]
    IMAGE_KEY: ClassVar[str] = "file_path"

    @classmethod
    def check_annotation(cls, root: Path) -> None:
        cls._find_annotation(root)

    @classmethod
    def inputs(cls, root: Path) -> dict[str, list[int]]:
        return {cls.ANNOTATION: file_state(cls._find_annotation(root))}

    @classmethod
    def read(cls, root: Path, work: Path | None = None) -> Tree:
        path = cls._find_annotation(root)
        images = cls.find_images(root)
        check_image_root(images, cls.TITLE)
        tree = Tree(iter(()), images, 0)
        columns = _columns(read_json(path, list), path, cls.IMAGE_KEY, tree)
        _require_images(columns["image"], images, path)
        tree.chunks, tree.captions = iter([columns]), len(columns["caption"])
        return tree

    @classmethod
    def _find_annotation(cls, root: Path) -> Path:
        cls.check_root(root)
        path = root / cls.ANNOTATION
        if not path.is_file():
            beside = sorted(other.name for other in root.glob("*.json"))
            hint = f"Beside it lies {', '.join(beside[:3])}: rename that if it is the file." if beside else ""
            raise FileNotFoundError(
                f"{cls.TITLE}: the annotation file {path} is missing. It is often a download of its own beside the "
                f"images; docs/data.md says where it comes from. {hint}".rstrip()
            )
        return path


def warn(message: str) -> None:
    """Warn once per job, on the main process."""
    if is_main_process():
        warnings.warn(message, DataWarning, stacklevel=3)


def file_state(path: Path) -> list[int]:
    """Size in bytes and time of change in ns."""
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]


def read_json(path: Path, kind: type) -> Any:
    """Parse a JSON file whose top level must be of ``kind``.

    Raises:
        ValueError: It is no JSON, or of another kind.
    """
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}). Was the download cut short? Fetch it again.") from error
    if not isinstance(content, kind):
        found = f"{path} holds a JSON {type(content).__name__}"
        raise ValueError(f"{found}, but the published file is a {kind.__name__}. docs/data.md shows the format.")
    return content


def missing_files(root: Path, paths: Iterable[str]) -> list[str]:
    """Those of ``paths`` that do not exist under ``root``; lists each folder once instead of asking per file."""
    store = ImageStore.find(root)
    if store is not None:
        return [path for path in paths if store.index.find(path) is None]
    names: dict[str, set[str]] = {}
    missing = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in names:
            try:
                with os.scandir(root / folder) as entries:
                    names[folder] = {entry.name for entry in entries}
            except (FileNotFoundError, NotADirectoryError):
                names[folder] = set()
        if name not in names[folder]:
            missing.append(path)
    return missing


def _columns(entries: list[Any], path: Path, image_key: str, tree: Tree) -> dict[str, list[Any]]:
    """Order the entries by split and image, number images and identities, and flatten the captions."""
    images: dict[tuple[int, str], tuple[int, list[str]]] = {}
    empty = []
    for i, entry in enumerate(entries):
        split, image, identity, captions = _parse(entry, i, path, image_key)
        if not captions:
            empty.append(image)
            continue
        known, texts = images.setdefault((split, image), (identity, []))
        if known != identity:
            raise ValueError(f"{path}: image {image!r} has the ids {known} and {identity}; one of them is wrong.")
        texts.extend(captions)
    if empty:
        tree.warn(
            f"{path.name}: {len(empty):,} of {len(entries):,} entries have no caption (first: {empty[0]!r}); "
            "their images are left out. Fetch the file again, or add their captions."
        )
    if not images:
        raise ValueError(f"{path} holds no captioned image. Was it cut short? Fetch it again (docs/data.md).")
    _note_shared_images(images, path, tree)
    labels = {split: _label_ids(images, split, path, tree) for split in range(len(SPLITS))}
    columns: dict[str, list[Any]] = {key: [] for key in ("image", "caption", "pid", "image_id", "split")}
    seen: Counter[int] = Counter()
    for split, image in sorted(images):
        identity, texts = images[split, image]
        columns["image"] += [image] * len(texts)
        columns["caption"] += texts
        columns["pid"] += [labels[split][identity]] * len(texts)
        columns["image_id"] += [seen[split]] * len(texts)
        columns["split"] += [SPLITS[split]] * len(texts)
        seen[split] += 1
    return columns


def _parse(entry: Any, index: int, path: Path, image_key: str) -> tuple[int, str, int, list[str]]:
    """Split code, image path, id and captions of one entry."""
    where = f"{path}, entry {index}"
    if not isinstance(entry, dict):
        raise ValueError(f"{where} is a {type(entry).__name__}, but must be an object with {image_key!r} and captions.")
    missing = [key for key in ("split", image_key, "id") if key not in entry]
    if missing:
        raise ValueError(
            f"{where} lacks the key {missing[0]!r}; it has {sorted(entry)}. docs/data.md shows the format."
        )
    split, image, identity, captions = entry["split"], entry[image_key], entry["id"], entry.get("captions") or []
    if split not in SPLITS:
        raise ValueError(f"{where} has split {split!r}; allowed: {SPLITS}.")
    if not isinstance(image, str) or not image:
        raise ValueError(f"{where} has {image_key} {image!r}, but must name an image file.")
    if not isinstance(identity, int) or isinstance(identity, bool):
        raise ValueError(f"{where} (image {image!r}) has id {identity!r}, but must be a whole number.")
    if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
        raise ValueError(f"{where} (image {image!r}) has captions {captions!r:.80}, but must be a list of strings.")
    return SPLITS.index(split), image, identity, captions


def _note_shared_images(images: Iterable[tuple[int, str]], path: Path, tree: Tree) -> None:
    splits = defaultdict(set)
    for split, image in images:
        splits[image].add(SPLITS[split])
    shared = [image for image, names in splits.items() if len(names) > 1]
    if shared:
        tree.warn(
            f"{path.name}: {len(shared):,} images stand in more than one split (first: {shared[0]!r} in "
            f"{sorted(splits[shared[0]])}), so a test may see training images. Fetch the published file again."
        )


def _label_ids(
    images: Mapping[tuple[int, str], tuple[int, list[str]]], split: int, path: Path, tree: Tree
) -> dict[int, int]:
    """Labels 0..C-1 in the order of the ids; ids need not start at 0 and may have gaps, which are reported."""
    ids = sorted({identity for (code, _), (identity, _) in images.items() if code == split})
    if ids and ids[-1] - ids[0] + 1 > len(ids):
        first = ids[int(np.argmax(np.diff(ids) > 1))] + 1
        tree.warn(
            f"{path.name}: ids of split {SPLITS[split]!r} run from {ids[0]} to {ids[-1]} but "
            f"{ids[-1] - ids[0] + 1 - len(ids):,} of them are absent (first: {first}). Labels are 0..{len(ids) - 1} "
            "all the same; if the counts differ from the published ones, fetch the file again."
        )
    return {identity: label for label, identity in enumerate(ids)}


def _require_images(paths: list[str], root: Path, annotation: Path) -> None:
    images = list(dict.fromkeys(paths))
    missing = missing_files(root, images)
    if missing:
        folders = Counter(os.path.dirname(path) or "." for path in missing)
        where = ", ".join(f"{count:,} in {folder}/" for folder, count in folders.most_common(3))
        raise FileNotFoundError(
            f"{annotation.name}: {len(missing):,} of {len(images):,} images are not under {root}: {where} (first: "
            f"{missing[0]!r}). The download is incomplete or unpacked elsewhere; docs/data.md shows the folder layout."
        )
