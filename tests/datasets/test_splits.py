import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.datasets import CaptionTable
from mmreid_text.datasets.splits import held_out_identities, protocol_view


@settings(max_examples=50, deadline=None)
@given(
    ids=st.lists(st.integers(0, 10**6), min_size=2, max_size=200, unique=True),
    repeats=st.integers(1, 3),
    seed=st.integers(0, 5),
)
def test_held_out_identities(ids, repeats, seed):
    pid = np.array(ids * repeats)
    held = held_out_identities(pid, seed=seed)
    assert set(held) < set(ids)
    assert len(held) == len(set(held)) == max(round(0.1 * len(ids)), 1)
    np.testing.assert_array_equal(held, held_out_identities(np.sort(pid)[::-1], seed=seed))


def test_held_out_identities_are_fixed_by_the_seed():
    assert held_out_identities(np.arange(40)).tolist() == [0, 2, 27, 34]
    draws = {tuple(held_out_identities(np.arange(100), seed=seed)) for seed in range(20)}
    assert len(draws) == 20
    often = np.bincount(np.concatenate(list(draws)), minlength=100)
    assert often.max() <= 10  # 2 expected per identity: none is held out in every draw


def test_held_out_identities_needs_two():
    with pytest.raises(ValueError, match="at least 2"):
        held_out_identities(np.zeros(5, dtype=np.int64))


@pytest.fixture
def table():
    parts = [("train", 40), ("val", 5), ("test", 6)]
    columns = {key: [] for key in ("image", "caption", "pid", "image_id", "split")}
    for split, number in parts:
        for i in range(2 * number):
            for key, value in zip(columns, (f"{split}{i}.jpg", f"{split} {i}", i // 2, i, split)):
                columns[key].append(value)
    return CaptionTable.from_columns(columns, "mine")


def captions(view):
    return {view.caption(i) for i in range(len(view))}


@pytest.mark.parametrize(("protocol", "own_val"), [("paper-val", True), ("paper-val", False), ("val", False)])
def test_hold_out_protocols_part_training_identities(table, protocol, own_val):
    train, val = (protocol_view(table, split, protocol, own_val) for split in ("train", "val"))
    assert not set(train.pid) & set(val.pid)
    assert set(train.pid) | set(val.pid) == set(range(40))
    assert len(set(val.pid)) == 4
    assert captions(train) | captions(val) == captions(table.split("train"))
    assert captions(protocol_view(table, "test", protocol, own_val)) == captions(table.split("test"))


def test_protocols_with_whole_splits(table):
    for split in ("train", "val", "test"):
        assert captions(protocol_view(table, split, "val", True)) == captions(table.split(split))
    for split, source in {"train": "train", "val": "test", "test": "test"}.items():
        for own_val in (True, False):
            assert captions(protocol_view(table, split, "test-selected", own_val)) == captions(table.split(source))


def test_unknown_names_are_refused(table):
    with pytest.raises(ValueError, match=r"split='dev' must be one of"):
        protocol_view(table, "dev", "val", True)
    with pytest.raises(ValueError, match=r"protocol='best' must be one of"):
        protocol_view(table, "val", "best", True)
