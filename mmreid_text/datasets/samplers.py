"""The order in which samples are visited."""

import math
from collections.abc import Iterator, Sized
from typing import Protocol

import numpy as np
import torch
from mmengine.dist import get_dist_info, sync_random_seed
from torch.utils.data import Sampler

from mmreid_text.randomness import uniform
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


class Identified(Protocol):
    """A dataset whose captions have known identities, such as ``TextReIDDataset`` in training mode."""

    def __len__(self) -> int: ...

    def caption_pids(self) -> np.ndarray:
        """Identity of every item, int64 (n,)."""


@DATA_SAMPLERS.register_module()
class IdentitySampler(Sampler[int]):
    """Batches of P identities with K captions each (Hermans et al., 2017), over the batch of *all* ranks.

    An epoch goes round after round: each round takes K captions of every identity that has any left, in an order of
    its own, and an identity with fewer than K left repeats some of its own. Rounds in which fewer than P identities
    have captions left are not run: a few identities with many captions would fill them alone. So every identity occurs
    in every epoch, no batch holds one twice, and what was left out this time is drawn in other epochs. The last batch
    is filled up with identities that occurred before.

    The order is a pure function of (seed, epoch), so a resumed epoch repeats it. Rank *r* takes each
    ``world_size``-th index: with the same product of ranks and batch size, ranks see the batches of one process.

    Args:
        dataset: What is visited: has ``caption_pids()``, the identity of every item.
        num_identities: Identities P per batch of all ranks.
        num_instances: Captions K per identity.
        seed: Seed of the order, the same on all ranks; None draws one and spreads it over the ranks.

    Raises:
        ValueError: A number is below 1, P x K does not divide into ranks, the dataset is in test mode, or it has fewer
            than P identities.

    Config::

        train_dataloader = dict(
            batch_size=64, sampler=dict(type='IdentitySampler', num_identities=16, num_instances=4))
    """

    def __init__(
        self, dataset: Identified, num_identities: int = 16, num_instances: int = 4, seed: int | None = None
    ) -> None:
        self.rank, self.world_size = get_dist_info()
        self.num_identities = num_identities
        self.num_instances = num_instances
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0
        if min(num_identities, num_instances) < 1 or num_identities * num_instances % self.world_size:
            raise ValueError(
                f"IdentitySampler: {num_identities} identities x {num_instances} captions do not divide into "
                f"{self.world_size} ranks; give numbers from 1 on whose product does."
            )
        pids = dataset.caption_pids()
        if len(pids) != len(dataset):
            raise ValueError(
                f"IdentitySampler draws captions, but the dataset has {len(dataset)} items of {len(pids)} captions: "
                "it is for training, test_mode=False."
            )
        self._pids = np.unique(pids, return_inverse=True)[1].astype(np.int32)  # (n,)
        counts = np.bincount(self._pids)
        if len(counts) < num_identities:
            raise ValueError(
                f"IdentitySampler: batches of {num_identities} identities cannot be drawn from a dataset of "
                f"{len(counts)}; lower num_identities."
            )
        self._counts = counts
        self._groups = -(-counts // num_instances)
        # Only rounds that P identities take part in; of the others of an identity's groups none is run.
        rounds = int(np.sort(self._groups)[-num_identities])
        self._groups = np.minimum(self._groups, rounds)
        self.num_batches = -(-int(self._groups.sum()) // num_identities)

    def __len__(self) -> int:
        """Number of indices of this rank."""
        return self.num_batches * self.num_identities * self.num_instances // self.world_size

    def __iter__(self) -> Iterator[int]:
        order = self._order()[self.rank :: self.world_size]
        for start in range(0, len(order), CHUNK):
            yield from order[start : start + CHUNK].tolist()

    def set_epoch(self, epoch: int) -> None:
        """Take the order of epoch ``epoch`` (from 0) from the next iteration on."""
        self.epoch = epoch

    def check_batch_size(self, batch_size: int | None) -> None:
        """Compare P x K with a loader's batches of all ranks.

        Raises:
            ValueError: They differ, so batches would cut groups or hold other numbers of identities.
        """
        wanted = self.num_identities * self.num_instances
        if batch_size is None or batch_size * self.world_size != wanted:
            raise ValueError(
                f"IdentitySampler draws batches of {self.num_identities} identities x {self.num_instances} captions, "
                f"but train_dataloader.batch_size={batch_size} on {self.world_size} rank(s): set batch_size="
                f"{wanted // self.world_size}, or num_identities so that the product fits."
            )

    def _order(self) -> np.ndarray:
        """Indices of all ranks, (num_batches * P * K,)."""
        identity, group = self._schedule()  # (G,) each
        n, k = len(self._pids), self.num_instances
        shuffle = uniform(self.seed, self.epoch, np.arange(n), "IdentitySampler.captions", 1)[:, 0]
        captions = np.lexsort((shuffle, self._pids))  # by identity, in this epoch's order within
        first = np.cumsum(self._counts) - self._counts
        place = (group[:, None] * k + np.arange(k)) % self._counts[identity][:, None]  # (G, K); wraps where few
        return captions[first[identity][:, None] + place].ravel()

    def _schedule(self) -> tuple[np.ndarray, np.ndarray]:
        """Identity of each of the epoch's groups, and which of the identity's groups it is: int64 (G,)."""
        p = self.num_identities
        identities, groups = [], []
        cut: np.ndarray = np.empty(0, dtype=np.int64)  # identities of the batch that the round before left open
        for number in range(int(self._groups.max())):
            present = np.flatnonzero(self._groups > number)
            chance = uniform(self.seed, self.epoch, present, f"IdentitySampler.round{number}", 1)[:, 0]
            order = present[np.argsort(chance)]
            new = np.flatnonzero(~np.isin(order, cut))[: p - len(cut)]  # fill the open batch, which holds none twice
            order = np.concatenate([order[new], np.delete(order, new)])
            identities.append(order)
            groups.append(np.full(len(order), number))
            left = (len(cut) + len(order)) % p
            cut = order[len(order) - left :]
        missing = -sum(map(len, identities)) % p
        if missing:
            others = np.setdiff1d(np.arange(len(self._counts)), cut)
            chance = uniform(self.seed, self.epoch, others, "IdentitySampler.filling", 1)[:, 0]
            identities.append(others[np.argsort(chance)][:missing])
            groups.append(np.full(missing, 0))
        return np.concatenate(identities), np.concatenate(groups)
