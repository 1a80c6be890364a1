"""Ranking metrics against a loop in float64, and against a stable argsort."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.evaluation import ranking
from mmreid_text.evaluation.ranking import rank, rank_queries, top_k


def naive(query, gallery, query_pid, gallery_pid):
    """The definitions, one query and one gallery item at a time; ties stay in gallery order."""
    first, ap, inp = [], [], []
    for q, pid in zip(query.astype(np.float64), query_pid):
        scores = [float(q @ g / (np.linalg.norm(q) * np.linalg.norm(g))) for g in gallery.astype(np.float64)]
        order = sorted(range(len(scores)), key=lambda j: (-scores[j], j))
        precisions, found, last = [], 0, 0
        for position, j in enumerate(order, start=1):
            if gallery_pid[j] == pid:
                found, last = found + 1, position
                precisions.append(found / position)
                if found == 1:
                    first.append(position)
        ap.append(sum(precisions) / found)
        inp.append(found / last)
    return {"first_rank": np.array(first), "ap": np.array(ap), "inp": np.array(inp)}


def assert_same(got, expected):
    np.testing.assert_array_equal(got["first_rank"], expected["first_rank"])
    np.testing.assert_allclose(got["ap"], expected["ap"], rtol=1e-12)
    np.testing.assert_allclose(got["inp"], expected["inp"], rtol=1e-12)


def tied_case(seed, num_query, num_gallery, num_ids):
    """Vectors of +-1 in 16 dimensions, all of norm 4: similarities are exact, and few values share all of them."""
    generator = np.random.default_rng(seed)
    pool = generator.choice([-1.0, 1.0], size=(5, 16))
    gallery_pid = generator.integers(0, num_ids, num_gallery)
    return (
        pool[generator.integers(0, 5, num_query)],
        pool[generator.integers(0, 5, num_gallery)],
        generator.choice(gallery_pid, num_query),
        gallery_pid,
    )


def random_case(seed, num_query=37, num_gallery=53, num_ids=7, dim=24):
    generator = np.random.default_rng(seed)
    gallery_pid = generator.permutation(np.arange(num_gallery) % num_ids)
    query_pid = generator.integers(0, num_ids, num_query)
    return (
        generator.standard_normal((num_query, dim)),
        generator.standard_normal((num_gallery, dim)),
        query_pid,
        gallery_pid,
    )


def test_random_features_equal_the_loop():
    assert_same(rank_queries(*random_case(0)), naive(*random_case(0)))


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num_query=st.integers(1, 9),
    num_gallery=st.integers(1, 40),
    num_ids=st.integers(1, 6),
    rows_per_block=st.integers(1, 9),
    cached_rows=st.integers(0, 9),
)
def test_masses_of_ties_rank_in_gallery_order(seed, num_query, num_gallery, num_ids, rows_per_block, cached_rows):
    case = tied_case(seed, num_query, num_gallery, num_ids)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranking, "BLOCK_BYTES", rows_per_block * (8 * num_gallery + 128 * num_gallery))
        patch.setattr(ranking, "_CACHED_CELLS", cached_rows * num_gallery)
        assert_same(rank_queries(*case), naive(*case))


@settings(max_examples=10, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    num_gallery=st.sampled_from([2039, 2040, 2041, 4080, 4200, 9000]),
    num_ids=st.sampled_from([7, 400]),
    case=st.sampled_from(["random", "tied"]),
)
def test_long_rows_equal_a_stable_argsort(seed, num_gallery, num_ids, case):
    make = {"random": random_case, "tied": tied_case}[case]
    query, gallery, query_pid, gallery_pid = make(seed, 12, num_gallery, num_ids)
    scores = (query @ gallery.T).astype(np.float32)
    row, column = np.nonzero(query_pid[:, None] == gallery_pid)
    ranks = np.empty(scores.shape, dtype=np.int64)
    order = np.argsort(-scores, axis=1, kind="stable")
    np.put_along_axis(ranks, order, np.arange(1, num_gallery + 1)[None], axis=1)
    # By rows, each comparison takes one; by columns, successive rows are taken together.
    for cells in (np.arange(len(row)), np.lexsort((row, column))):
        for function in (ranking._ranks_by_counting, ranking._ranks_by_sorting):
            got = function(scores, row[cells], column[cells])
            np.testing.assert_array_equal(got, ranks[row[cells], column[cells]])


@pytest.mark.parametrize("num_gallery", [255 * 8, 255 * 8 + 1, 20_000])
def test_a_positive_behind_the_whole_gallery(num_gallery):
    gallery = np.tile([[1.0, 0.0]], (num_gallery, 1))
    gallery[0] = [0.0, 1.0]
    got = rank_queries(np.array([[1.0, 0.0]]), gallery, [0], np.arange(num_gallery))
    assert got["first_rank"].tolist() == [num_gallery]


@pytest.mark.parametrize("case", [random_case(1, 20, 300, 3), tied_case(1, 20, 300, 3)], ids=["random", "tied"])
@pytest.mark.parametrize("function", ["_ranks_by_sorting", "_ranks_by_counting", "_ranks_on_device"])
def test_every_way_to_rank_equals_a_stable_argsort(case, function):
    query, gallery, query_pid, gallery_pid = case
    scores = (query @ gallery.T).astype(np.float32)
    row, column = np.nonzero(query_pid[:, None] == gallery_pid)
    ranks = np.empty(scores.shape, dtype=np.int64)
    np.put_along_axis(ranks, np.argsort(-scores, axis=1, kind="stable"), np.arange(1, 301)[None], axis=1)
    given = torch.from_numpy(scores) if function == "_ranks_on_device" else scores
    np.testing.assert_array_equal(getattr(ranking, function)(given, row, column), ranks[row, column])


@pytest.mark.parametrize("num_ids", [1, 2, 60], ids=["all positive", "half positive", "one positive"])
def test_share_of_positives(num_ids):
    case = random_case(2, num_query=30, num_gallery=60, num_ids=num_ids)
    assert_same(rank_queries(*case), naive(*case))
    if num_ids == 1:
        assert rank(*case) == dict.fromkeys(("R1", "R5", "R10", "mAP", "mINP"), 100.0)


def test_blocks_do_not_change_the_result(monkeypatch):
    case = random_case(3)
    whole = rank_queries(*case)
    for rows in (1, 2, 36, 37, 38):
        monkeypatch.setattr(ranking, "BLOCK_BYTES", rows * (4 * 53 + 128 * 8))
        assert_same(rank_queries(*case), whole)


def test_the_buffer_is_bounded(monkeypatch):
    sizes = []
    rank_block = ranking._ranks_by_counting
    monkeypatch.setattr(ranking, "_ranks_by_counting", lambda s, *rest: sizes.append(s.nbytes) or rank_block(s, *rest))
    rank(*random_case(5, num_query=6000, num_gallery=3000, num_ids=3000, dim=4))
    assert len(sizes) > 1
    assert max(sizes) <= ranking.BLOCK_BYTES <= 64 * 2**20


def test_duplicates_tie_even_where_the_matrix_product_rounds_them_differently():
    # 301 copies fill every edge of the product's tiles; one query and many take different routines.
    generator = np.random.default_rng(4)
    gallery = np.repeat(generator.standard_normal((1, 511)), 301, axis=0)
    gallery_pid = np.arange(301)
    for num_query in (1, 2, 300):
        query = generator.standard_normal((num_query, 511))
        got = rank_queries(query, gallery, np.full(num_query, 150), gallery_pid)
        np.testing.assert_array_equal(got["first_rank"], 151)
        rows, _ = top_k(query, gallery, 7)
        np.testing.assert_array_equal(rows, np.tile(np.arange(7), (num_query, 1)))


def test_a_hand_made_case():
    # Similarities fall with the gallery's angle; positives of the query stand at ranks 2 and 5.
    angles = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    gallery = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    metrics = rank(np.array([[2.0, 0.0]]), gallery, [1], [0, 1, 0, 0, 1, 0])
    assert metrics == pytest.approx(
        {"R1": 0, "R5": 100, "R10": 100, "mAP": 100 * (1 / 2 + 2 / 5) / 2, "mINP": 100 * 2 / 5}
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_tensors(dtype):
    query, gallery, query_pid, gallery_pid = random_case(6)
    query, gallery = torch.from_numpy(query).to(dtype), torch.from_numpy(gallery).to(dtype).requires_grad_()
    got = rank_queries(query, gallery, torch.from_numpy(query_pid), torch.from_numpy(gallery_pid))
    expected = naive(query.double().numpy(), gallery.detach().double().numpy(), query_pid, gallery_pid)
    assert_same(got, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_equals_host():
    for case in (random_case(7), tied_case(7, 50, 200, 9)):
        device = [torch.from_numpy(array).cuda() for array in case]
        assert_same(rank_queries(*device), rank_queries(*case))
        np.testing.assert_array_equal(top_k(*device[:2], 10)[0], top_k(*case[:2], 10)[0])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), num_gallery=st.integers(1, 40), k=st.integers(1, 12))
def test_top_k_equals_a_stable_argsort(seed, num_gallery, k):
    query, gallery, _, _ = tied_case(seed, 6, num_gallery, 2)
    rows, scores = top_k(query, gallery, k)
    exact = query @ gallery.T / 16
    expected = np.argsort(-exact, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(scores, np.take_along_axis(exact, expected, axis=1))


def test_a_query_without_a_positive_is_named():
    query, gallery, query_pid, gallery_pid = random_case(8)
    query_pid[[5, 9]] = 99
    with pytest.raises(ValueError, match=r"2 of 37 queries have no positive.*query 5 with pid 99"):
        rank(query, gallery, query_pid, gallery_pid)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda q, g, a, b: (q[:, :3], g, a, b), r"\(37, 3\) and \(53, 24\)"),
        (lambda q, g, a, b: (q[:-1], g, a, b), "query 36 and 37"),
        (lambda q, g, a, b: (q[:0], g, a[:0], b), "no query"),
        (lambda q, g, a, b: (q * np.where(np.arange(37) == 30, np.nan, 1)[:, None], g, a, b), "query feature 30"),
        (lambda q, g, a, b: (q, g * np.where(np.arange(53) == 4, np.inf, 1)[:, None], a, b), "gallery feature 4"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(ValueError, match=message):
        rank(*change(*random_case(9)))


def test_top_k_wants_a_positive_k():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        top_k(np.eye(2), np.eye(2), 0)


def test_zero_features_tie():
    got = rank_queries(np.zeros((1, 4)), np.ones((5, 4)), [3], np.arange(5))
    assert got["first_rank"][0] == 4
