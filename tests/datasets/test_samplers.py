"""ArraySampler against mmengine's DefaultSampler and a naive deal of the order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import DefaultSampler
from mmengine.dataset import sampler as theirs
from mmengine.runner import Runner

from mmreid_text.datasets import samplers
from mmreid_text.datasets.samplers import ArraySampler
from mmreid_text.registry import DATA_SAMPLERS


def ranks(patch, world, size, **options):
    """The samplers of all ranks, ours and mmengine's."""
    ours, reference = [], []
    for rank in range(world):
        for module in (samplers, theirs):
            patch.setattr(module, "get_dist_info", lambda rank=rank: (rank, world))
        ours.append(ArraySampler(range(size), **options))
        reference.append(DefaultSampler(range(size), **options))
    return ours, reference


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(1, 40),
    world=st.integers(1, 9),
    shuffle=st.booleans(),
    round_up=st.booleans(),
    seed=st.integers(0, 2**31),
    epochs=st.lists(st.integers(0, 50), min_size=1, max_size=3),
    chunk=st.integers(1, 7),
)
def test_same_indices_as_mmengine(size, world, shuffle, round_up, seed, epochs, chunk):
    if not round_up and size < world:
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(samplers, "CHUNK", chunk)
        ours, reference = ranks(patch, world, size, shuffle=shuffle, seed=seed, round_up=round_up)
        for epoch in epochs:
            for sampler in (*ours, *reference):
                sampler.set_epoch(epoch)
            found = [list(sampler) for sampler in ours]
            assert found == [list(sampler) for sampler in reference]
            assert [len(part) for part in found] == [len(sampler) for sampler in ours]
            counts = np.bincount(np.concatenate(found), minlength=size)
            assert counts.min() >= 1
            assert counts.max() - counts.min() <= round_up
            assert counts.sum() == (-(-size // world) * world if round_up else size)
            assert all(type(index) is int for part in found for index in part)


def test_epochs_differ_and_repeat():
    sampler = ArraySampler(range(200), seed=3)
    first = list(sampler)
    sampler.set_epoch(1)
    second = list(sampler)
    assert first != second
    assert sorted(first) == sorted(second) == list(range(200))
    sampler.set_epoch(0)
    assert list(sampler) == first
    assert list(ArraySampler(range(5), shuffle=False)) == [0, 1, 2, 3, 4]


def test_seed_comes_from_all_ranks_where_none_is_given(monkeypatch):
    monkeypatch.setattr(samplers, "sync_random_seed", lambda: 77)
    assert ArraySampler(range(3)).seed == 77
    assert ArraySampler(range(3), seed=0).seed == 0


def test_order_takes_four_bytes_per_index_and_a_rank_its_part(monkeypatch):
    order = ArraySampler(range(100_000), seed=0)._order()
    assert order.nbytes == 400_000
    monkeypatch.setattr(samplers, "get_dist_info", lambda: (2, 8))
    part = ArraySampler(range(100_000), seed=0)._order()
    assert part.base is None
    assert part.nbytes == 50_000
    assert np.array_equal(part, order[2::8])


def test_empty_datasets_are_refused():
    with pytest.raises(ValueError, match="empty dataset"):
        ArraySampler([])


@pytest.mark.parametrize(("diff_rank_seed", "seed"), [(False, 5), (True, 77)])
def test_runner_builds_it_with_its_seed(diff_rank_seed, seed, monkeypatch):
    monkeypatch.setattr(samplers, "sync_random_seed", lambda: 77)
    loader = Runner.build_dataloader(
        {
            "dataset": list(range(10)),
            "sampler": {"type": "mmreid_text.ArraySampler", "shuffle": True},
            "batch_size": 3,
            "num_workers": 0,
        },
        seed=5,
        diff_rank_seed=diff_rank_seed,
    )
    assert isinstance(loader.sampler, ArraySampler)
    assert DATA_SAMPLERS.get("ArraySampler") is ArraySampler
    assert loader.sampler.seed == seed
    assert sorted(int(i) for batch in loader for i in batch) == list(range(10))
