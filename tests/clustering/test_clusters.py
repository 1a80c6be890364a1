"""Distances against a dense reference, clusters against scikit-learn on it, and what may go wrong with features."""

import warnings
from unittest import mock

import numpy as np
import pytest
from clustering.dense_jaccard import dense_jaccard
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import DBSCAN

from mmreid_text.clustering import centroids, cluster, count_clusters, dbscan, jaccard_graph, nearest
from mmreid_text.evaluation import k_reciprocal


def people(seed, identities, images, dim=16, noise=0.6):
    """Features (N, D) of so many people, shuffled."""
    rng = np.random.default_rng(seed)
    pid = rng.permutation(np.repeat(np.arange(identities), images))
    return rng.normal(size=(identities, dim))[pid] + noise * rng.normal(size=(len(pid), dim))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.integers(2, 40),
    k1=st.integers(1, 12),
    k2=st.integers(1, 5),
    radius=st.sampled_from([0.3, 0.6, 1.0]),
    cells=st.sampled_from([1, 50, 2**20]),
    copies=st.integers(0, 10),
)
def test_graph_holds_the_dense_distances_within_the_radius(seed, size, k1, k2, radius, cells, copies):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(size, 3))
    features[rng.integers(0, size, copies)] = features[rng.integers(0, size, copies)]
    found, _ = nearest(features, max(k1, k2))
    with mock.patch.object(k_reciprocal, "CELLS", cells), mock.patch("mmreid_text.clustering.jaccard.CELLS", cells):
        graph = jaccard_graph(features, found, k1, k2, radius)
    dense = dense_jaccard(features, found, k1, k2)
    held = graph.toarray()
    there = np.zeros_like(dense, dtype=bool)
    there[graph.nonzero()] = True
    there[np.repeat(np.arange(size), np.diff(graph.indptr)), graph.indices] = True
    np.testing.assert_allclose(held[there], dense[there], atol=2e-6)
    assert (dense[~there] > radius - 2e-6).all()
    assert (held[there] <= radius).all()
    assert (held[there] < 1).all()
    np.testing.assert_array_equal(held, held.T)
    np.testing.assert_array_equal(np.diag(held), 0)
    assert there.diagonal().all()


def test_clusters_of_3000_points_are_scikit_learns_on_the_dense_distance():
    features = people(0, identities=600, images=5, noise=0.55)
    found, _ = nearest(features, 30)
    dense = dense_jaccard(features, found, 30, 6)
    expected = DBSCAN(eps=0.6, min_samples=4, metric="precomputed").fit(dense).labels_
    assert 200 < expected.max() < 600
    assert 100 < (expected < 0).sum() < 2000
    near = dense <= 0.6
    core = near.sum(axis=1) >= 4
    border = (expected >= 0) & ~core
    reaches = [len(set(expected[core & near[i]])) for i in np.flatnonzero(border)]
    assert max(reaches) > 1  # some could go to two clusters
    np.testing.assert_array_equal(cluster(features).labels, expected)


def test_labels_do_not_depend_on_scale_type_or_repetition():
    features = people(1, identities=20, images=6)
    first = cluster(features, k1=8, k2=3).labels
    assert first.max() > 5
    np.testing.assert_array_equal(cluster(features, k1=8, k2=3).labels, first)
    np.testing.assert_array_equal(cluster(7 * features.astype(np.float32), k1=8, k2=3).labels, first)


def test_copies_cluster_together_however_many_there_are():
    features = people(2, identities=30, images=5, dim=32)
    features = np.concatenate([features, np.repeat(features[:1], 50, axis=0)])
    found = cluster(features)
    assert found.twins == 51
    assert len(set(found.labels[150:])) == 1
    assert found.labels[150] == found.labels[0] >= 0


@pytest.mark.parametrize(("k1", "k2", "eps"), [(8, 3, 0.4), (30, 1, 0.6), (30, 6, 0.6)])
def test_copies_count_as_one_item_of_their_number(k1, k2, eps):
    features = people(6, identities=30, images=6, dim=32, noise=0.5).astype(np.float32)
    rng = np.random.default_rng(6)
    times = rng.choice([1, 1, 1, 2, 3, 5, 40], len(features))
    source = rng.permutation(np.repeat(np.arange(len(features)), times))
    noise = rng.normal(size=(len(source), 32)).astype(np.float32)
    found = cluster(features[source] + 1e-5 * noise, k1, k2, eps)  # as encoded in batches of other shapes
    first = np.array([np.flatnonzero(source == item)[0] for item in np.unique(source)])
    order = first[np.argsort(first)]
    near, _ = nearest(features[source][order], max(k1, k2))
    dense = dense_jaccard(features[source][order], near, k1, k2)
    expected = DBSCAN(eps=eps, min_samples=4, metric="precomputed").fit(dense, sample_weight=times[source[order]])
    labels = dict(zip(source[order], expected.labels_))
    np.testing.assert_array_equal(found.labels, [labels[item] for item in source])
    assert found.twins == (times[source] > 1).sum()
    assert (found.labels[times[source] >= 4] >= 0).all()


@pytest.mark.parametrize(("k1", "k2", "eps"), [(8, 3, 0.4), (30, 1, 0.6)])
def test_collapsed_features_are_one_cluster_whatever_the_neighbourhood(k1, k2, eps):
    noise = 1e-6 * np.random.default_rng(7).normal(size=(200, 8))
    for features in (np.ones((200, 8)), 1 + noise):
        assert (cluster(features, k1, k2, eps).labels == 0).all()


def test_copies_of_copies_are_one_item():
    rng = np.random.default_rng(8)
    values = np.repeat(np.ones((1, 32)) + 1e-4 * rng.normal(size=(40, 32)), 40, axis=0)
    features = np.concatenate([people(8, 100, 3, dim=32), values]).astype(np.float32)
    found = cluster(features, 8, 3, 0.4)
    assert found.twins == 1600
    assert len(set(found.labels[300:])) == 1
    assert found.labels[300] >= 0


def test_collapsed_features_are_one_cluster_and_all_twins():
    found = cluster(np.ones((200, 8)))
    assert (found.labels == 0).all()
    assert found.twins == 200


def test_features_that_share_nothing_are_all_outliers():
    found = cluster(np.random.default_rng(3).normal(size=(60, 64)), eps=0.01)
    assert (found.labels == -1).all()
    assert count_clusters(found.labels) == found.twins == 0
    assert centroids(np.ones((60, 4)), found.labels).shape == (0, 4)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_fewer_items_than_neighbours(size):
    features = np.random.default_rng(size).normal(size=(size, 4))
    assert cluster(features, min_samples=1).labels.min() >= 0
    assert len(cluster(features).labels) == size


def test_dbscan_keeps_distances_of_zero_and_says_nothing():
    from scipy.sparse import csr_matrix

    rows, columns = np.indices((4, 4)).reshape(2, -1)
    copies = csr_matrix((np.zeros(16), (rows, columns)), shape=(4, 4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert dbscan(copies, 0.5, 4).tolist() == [0, 0, 0, 0]


def test_centroids_are_normalised_means_of_normalised_members():
    rng = np.random.default_rng(4)
    features, labels = rng.normal(size=(50, 6)) * rng.uniform(0.1, 9, (50, 1)), rng.integers(-1, 5, 50)
    found = centroids(features, labels)
    assert found.dtype == np.float32
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    for c in range(5):
        mean = unit[labels == c].mean(axis=0)
        np.testing.assert_allclose(found[c], mean / np.linalg.norm(mean), atol=1e-6)


def test_memory_grows_with_the_number_of_items():
    held = []
    for identities in (100, 400):
        features = people(5, identities, images=5, dim=32)
        found, _ = nearest(features, 30)
        held.append(len(k_reciprocal.encode(features.astype(np.float32), [found], 30, 6).value) / len(features))
    assert held[1] < 1.25 * held[0]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"k1": 0}, "k1=0 and k2=6"),
        ({"eps": 1.5}, "radius=1.5 must lie"),
    ],
)
def test_arguments_are_checked(kwargs, message):
    with pytest.raises(ValueError, match=message):
        cluster(np.eye(4), **kwargs)


def test_too_few_neighbours_are_refused():
    with pytest.raises(ValueError, match="2 neighbours are too few"):
        jaccard_graph(np.eye(4), np.zeros((4, 2), dtype=int), 3, 1)


def test_a_missing_library_names_the_extra():
    with (
        mock.patch.dict("sys.modules", {"sklearn.cluster": None}),
        pytest.raises(ImportError, match=r"pip install 'mmreid_text\[clustering\]'"),
    ):
        cluster(np.eye(4))
