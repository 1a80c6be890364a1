"""The order in which samples are visited."""

import math
from collections.abc import Iterator, Sized

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmreid_text.registry import DATA_SAMPLERS

CHUNK = 65_536
"""Indices that are Python objects at a time."""


@DATA_SAMPLERS.register_module()
class ArraySampler(Sampler[int]):
    """Visits a dataset in one order on all ranks, every rank taking each ``world_size``-th index.

    Same indices in the same order as mmengine's ``DefaultSampler`` under the same seed and epoch, but the order is one
    array of 4 bytes per index (8 from 2**31 on) instead of a list of Python integers, and a rank keeps its own part.
    The order is a pure function of (seed, epoch), so a resumed epoch repeats it.

    Args:
        dataset: What is visited; only its length counts.
        shuffle: Whether each epoch has an order of its own; False visits 0, 1, 2, ...
        seed: Seed of the order, the same on all ranks; None draws one and spreads it over the ranks.
        round_up: Whether ranks get equally many indices, the first ones of the order once more where they do not
            divide; False visits every index exactly once.

    Raises:
        ValueError: The dataset is empty.

    Config::

        dict(type='ArraySampler', shuffle=True)
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None, round_up: bool = True) -> None:
        self.rank, self.world_size = get_dist_info()
        self.dataset = dataset
        self.shuffle = shuffle
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0
        self.round_up = round_up
        size = len(dataset)
        if not size:
            raise ValueError("ArraySampler cannot visit an empty dataset; check its split, sources and protocol.")
        self.num_samples = math.ceil((size if round_up else size - self.rank) / self.world_size)
        self.total_size = self.num_samples * self.world_size if round_up else size

    def __iter__(self) -> Iterator[int]:
        order = self._order()
        for start in range(0, len(order), CHUNK):
            yield from order[start : start + CHUNK].tolist()

    def __len__(self) -> int:
        """Number of indices of this rank."""
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Take the order of epoch ``epoch`` (from 0) from the next iteration on."""
        self.epoch = epoch

    def _order(self) -> np.ndarray:
        """This rank's indices, (num_samples,)."""
        size = len(self.dataset)
        dtype = torch.int32 if size <= np.iinfo(np.int32).max else torch.int64
        if self.shuffle:
            generator = torch.Generator()
            generator.manual_seed(self.seed + self.epoch)
            order = torch.randperm(size, generator=generator, dtype=dtype).numpy()
        else:
            order = torch.arange(size, dtype=dtype).numpy()
        if self.world_size == 1:
            return order
        own = order[self.rank :: self.world_size]
        repeated = np.arange(len(own), self.num_samples, dtype=np.int64) * self.world_size + self.rank
        return np.concatenate([own, order[repeated % size]])  # a copy, so that the whole order can go
