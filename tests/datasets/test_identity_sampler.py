"""IdentitySampler: what its batches hold, over ranks and epochs, for any distribution of captions over identities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.runner import Runner

from mmreid_text.datasets import ConcatDataset, TextReIDDataset, samplers
from mmreid_text.datasets.caption_table import CaptionTable
from mmreid_text.datasets.samplers import IdentitySampler


class Captions:
    """Captions of known identities."""

    def __init__(self, pids):
        self.pids = np.asarray(pids, dtype=np.int64)

    def __len__(self):
        return len(self.pids)

    def __getitem__(self, index):
        return index

    def caption_pids(self):
        return self.pids


def captions_of(rng, sizes, first=0, step=1):
    pids = np.repeat(first + step * np.arange(len(sizes)), sizes)
    return Captions(rng.permutation(pids))


def ranks(world, dataset, **options):
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for rank in range(world):
            patch.setattr(samplers, "get_dist_info", lambda rank=rank: (rank, world))
            found.append(IdentitySampler(dataset, **options))
        return found


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=3, max_size=14),
    p=st.integers(1, 5),
    k=st.integers(1, 5),
    seed=st.integers(0, 2**31),
    epoch=st.integers(0, 9),
    first=st.integers(0, 10**6),
    step=st.integers(1, 9),
    chunk=st.integers(1, 7),
)
def test_every_batch_holds_p_identities_with_k_captions(sizes, p, k, seed, epoch, first, step, chunk):
    dataset = captions_of(np.random.default_rng(seed), sizes, first, step)
    if len(sizes) < p:
        with pytest.raises(ValueError, match=rf"cannot be drawn from a dataset of {len(sizes)}; lower num_identities"):
            IdentitySampler(dataset, p, k, seed=0)
        return
    sampler = IdentitySampler(dataset, p, k, seed=seed)
    sampler.set_epoch(epoch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samplers, "CHUNK", chunk)
        order = list(sampler)
    assert len(order) == len(sampler)
    assert all(type(index) is int for index in order)
    batches = np.array(order).reshape(-1, p, k)
    pids = dataset.pids[batches]
    assert (pids == pids[:, :, :1]).all()
    assert all(len(set(batch)) == p for batch in pids[:, :, 0])
    assert set(pids.ravel()) == set(dataset.pids)  # every identity
    for group in batches.reshape(-1, k):
        size = (dataset.pids == dataset.pids[group[0]]).sum()
        counts = np.bincount(group)[np.unique(group)]
        assert len(counts) == min(k, size)  # a caption repeats only where there are fewer than K
        assert counts.max() - counts.min() <= 1
    # An identity's captions are all seen before one is seen again, but for repeats within its last group.
    groups = -(-np.array(sizes) // k)
    shortest = np.sort(groups)[-p]
    seen = np.unique(order)
    for identity in np.unique(dataset.pids):
        own = np.flatnonzero(dataset.pids == identity)
        wanted = min(len(own), k * min(-(-len(own) // k), shortest))
        assert np.isin(own, seen).sum() == wanted


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_ranks_together_see_the_batches_of_one_process(world):
    dataset = captions_of(np.random.default_rng(0), [1, 3, 9, 4, 4, 7, 2, 30], 5, 3)
    options = dict(num_identities=6, num_instances=4, seed=3)
    (whole,) = ranks(1, dataset, **options)
    parts = ranks(world, dataset, **options)
    for epoch in (0, 4):
        for sampler in (whole, *parts):
            sampler.set_epoch(epoch)
        batches = np.array(list(whole)).reshape(-1, 24)
        own = [np.array(list(part)).reshape(len(batches), -1) for part in parts]
        assert (np.sort(np.concatenate(own, axis=1)) == np.sort(batches)).all()
        assert all(len(part) == 24 // world * len(batches) for part in parts)


def test_epochs_differ_repeat_and_reach_every_caption():
    dataset = captions_of(np.random.default_rng(1), [40, 3, 4, 5, 2, 8])
    sampler = IdentitySampler(dataset, 3, 2, seed=1)
    orders = []
    for epoch in (*range(60), 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert orders[0] == orders[-1]
    assert len({tuple(order) for order in orders[:-1]}) == 60
    # The identity with 40 captions may show 6 of them per epoch, others the next time.
    assert set(np.concatenate(orders)) == set(range(len(dataset)))
    assert orders[0] != list(IdentitySampler(dataset, 3, 2, seed=2))


def test_numbers_that_do_not_fit_are_refused():
    dataset = Captions(np.arange(20))
    for wrong in (dict(num_identities=0), dict(num_instances=0)):
        with pytest.raises(ValueError, match="do not divide into 1 ranks; give numbers from 1 on"):
            IdentitySampler(dataset, **{"num_identities": 2, "num_instances": 2, "seed": 0, **wrong})
    with pytest.raises(ValueError, match="3 identities x 3 captions do not divide into 2 ranks"):
        ranks(2, dataset, num_identities=3, num_instances=3, seed=0)
    dataset.__class__ = type("Images", (Captions,), {"__len__": lambda self: 10})
    with pytest.raises(ValueError, match="10 items of 20 captions: it is for training"):
        IdentitySampler(dataset, 2, 2, seed=0)
    dataset.__class__ = Captions
    sampler = ranks(2, dataset, num_identities=4, num_instances=4, seed=0)[1]
    sampler.check_batch_size(8)
    with pytest.raises(ValueError, match=r"4 identities x 4 captions, but .*batch_size=16 on 2 rank.*batch_size=8"):
        sampler.check_batch_size(16)


def test_runner_builds_it_with_its_seed(monkeypatch):
    monkeypatch.setattr(samplers, "sync_random_seed", lambda: 77)
    dataset = Captions([5] * 4 + [9] * 4 + [11] * 4)
    sampler = {"type": "mmreid_text.IdentitySampler", "num_identities": 2, "num_instances": 2}
    loader = Runner.build_dataloader(
        {"dataset": dataset, "sampler": sampler, "batch_size": 4, "num_workers": 0}, seed=5
    )
    assert loader.sampler.seed == 5
    assert IdentitySampler(dataset, 2, 2).seed == 77
    for batch in loader:
        assert sorted(np.unique(dataset.pids[batch], return_counts=True)[1]) == [2, 2]


def table(pids):
    n = len(pids)
    columns = dict(image=[f"{i}.jpg" for i in range(n)], caption=["a coat"] * n, pid=pids, image_id=list(range(n)))
    return CaptionTable.from_columns(columns, "mine")


def test_datasets_tell_the_identities_that_their_items_carry(tmp_path):
    ids = ([7, 7, 30, 30, 12], [0, 1, 1], [4])
    members = [TextReIDDataset(table(pids), [], image_root=tmp_path) for pids in ids]
    assert members[0].caption_pids().tolist() == [0, 0, 2, 2, 1]
    joined = ConcatDataset([ConcatDataset(members[:2]), members[2]])
    for dataset in (*members, joined):
        pids = dataset.caption_pids()
        assert pids.dtype == np.int64
        assert pids.tolist() == [dataset[i]["pid"] for i in range(len(dataset))]
        assert dataset.identities.tolist() == np.unique(pids).tolist()
        assert len(dataset.identities) == dataset.num_ids
