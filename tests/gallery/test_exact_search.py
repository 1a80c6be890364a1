"""Exact search against a full sort in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.gallery import exact_search as module
from mmreid_text.gallery.exact_search import exact_search

faiss = pytest.importorskip("faiss")


def unit(array):
    return (array / np.linalg.norm(array, axis=-1, keepdims=True)).astype(np.float32)


def naive(vectors, queries, topk, allowed):
    scores = queries.astype(np.float64) @ vectors.T.astype(np.float64)
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :topk]
    found = np.take_along_axis(scores, order, axis=1)
    missing = ((0, 0), (0, topk - order.shape[1]))
    order = np.pad(np.where(np.isinf(found), -1, order), missing, constant_values=-1)
    return order, np.pad(found, missing, constant_values=-np.inf)


def check(vectors, queries, topk, allowed):
    ids, scores = exact_search(vectors, queries, topk, allowed)
    wanted, exact = naive(vectors, queries, topk, allowed)
    np.testing.assert_allclose(scores, exact, atol=2e-6)
    # Rows may only differ where float32 cannot tell them apart.
    row, rank = np.nonzero(ids != wanted)
    true = np.einsum("ij,ij->i", queries[row].astype(np.float64), vectors[ids[row, rank]].astype(np.float64))
    np.testing.assert_allclose(true, exact[row, rank], atol=2e-7)
    assert all(len(set(line[line >= 0])) == (line >= 0).sum() for line in ids)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(1, 300),
    queries=st.sampled_from([0, 1, 3, 8, 20]),
    topk=st.sampled_from([1, 5, 40, 400]),
    share=st.sampled_from([None, 0.0, 0.05, 0.6]),
    spread=st.sampled_from([0.01, 1.0]),
    seed=st.integers(0, 10_000),
)
def test_it_finds_what_a_full_sort_finds(count, queries, topk, share, spread, seed):
    rng = np.random.default_rng(seed)
    sizes = {"FIRST_BLOCK": 16, "BLOCK": 64, "LONG_BLOCK": 100}
    before = {name: getattr(module, name) for name in sizes}
    try:
        vars(module).update(sizes)
        vectors = unit(spread * rng.standard_normal((count, 8)) + np.eye(8)[0])
        allowed = None if share is None else rng.random(count) < share
        check(vectors, unit(spread * rng.standard_normal((queries, 8)) + np.eye(8)[0]), topk, allowed)
    finally:
        vars(module).update(before)


def test_many_queries_are_screened_and_nothing_is_missed(monkeypatch):
    calls = []
    offer = module._Screen.offer
    monkeypatch.setattr(module._Screen, "offer", lambda *args: calls.append(offer(*args)) or calls[-1])
    monkeypatch.setattr(module, "_has_bf16", lambda: True)  # slower where the processor has none, and as right
    monkeypatch.setattr(module, "FIRST_BLOCK", 1024)
    monkeypatch.setattr(module, "BLOCK", 1024)
    rng = np.random.default_rng(0)
    vectors, queries = unit(rng.standard_normal((6000, 32))), unit(rng.standard_normal((20, 32)))
    check(vectors, queries, 10, None)
    assert any(calls)
    calls.clear()
    check(unit(vectors + 30), unit(queries + 30), 10, None)  # all alike: bfloat16 cannot rule out anything
    assert calls
    assert not any(calls)


def test_the_error_of_bfloat16_is_within_its_bound():
    import torch

    rng = np.random.default_rng(1)
    # All of one sign, and just between two bfloat16 numbers, errors add up.
    worst = unit(np.full((64, 512), 1 + 2**-8 - 2**-16) * (1 + 1e-4 * rng.random((64, 1))))
    for a, b in ((worst, worst), (unit(rng.standard_normal((64, 512))), unit(rng.standard_normal((64, 512))))):
        blurred = (torch.from_numpy(a).bfloat16() @ torch.from_numpy(b).bfloat16().T).double().numpy()
        assert np.abs(blurred - a.astype(np.float64) @ b.T.astype(np.float64)).max() <= module._BF16_ERROR


def test_equal_ones_come_in_the_order_of_their_rows():
    vectors = np.tile(unit(np.ones(4)), (50, 1))
    ids, _ = exact_search(vectors, vectors[:1], 5)
    assert ids.tolist() == [[0, 1, 2, 3, 4]]
    assert exact_search(vectors, np.tile(vectors[:1], (9, 1)), 5)[0].tolist() == [[0, 1, 2, 3, 4]] * 9


def test_it_reads_a_file_in_place(tmp_path):
    vectors = unit(np.random.default_rng(2).standard_normal((500, 16)))
    vectors.tofile(tmp_path / "v")
    mapped = np.memmap(tmp_path / "v", np.float32, "r", shape=vectors.shape)
    for queries in (vectors[:2], vectors[:30]):
        np.testing.assert_array_equal(exact_search(mapped, queries, 3)[0], exact_search(vectors, queries, 3)[0])
