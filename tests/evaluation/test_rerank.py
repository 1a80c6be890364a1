"""Re-rankers against sets and loops as the paper states them, and a re-ranker's part of a user's own."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.evaluator import Evaluator

from mmreid_text.evaluation import KReciprocalReranker, Reranker, TopKReranker, rank, rank_scores
from mmreid_text.evaluation import k_reciprocal as module
from mmreid_text.evaluation.features import DatasetFeatures
from mmreid_text.registry import METRICS


def random_features(seed, num_text=26, num_image=15, num_ids=6, dim=8, gap=1.0):
    rng = np.random.default_rng(seed)
    centre = rng.normal(size=(num_ids, dim))
    image_pid = np.concatenate([np.arange(num_ids), rng.integers(0, num_ids, num_image - num_ids)])
    text_image = np.sort(rng.integers(0, num_image, num_text))
    text_pid = image_pid[text_image]
    image = centre[image_pid] + rng.normal(size=(num_image, dim))
    text = centre[text_pid] + rng.normal(size=(num_text, dim)) + gap * rng.normal(size=dim)
    rows = np.arange(num_image)
    return DatasetFeatures(
        image.astype(np.float32), text.astype(np.float32), image_pid, text_pid, text_image, rows, rows
    )


def naive_ranks(scores, query_pid, gallery_pid):
    """Rank metrics by sorting each row, ties in gallery order."""
    sums = np.zeros(5)
    for row, pid in zip(scores, query_pid):
        order = sorted(range(len(row)), key=lambda g: (-row[g], g))
        ranks = [i for i, g in enumerate(order, start=1) if gallery_pid[g] == pid]
        precision = np.mean([(i + 1) / r for i, r in enumerate(ranks)])
        sums += [ranks[0] <= 1, ranks[0] <= 5, ranks[0] <= 10, precision, len(ranks) / ranks[-1]]
    return dict(zip(("R1", "R5", "R10", "mAP", "mINP"), 100 * sums / len(scores)))


def gathered(reranker, features):
    scores = np.full((len(features.text), len(features.image)), np.nan)
    for rows, block in reranker.scores(features):
        scores[rows] = block
    return scores


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), queries=st.integers(1, 30), gallery=st.integers(2, 60), levels=st.integers(1, 6))
def test_ranks_of_scores_with_ties(seed, queries, gallery, levels):
    rng = np.random.default_rng(seed)
    gallery_pid = rng.integers(0, 4, gallery)
    query_pid = rng.choice(gallery_pid, queries)
    scores = rng.integers(0, levels, (queries, gallery)) / 3
    parts = np.array_split(rng.permutation(queries), 3)
    got = rank_scores(((rows, scores[rows]) for rows in parts if len(rows)), query_pid, gallery_pid)
    assert got == pytest.approx(naive_ranks(scores, query_pid, gallery_pid), rel=1e-12)


def test_scores_that_do_not_fit_are_refused():
    pid = np.array([0, 1])
    good = np.eye(2)
    cases = [
        ([(np.arange(2), good[:, :1])], r"2 queries x 2 items have scores \(2, 1\)"),
        ([(np.arange(2), good * np.nan)], "a score of query 0 is not finite"),
        ([(np.arange(1), good[:1])], "query 1 was scored 0 times"),
        ([(np.arange(2), good), (np.arange(1), good[:1])], "query 0 was scored 2 times"),
    ]
    for blocks, message in cases:
        with pytest.raises(ValueError, match=message):
            rank_scores(blocks, pid, pid)


def naive_k_reciprocal(f, k1, k2, lambda_):
    """Scores (Q, G) in float64, set by set."""
    unit = np.concatenate([f.text, f.image]).astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    cosine, size, num_text = unit @ unit.T, len(unit), len(f.text)
    kinds = (range(num_text), range(num_text, size))

    def nearest(p, k):
        return {q for kind in kinds for q in sorted(kind, key=lambda q: -cosine[p, q])[:k]}

    def reciprocal(k):
        near = [nearest(p, k) for p in range(size)]
        return [{q for q in near[p] if p in near[q]} for p in range(size)]

    full, half = reciprocal(k1), reciprocal(max(1, round(k1 / 2)))
    vectors = np.zeros((size, size))
    for p in range(size):
        members = set(full[p])
        for q in full[p]:
            if 3 * len(full[p] & half[q]) >= 2 * len(half[q]):
                members |= half[q]
        for q in members:
            vectors[p, q] = np.exp(cosine[p, q] - 1)
        vectors[p] /= max(vectors[p].sum(), 1e-300)
    if k2 > 1:
        vectors = np.stack([vectors[sorted(nearest(p, k2))].mean(axis=0) for p in range(size)])
    scores = np.zeros((num_text, size - num_text))
    for p in range(num_text):
        for g in range(num_text, size):
            least, most = np.minimum(vectors[p], vectors[g]).sum(), np.maximum(vectors[p], vectors[g]).sum()
            jaccard = 1 - least / most if most else 1.0
            scores[p, g - num_text] = -(lambda_ * (1 - cosine[p, g]) + (1 - lambda_) * jaccard)
    return scores


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    k1=st.integers(1, 9),
    k2=st.integers(1, 4),
    lambda_=st.sampled_from([0.0, 0.3, 1.0]),
    cells=st.sampled_from([1, 50, 2**20]),
)
def test_k_reciprocal_is_the_papers(seed, k1, k2, lambda_, cells):
    features = random_features(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CELLS", cells)
        scores = gathered(KReciprocalReranker(k1, k2, lambda_), features)
    np.testing.assert_allclose(scores, naive_k_reciprocal(features, k1, k2, lambda_), atol=2e-6)


def test_k_reciprocal_with_more_neighbours_than_there_are_and_equal_features():
    features = random_features(3, num_text=4, num_image=7, num_ids=3)
    scores = gathered(KReciprocalReranker(k1=50, k2=30), features)
    np.testing.assert_allclose(scores, naive_k_reciprocal(features, 50, 30, 0.3), atol=2e-6)
    same = DatasetFeatures(**{**vars(features), "text": np.ones_like(features.text)})
    assert np.isfinite(gathered(KReciprocalReranker(k1=2, k2=2), same)).all()


def test_lambda_one_is_the_plain_ranking():
    features = random_features(4)
    got = rank_scores(KReciprocalReranker(lambda_=1.0).scores(features), features.text_pid, features.image_pid)
    assert got == pytest.approx(rank(features.text, features.image, features.text_pid, features.image_pid))


@pytest.mark.parametrize(
    ("kwargs", "message"), [({"k1": 0}, "k1=0"), ({"k2": 0}, "k2=0"), ({"lambda_": 1.5}, r"lie in \[0, 1\]")]
)
def test_k_reciprocal_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        KReciprocalReranker(**kwargs)


@METRICS.register_module()
class KnowsTheAnswer:
    """What a user plugs in: a scorer that looks at identities instead of pixels."""

    def __call__(self, features, captions, candidates):
        self.shape = candidates.shape
        return (features.image_pid[candidates] == features.text_pid[captions][:, None]).astype(float)


def test_a_scorer_by_registry_orders_the_candidates():
    features = random_features(5)
    reranker = METRICS.build(dict(type="TopKReranker", k=4, scorer=dict(type="KnowsTheAnswer")))
    scores = gathered(reranker, features)
    assert reranker.scorer.shape[1] == 4
    unit = [f / np.linalg.norm(f, axis=1, keepdims=True) for f in (features.text, features.image)]
    cosine = unit[0] @ unit[1].T
    right = features.text_pid[:, None] == features.image_pid
    for row in range(len(scores)):
        before = np.argsort(-cosine[row], kind="stable")
        best = sorted(before[:4], key=lambda g: (not right[row, g], g))  # ties of the scorer in gallery order
        assert np.argsort(-scores[row], kind="stable").tolist() == [*best, *before[4:]]
    everything = rank_scores(
        TopKReranker(KnowsTheAnswer(), k=99).scores(features), features.text_pid, features.image_pid
    )
    assert everything["mINP"] == 100


@pytest.mark.parametrize(
    ("scorer", "message"),
    [
        (lambda f, rows, candidates: np.zeros(3), r"function returned scores \(3,\) for candidates \(26, 5\)"),
        (lambda f, rows, candidates: np.full(candidates.shape, np.inf), "function returned a score that is not finite"),
    ],
)
def test_a_wrong_scorer_is_named(scorer, message):
    with pytest.raises(ValueError, match=message):
        gathered(TopKReranker(scorer, k=5), random_features(6))
    with pytest.raises(ValueError, match=r"TopKReranker\(k=0\)"):
        TopKReranker(scorer, k=0)


@METRICS.register_module()
class WorstFirst(Reranker):
    """A whole re-ranker of a user's own."""

    def scores(self, features):
        for row, text in enumerate(features.text):
            yield np.array([row]), -(text @ features.image.T)[None]


def evaluate(features, **kwargs):
    metric = METRICS.build(dict(type="ReIDMetric", **kwargs))
    evaluator = Evaluator(metric)
    samples = [
        {
            "dataset": "left",
            "image_feat": torch.from_numpy(features.image[g]),
            "text_feats": torch.from_numpy(features.text[features.text_image == g]),
            "pid": int(features.image_pid[g]),
            "image_id": g,
        }
        for g in range(len(features.image))
    ]
    evaluator.process(samples)
    return evaluator.evaluate(len(samples))


@pytest.mark.parametrize("rerank", [dict(type="KReciprocalReranker", k1=4, k2=2), dict(type="WorstFirst")])
def test_both_rankings_stand_side_by_side(rerank):
    features = random_features(7, num_text=60)  # every image described, so that images find captions
    plain = evaluate(features)
    both = evaluate(features, rerank=rerank)
    assert {key: both[key] for key in plain} == plain
    new = {key: value for key, value in both.items() if key not in plain}
    scores = gathered(METRICS.build(rerank), features)
    expected = naive_ranks(scores, features.text_pid, features.image_pid)
    for dataset in ("left", "mean"):
        got = {key.removeprefix(f"{dataset}/rerank_"): v for key, v in new.items() if key.startswith(f"{dataset}/")}
        assert got == pytest.approx(expected)
    assert len(new) == 10
