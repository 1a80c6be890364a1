"""One generation of an index, open for searching."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from mmreid_text.gallery.filters import Kind, mask, parse
from mmreid_text.gallery.index_folder import ROWS, IndexFolder, Manifest
from mmreid_text.gallery.local_store import LocalStore
from mmreid_text.gallery.metadata import kinds
from mmreid_text.gallery.milvus_store import MilvusStore
from mmreid_text.gallery.store import Selection, VectorStore


@dataclass(frozen=True)
class Snapshot:
    """One generation of an index, which a search sees from begin to end."""

    manifest: Manifest
    rows: pa.Table
    store: VectorStore
    row_of_slot: np.ndarray  # int64 (slots,), -1 where no image has the vector

    @property
    def columns(self) -> dict[str, Kind]:
        """Kinds of what conditions may name: ``path`` and the metadata."""
        schema = self.rows.schema
        return kinds(pa.schema([schema.field("path"), *list(schema)[len(ROWS) :]]))

    def selection(self, where: str | None) -> Selection:
        """What a condition lets be found.

        Raises:
            ValueError: It cannot be read.
        """
        live = self.row_of_slot >= 0
        if where is None or not where.strip():
            return Selection(None if live.all() else live)
        condition = parse(where, self.columns)
        if self.store.selects_by_condition:
            return Selection(live, condition)
        return Selection(live & mask(condition, self.rows)[self.row_of_slot], condition)


def open_snapshot(folder: IndexFolder, fingerprint: str) -> Snapshot:
    """Open the generation that counts.

    Args:
        folder: The index.
        fingerprint: Of the model that will search it.

    Raises:
        FileNotFoundError: There is no index.
        ValueError: It is damaged, or of another model.
    """
    for attempt in range(5):
        manifest = folder.manifest()
        check_model(manifest, fingerprint, folder)
        try:
            rows = folder.rows(manifest)
            store = open_store(folder, manifest)
            store.load()
        except FileNotFoundError as error:  # a later generation was published meanwhile, and this one's files are gone
            if attempt == 4 or folder.manifest() == manifest:
                raise folder.damaged(Path(error.filename or folder.path), error) from error
            continue
        slots = rows.column("slot").to_numpy()
        row_of_slot = np.full(manifest.slots, -1)
        row_of_slot[slots[slots >= 0]] = np.flatnonzero(slots >= 0)
        return Snapshot(manifest, rows, store, row_of_slot)
    raise AssertionError


def open_store(folder: IndexFolder, manifest: Manifest) -> VectorStore:
    """The vectors of an index."""
    return MilvusStore(folder, manifest) if manifest.store == "milvus" else LocalStore(folder, manifest)


def check_model(manifest: Manifest, fingerprint: str, folder: IndexFolder) -> None:
    """Refuse an index of another model.

    Raises:
        ValueError: Names both.
    """
    if manifest.fingerprint != fingerprint:
        made = manifest.model.get("checkpoint") or manifest.model.get("config") or "the small CLIP of the package"
        raise ValueError(
            f"The index {folder.path} holds the vectors of another model (made with {made}; fingerprint "
            f"{manifest.fingerprint[:12]}, this model's is {fingerprint[:12]}): vectors of two models cannot be "
            "compared. Search with that model, or make an index of its own for this one."
        )
