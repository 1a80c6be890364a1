"""What an index asks of the place where its vectors are."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from mmreid_text.gallery.filters import Condition
from mmreid_text.gallery.index_folder import IndexFolder, Manifest


@dataclass(frozen=True)
class Selection:
    """What may be found: rows with a vector, and of these the ones that a condition holds for.

    Attributes:
        allowed: bool (slots,), None for all.
        condition: The condition, None for none.
    """

    allowed: np.ndarray | None = None
    condition: Condition | None = None


class VectorStore(ABC):
    """Vectors by slot, a number that counts from 0 and is given once.

    Slots from ``manifest.slots`` on belong to a run that has not published them yet: they are never found.

    Args:
        folder: The index.
        manifest: As it was published.
    """

    selects_by_condition = False
    """Whether a search needs the condition itself rather than the rows that it holds for."""

    def __init__(self, folder: IndexFolder, manifest: Manifest) -> None:
        self.folder, self.manifest = folder, manifest

    @abstractmethod
    def write(self, start: int, vectors: np.ndarray, metadata: pa.Table) -> None:
        """Keep float32 (n, D) at the slots from ``start`` on, over what may be there; durable when it returns.

        Args:
            start: First slot.
            vectors: Of length 1.
            metadata: ``path`` and the columns of metadata, n rows.
        """

    @abstractmethod
    def read(self, slots: np.ndarray) -> np.ndarray:
        """Vectors float32 (n, D) of the slots int64 (n,).

        Raises:
            ValueError: One is not there.
        """

    @abstractmethod
    def annotate(self, slots: np.ndarray, metadata: pa.Table) -> None:
        """Renew ``path`` and metadata of slots, where the store keeps them."""

    @abstractmethod
    def publish(self, manifest: Manifest, live: np.ndarray, queries: np.ndarray) -> tuple[Manifest, np.ndarray]:
        """Get ready to be searched under a manifest that is about to count.

        Args:
            manifest: The next one: its generation and slots are set.
            live: Slots that images have, int64 (images,), ascending.
            queries: Features of sentences, float32 (Q, D), on which an approximate store measures its recall.

        Returns:
            The manifest with what the store notes in it, and the slots that ``live`` have from now on.
        """

    @abstractmethod
    def tidy(self, live: np.ndarray) -> None:
        """Remove what nobody has any more, after the manifest that says so."""

    @abstractmethod
    def search(self, queries: np.ndarray, topk: int, selection: Selection) -> tuple[np.ndarray, np.ndarray]:
        """Slots int64 (Q, topk) and cosine similarities float32 of the best, -1 and -inf where there are no more.

        Args:
            queries: float32 (Q, D) of length 1.
            topk: At least 1.
            selection: What may be found.
        """

    def load(self) -> None:
        """Bring up what searches need, so that a change of the index cannot take it away later."""
        return

    def close(self) -> None:
        """Let go of what the store holds open."""
        return
