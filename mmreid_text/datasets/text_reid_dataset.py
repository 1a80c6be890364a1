"""The dataset contract: a training sample is one (image, caption) pair, a test row is one image with its captions."""

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.logging import print_log
from torch.utils.data import Dataset

from mmreid_text.datasets.caption_table import CaptionTable
from mmreid_text.datasets.caption_tokens import CaptionTokens, open_caption_tokens, tokens_path
from mmreid_text.datasets.image_store import ImageStore, is_url
from mmreid_text.datasets.shared_array import SharedArray
from mmreid_text.registry import DATASETS, TRANSFORMS


class Offsets(NamedTuple):
    """What a join of datasets adds to a member's ids."""

    pid: int = 0
    image_id: int = 0
    caption_id: int = 0


@DATASETS.register_module()
class TextReIDDataset(Dataset):
    """Image-text pairs of a caption table.

    In training the length is the number of captions, and an item is
    ``pipeline(dict(img_path, caption, pid, image_id, caption_id, draw_key))``, where ``caption_id`` is the row in this
    dataset and ``draw_key = (seed, epoch, caption_id)`` feeds the random transforms. In testing the length is the
    number of images, and an item is ``pipeline(dict(img_path, captions, pid, image_id, caption_id, dataset))``, with
    all captions of the image, the first one's row as ``caption_id`` and this dataset's name.
    ``pid`` and ``image_id`` count from 0 without gaps, in the table's order of ids.

    Where the table's tokens lie beside it (:mod:`~mmreid_text.datasets.caption_tokens`), an item carries them to
    ``Tokenize`` as ``token_ids``. Tokens that are damaged or belong to another table or tokenizer are passed over with
    a warning.

    A subclass that draws its images gives them as ``img`` uint8 (H, W, 3) RGB from :meth:`image_fields`.

    Args:
        table: The rows, or the path of a file that :func:`~mmreid_text.datasets.caption_table.write_caption_table`
            wrote.
        pipeline: Transforms or their configs.
        image_root: Folder of the images, or folder or URL of an image store (``tools/pack_images.py``); None takes the
            table's own. Images that the store left out as unreadable are left out of the rows, too, with a warning.
        test_mode: Rows are images rather than captions; None means every ``split`` but 'train'.
        seed: Seed of augmentation.
        split: Keep one split of the table; None keeps all rows, which must be of one split.
        name: Name in results and logs; None takes the class's or the table's.

    Raises:
        FileNotFoundError: The table or the image folder does not exist.
        ValueError: The file is no caption table, no rows remain, or rows of several splits, whose ids mean different
            identities.

    Config::

        dict(type='TextReIDDataset', table='data/mine.arrow', split='train', pipeline=train_pipeline)
    """

    name: str
    """In results and logs; a reader states it on the class."""

    def __init__(
        self,
        table: CaptionTable | str | os.PathLike[str],
        pipeline: Sequence[Any],
        image_root: str | os.PathLike[str] | None = None,
        test_mode: bool | None = None,
        seed: int = 0,
        split: str | None = None,
        name: str | None = None,
    ) -> None:
        table = table if isinstance(table, CaptionTable) else CaptionTable.open(table)
        self.table = table if split is None else table.split(split)
        self.name = name or str(getattr(self, "name", table.name))
        self.split = split
        root = table.image_root if image_root is None else image_root
        self.image_root = root if is_url(root) else Path(root)
        self._store: ImageStore | None = None
        if self._reads_files():
            check_image_root(self.image_root, self.name)
            self._store = ImageStore.find(self.image_root)
        if self._store is not None:
            self.table = self._store.without_left_out(self.table)
        if not len(self.table):
            raise ValueError(f"Dataset {self.name!r} has no captions left; check its split, sources and protocol.")
        if len(self.table.splits) > 1:
            raise ValueError(f"Dataset {self.name!r} holds the splits {self.table.splits}; set `split` to one of them.")
        self.pipeline = [TRANSFORMS.build(step) if isinstance(step, Mapping) else step for step in pipeline]
        self.test_mode = split not in (None, "train") if test_mode is None else test_mode
        # Workers that persist over epochs see changes only through shared memory.
        self._seed_and_epoch = torch.tensor([seed, 0], dtype=torch.int64).share_memory_()
        self._pids, self.num_ids = _labels(self.table.parts("pid"))
        self._image_ids, self.num_images = _labels(self.table.parts("image_id"))
        self._first_rows = SharedArray(self.table.first_rows()) if self.test_mode else None
        self.tokens = _find_tokens(self.table)

    @classmethod
    def result_name(cls, **cfg: Any) -> str:
        """The ``name`` in results of a dataset with the arguments ``cfg``, without building it.

        Raises:
            ValueError: Neither they nor the class state one.
        """
        name = cfg.get("name") or getattr(cls, "name", None)
        if not name:
            raise ValueError(f"{cls.__name__} states no name for its results: set `name` in its config.")
        return str(name)

    @classmethod
    def check_files(cls, **cfg: Any) -> None:
        """Raise FileNotFoundError where the table or the image folder that the arguments ``cfg`` name is missing."""
        table, root = cfg.get("table"), cfg.get("image_root")
        if isinstance(table, (str, os.PathLike)):
            table = CaptionTable.open(table)
        if isinstance(table, CaptionTable) and cls._reads_files():
            check_image_root(table.image_root if root is None else root, cfg.get("name") or table.name)

    @classmethod
    def _reads_files(cls) -> bool:
        return cls.image_fields is TextReIDDataset.image_fields

    def __len__(self) -> int:
        return len(self.table) if self._first_rows is None else len(self._first_rows) - 1

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.item(index, Offsets())

    @property
    def num_captions(self) -> int:
        return len(self.table)

    @property
    def identities(self) -> np.ndarray:
        """Sorted distinct ``pid`` of the items, int64 (num_ids,)."""
        return np.arange(self.num_ids)

    def caption_pids(self) -> np.ndarray:
        """``pid`` of every caption as items carry it, int64 (num_captions,), in new memory."""
        pids = np.concatenate(list(self.table.parts("pid")))
        return pids if self._pids is None else np.searchsorted(self._pids.values, pids)

    @property
    def fingerprint(self) -> str:
        """Identifies the rows, in order: state kept per ``caption_id`` is valid for this fingerprint only."""
        return self.table.fingerprint

    @property
    def metainfo(self) -> dict[str, Any]:
        return {"name": self.name, "split": self.split, "num_ids": self.num_ids}

    @property
    def seed(self) -> int:
        return int(self._seed_and_epoch[0])

    @property
    def epoch(self) -> int:
        return int(self._seed_and_epoch[1])

    def caption(self, row: int) -> str:
        """Caption of a row, counted as ``caption_id`` counts, whatever the mode."""
        return self.table.caption(row)

    def set_seed(self, seed: int) -> None:
        """Let all workers augment by ``seed`` from their next sample on."""
        self._seed_and_epoch[0] = seed

    def set_epoch(self, epoch: int) -> None:
        """Let all workers augment as in epoch ``epoch`` (from 0) from their next sample on."""
        self._seed_and_epoch[1] = epoch

    def item(self, index: int, offsets: Offsets) -> dict[str, Any]:
        """Item ``index``, its ids raised by ``offsets`` before the pipeline draws by them."""
        if not 0 <= index < len(self):
            raise IndexError(f"Index {index} lies outside dataset {self.name!r} of {len(self)} items.")
        row = index if self._first_rows is None else int(self._first_rows.values[index])
        pid, image_id = self.table.ids(row)
        sample: dict[str, Any] = self.image_fields(row)
        sample["pid"] = _label(self._pids, pid) + offsets.pid
        sample["image_id"] = _label(self._image_ids, image_id) + offsets.image_id
        sample["caption_id"] = row + offsets.caption_id
        if self._first_rows is None:
            rows = range(row, row + 1)
            captions = [self.table.caption(row)]
            sample["caption"] = captions[0]
            sample["draw_key"] = (self.seed, self.epoch, sample["caption_id"])
        else:
            rows = range(row, int(self._first_rows.values[index + 1]))
            captions = sample["captions"] = [self.table.caption(r) for r in rows]
            sample["dataset"] = self.name
        if self.tokens is not None:
            sample["token_ids"] = [(c, self.tokens[self.table.position(r)]) for c, r in zip(captions, rows)]
        for step in self.pipeline:
            sample = step(sample)
            if sample is None:
                raise ValueError(f"{type(step).__name__} dropped item {index} of dataset {self.name!r}.")
        return sample

    def image_fields(self, row: int) -> dict[str, Any]:
        """``img_path`` of a row, with the file's content as ``img_bytes`` where it lies in an image store.

        A subclass that draws its images gives ``img`` uint8 (H, W, 3) RGB instead.
        """
        name = self.table.image(row)
        path = os.path.join(self.image_root, name)
        return {"img_path": path} if self._store is None else {"img_path": path, "img_bytes": self._store.read(name)}

    def summary(self) -> str:
        """Identities, images and captions as a printable table."""
        return format_counts(self.name, {self.split or "all": (self.num_ids, self.num_images, self.num_captions)})


def format_counts(title: str, counts: Mapping[str, Sequence[int]], marks: Mapping[str, str] | None = None) -> str:
    """Lay out (identities, images, captions) per split, with an optional remark behind each."""
    lines = [f"{title:<16}{'identities':>12}{'images':>12}{'captions':>12}"]
    for split, numbers in counts.items():
        row = f"  {split:<14}" + "".join(f"{number:>12,}" for number in numbers)
        lines.append(f"{row}  {(marks or {}).get(split, '')}".rstrip())
    return "\n".join(lines)


def check_image_root(root: str | os.PathLike[str], name: str) -> None:
    """Raise FileNotFoundError, with the page that says how to get the data, if the image folder is missing."""
    if not is_url(root) and not os.path.isdir(root):
        raise FileNotFoundError(f"{name}: the image folder {root} does not exist. docs/data.md says how to get it.")


def log(message: str) -> None:
    """Log once per job, on the main process."""
    if is_main_process():
        print_log(message, logger="current")


def _find_tokens(table: CaptionTable) -> CaptionTokens | None:
    try:
        return open_caption_tokens(table)
    except ValueError as error:
        if is_main_process():
            warnings.warn(
                f"{tokens_path(table)} is passed over: {error}. Captions are tokenized as they are read, which is "
                "slower; write it anew with `python tools/prepare_data.py` (docs/data.md), or remove it.",
                stacklevel=3,
            )
        return None


def _labels(parts: Iterable[np.ndarray]) -> tuple[SharedArray | None, int]:
    """Sorted distinct ids (None where they are 0..n-1 already) and their number."""
    known = _drop_repeats(np.concatenate([_drop_repeats(part) for part in parts]))
    if (np.diff(known) < 0).any():  # a sort of all ids would take most of the time of opening a table
        known = np.unique(known)
    if known[0] == 0 and known[-1] == len(known) - 1:
        return None, len(known)
    return SharedArray(known), len(known)


def _drop_repeats(ids: np.ndarray) -> np.ndarray:
    return ids[np.diff(ids, prepend=ids[0] - 1) != 0]


def _label(known: SharedArray | None, value: int) -> int:
    return value if known is None else int(np.searchsorted(known.values, value))
