"""How much of the exact answer an approximate store finds."""

import numpy as np

from mmreid_text.gallery.exact_search import exact_search
from mmreid_text.gallery.store import Selection, VectorStore

K = 10
QUERIES = 500
_PEOPLE = ("man", "woman", "person", "girl", "boy")
_COLOURS = ("black", "white", "red", "blue", "green", "grey", "yellow", "pink", "brown", "purple")
_CLOTHES = ("coat", "t-shirt and jeans", "dress", "hoodie with a backpack", "jacket and shorts", "suit with a bag")
SENTENCES = [f"A {who} in a {colour} {what}." for who in _PEOPLE for colour in _COLOURS for what in _CLOTHES]
"""What people ask for, 300 of it: sentences lie elsewhere in the joint space than images do."""


class RecallCheck:
    """Recall@10 against the exact search in the same vectors, for images of the gallery and for sentences as queries.

    Args:
        vectors: float32 (slots, D).
        live: Slots that can be found, ascending, int64 (n,).
        sentences: Features of sentences, float32 (Q, D).
        allowed: bool (slots,), the same slots, or None for all.
    """

    def __init__(
        self, vectors: np.ndarray, live: np.ndarray, sentences: np.ndarray, allowed: np.ndarray | None
    ) -> None:
        chosen = np.sort(np.random.default_rng(1).choice(live, min(QUERIES, len(live)), replace=False))
        self.selection = Selection(allowed)
        queries = {"images": (vectors[chosen], chosen), "sentences": (sentences, None)}
        self._asked = {
            name: (asked, own, exact_search(vectors, asked, K + (own is not None), allowed)[0])
            for name, (asked, own) in queries.items()
            if len(asked)
        }

    def measure(self, store: VectorStore) -> dict[str, float]:
        """Shares of the exact ten that a store finds, 0 to 1, by kind of query; an image is no answer to itself."""
        return {
            name: _recall(wanted, store.search(asked, wanted.shape[1], self.selection)[0], own)
            for name, (asked, own, wanted) in self._asked.items()
        }


def _recall(wanted: np.ndarray, found: np.ndarray, own: np.ndarray | None) -> float:
    hits = (wanted[:, :, None] == found[:, None, :]).any(axis=2)
    counts = wanted >= 0
    if own is not None:
        counts &= wanted != own[:, None]
    return float((hits & counts).sum() / max(counts.sum(), 1))
