"""Diagnostics against counting pairs one by one."""

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmreid_text.clustering import agreement, label_counts


@settings(max_examples=40, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(-1, 4), st.integers(0, 5)), min_size=2, max_size=25))
def test_precision_and_recall_count_pairs(pairs):
    labels, identities = (np.array(column) for column in zip(*pairs))
    got = agreement(labels, identities)
    same_label = same_identity = both = 0
    for i, j in combinations(range(len(labels)), 2):
        label, identity = labels[i] == labels[j] != -1, identities[i] == identities[j]
        same_label, same_identity, both = same_label + label, same_identity + identity, both + (label and identity)
    assert got["precision"] == (both / same_label if same_label else 1)
    assert got["recall"] == (both / same_identity if same_identity else 1)
    assert -1 <= got["ari"] <= 1 + 1e-9
    assert 0 <= got["nmi"] <= 1 + 1e-9


def test_perfect_labels_and_outliers_of_their_own():
    identities = np.repeat([4, 9, 11], 5)
    assert agreement(identities - 4, identities) == {"precision": 1, "recall": 1, "ari": 1, "nmi": 1}
    none = agreement(np.full(15, -1), identities)
    assert (none["precision"], none["recall"], none["ari"]) == (1, 0, 0)
    # Outliers are not one cluster: leaving out a whole identity costs its recall, not precision.
    part = agreement(np.where(identities == 9, -1, identities - 4), identities)
    assert part["precision"] == 1
    assert part["recall"] == 2 / 3


def test_counts():
    assert label_counts(np.array([2, -1, 0, 0, 1, -1])) == {"clusters": 3, "outliers": 2, "largest": 2}
    assert label_counts(np.full(3, -1)) == {"clusters": 0, "outliers": 3, "largest": 0}
