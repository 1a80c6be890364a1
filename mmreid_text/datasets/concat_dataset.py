"""Joins datasets for training and for testing."""

import hashlib
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from mmreid_text.datasets.text_reid_dataset import Offsets, TextReIDDataset
from mmreid_text.registry import DATASETS


@DATASETS.register_module()
class ConcatDataset(Dataset):
    """Several datasets one after another.

    A member's ``pid``, ``image_id`` and ``caption_id`` are raised by the number of identities, images and captions of
    the members before it, so that all three stay unique and without gaps. In testing, items carry the member's name
    as ``dataset`` and metrics are reported for each.

    Args:
        datasets: Members or their configs, all in training mode or all in test mode.
        ignore_keys: Keys left out of ``metainfo``, besides those on which the members differ.

    Raises:
        ValueError: There is no member, modes are mixed, or two members in test mode share a name.

    Config::

        dict(type='ConcatDataset', datasets=[cuhk_test, icfg_test, rstp_test], ignore_keys=['name'])
    """

    name: str
    test_mode: bool
    num_ids: int
    num_images: int

    def __init__(
        self,
        datasets: Sequence["TextReIDDataset | ConcatDataset | dict[str, Any]"],
        ignore_keys: str | Sequence[str] | None = None,
    ) -> None:
        self.datasets: list[TextReIDDataset | ConcatDataset] = [
            DATASETS.build(member) if isinstance(member, Mapping) else member for member in datasets
        ]
        if not self.datasets:
            raise ValueError("ConcatDataset needs at least one dataset, but got none.")
        modes = {member.test_mode for member in self.datasets}
        names = [member.name for member in self.datasets]
        if len(modes) > 1:
            raise ValueError(
                f"ConcatDataset cannot join training and test mode: {names}; set `test_mode` alike in all."
            )
        self.test_mode = modes.pop()
        if self.test_mode and len(set(names)) < len(names):
            raise ValueError(f"Two test datasets share a name, so would their results: {names}; set `name` in one.")
        self.name = "+".join(names)
        self._ignore_keys = {ignore_keys} if isinstance(ignore_keys, str) else set(ignore_keys or ())
        self._stops = list(accumulate(len(member) for member in self.datasets))
        self._offsets = [
            Offsets(
                *(sum(getattr(m, key) for m in self.datasets[:i]) for key in ("num_ids", "num_images", "num_captions"))
            )
            for i in range(len(self.datasets))
        ]
        self.num_ids = sum(member.num_ids for member in self.datasets)
        self.num_images = sum(member.num_images for member in self.datasets)

    def __len__(self) -> int:
        return self._stops[-1]

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.item(index, Offsets())

    @property
    def num_captions(self) -> int:
        return sum(member.num_captions for member in self.datasets)

    @property
    def identities(self) -> np.ndarray:
        """Sorted distinct ``pid`` of the items, int64 (num_ids,)."""
        return np.arange(self.num_ids)

    def caption_pids(self) -> np.ndarray:
        """``pid`` of every caption as items carry it, int64 (num_captions,), in new memory."""
        return np.concatenate([m.caption_pids() + o.pid for m, o in zip(self.datasets, self._offsets)])

    @property
    def fingerprint(self) -> str:
        """sha256 over the members' fingerprints."""
        return hashlib.sha256("".join(member.fingerprint for member in self.datasets).encode()).hexdigest()

    @property
    def metainfo(self) -> dict[str, Any]:
        """What all members agree on, less the ignored keys."""
        first, *others = [member.metainfo for member in self.datasets]
        agreed = {key: value for key, value in first.items() if all(other.get(key) == value for other in others)}
        agreed.update(name=self.name, num_ids=self.num_ids)
        return {key: value for key, value in agreed.items() if key not in self._ignore_keys}

    def caption(self, row: int) -> str:
        """Caption of a row, counted as ``caption_id`` counts over all members."""
        i = bisect_right([offsets.caption_id for offsets in self._offsets], row) - 1
        return self.datasets[i].caption(row - self._offsets[i].caption_id)

    def set_seed(self, seed: int) -> None:
        for member in self.datasets:
            member.set_seed(seed)

    def set_epoch(self, epoch: int) -> None:
        for member in self.datasets:
            member.set_epoch(epoch)

    def item(self, index: int, offsets: Offsets) -> dict[str, Any]:
        """Item ``index``, its ids raised by ``offsets`` on top of the member's own."""
        if not 0 <= index < len(self):
            raise IndexError(f"Index {index} lies outside the join {self.name!r} of {len(self)} items.")
        i = bisect_right(self._stops, index)
        start = self._stops[i - 1] if i else 0
        joined = Offsets(*(a + b for a, b in zip(offsets, self._offsets[i])))
        return self.datasets[i].item(index - start, joined)

    def summary(self) -> str:
        return "\n".join(member.summary() for member in self.datasets)
