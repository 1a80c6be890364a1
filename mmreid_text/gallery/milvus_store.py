"""Vectors in Milvus: in an embedded file of Milvus Lite or on a cluster, by the same code."""

import os
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa

from mmreid_text.gallery.filters import MILVUS_PREFIX, milvus
from mmreid_text.gallery.index_folder import IndexFolder, Manifest
from mmreid_text.gallery.store import Selection, VectorStore
from mmreid_text.quiet_log import logs_left_alone

LITE = "milvus.db"
"""Name in the index's folder of the embedded database, which stands for its URI."""
_BATCH = 1000
_MOST = 16_384
"""Results that Milvus gives at most."""


def milvus_settings(uri: str | None) -> dict[str, str]:
    """What a new index notes of its Milvus.

    Args:
        uri: Of a cluster, as ``http://host:19530``; None for a database in the index's folder. A cluster's token is
            read from the environment variable ``MILVUS_TOKEN`` and written nowhere.
    """
    return {"uri": uri or LITE, "collection": f"gallery_{uuid4().hex}"}


class MilvusStore(VectorStore):
    """A collection with a row per vector: its slot, the vector, and the metadata as dynamic fields.

    Raises:
        ConnectionError: Milvus cannot be reached or refuses.
    """

    selects_by_condition = True

    def __init__(self, folder: IndexFolder, manifest: Manifest) -> None:
        super().__init__(folder, manifest)
        try:
            with logs_left_alone():
                from pymilvus import MilvusClient
        except ImportError as error:
            raise ImportError(
                'An index in Milvus needs pymilvus and milvus-lite: pip install "mmreid_text[search]"'
            ) from error

        self.collection = manifest.milvus["collection"]
        self._loaded = False
        uri = manifest.milvus["uri"]
        uri = str(folder.path / LITE) if uri == LITE else uri
        self._client: Any = self._try(
            lambda: MilvusClient(uri=uri, token=os.environ.get("MILVUS_TOKEN", "")), f"cannot be reached at {uri}"
        )

    def _try(self, call: Any, failure: str) -> Any:
        from pymilvus.exceptions import MilvusException

        try:
            return call()
        except (MilvusException, OSError) as error:
            raise ConnectionError(f"Milvus {failure}: {error}") from error

    def _ready(self) -> None:
        """Make the collection where there is none, and let it be searched."""
        from pymilvus import DataType

        if self._loaded:
            return
        if self._client.has_collection(self.collection):
            self._client.load_collection(self.collection)
            self._loaded = True
            return
        schema = self._client.create_schema(auto_id=False, enable_dynamic_field=True)
        schema.add_field("slot", DataType.INT64, is_primary=True)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=self.manifest.dim)
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type="AUTOINDEX", metric_type="IP")
        self._client.create_collection(self.collection, schema=schema, index_params=index, consistency_level="Strong")
        self._loaded = True

    def write(self, start: int, vectors: np.ndarray, metadata: pa.Table) -> None:
        self._upsert(np.arange(start, start + len(vectors)), vectors, metadata)

    def _upsert(self, slots: np.ndarray, vectors: np.ndarray, metadata: pa.Table) -> None:
        def put() -> None:
            self._ready()
            for at in range(0, len(slots), _BATCH):
                part = slice(at, at + _BATCH)
                rows = [
                    {"slot": int(slot), "vector": vector, **_known(fields)}
                    for slot, vector, fields in zip(slots[part], vectors[part], metadata.slice(at, _BATCH).to_pylist())
                ]
                self._client.upsert(self.collection, rows)

        self._try(put, "does not take vectors")

    def read(self, slots: np.ndarray) -> np.ndarray:
        self._try(self._ready, "does not load the collection")
        found: dict[int, Any] = {}
        for at in range(0, len(slots), _BATCH):
            wanted = [int(slot) for slot in slots[at : at + _BATCH]]
            rows = self._try(
                lambda wanted=wanted: self._client.get(self.collection, ids=wanted, output_fields=["vector"]),
                "does not give vectors",
            )
            found |= {row["slot"]: row["vector"] for row in rows}
        missing = [slot for slot in slots.tolist() if slot not in found]
        if missing:
            raise ValueError(
                f"Milvus's collection {self.collection} lacks {len(missing):,} vectors of the index "
                f"{self.folder.path}: delete the index and build it again."
            )
        return np.array([found[slot] for slot in slots.tolist()], np.float32).reshape(len(slots), self.manifest.dim)

    def annotate(self, slots: np.ndarray, metadata: pa.Table) -> None:
        for at in range(0, len(slots), _BATCH):
            part = slots[at : at + _BATCH]
            self._upsert(part, self.read(part), metadata.slice(at, _BATCH))

    def publish(self, manifest: Manifest, live: np.ndarray, queries: np.ndarray) -> tuple[Manifest, np.ndarray]:
        self._try(self._ready, "does not make the collection")
        return manifest, live

    def tidy(self, live: np.ndarray) -> None:
        self._try(lambda: self._remove_others(live), "does not remove vectors")

    def _remove_others(self, live: np.ndarray) -> None:
        (row,) = self._client.query(self.collection, filter="", output_fields=["count(*)"])
        if row["count(*)"] == len(live):
            return
        rows = self._client.query_iterator(
            self.collection, batch_size=_BATCH, filter="slot >= 0", output_fields=["slot"]
        )
        stale: list[int] = []
        while batch := rows.next():
            slots = np.array([row["slot"] for row in batch])
            stale += slots[~np.isin(slots, live)].tolist()
        rows.close()
        for at in range(0, len(stale), _BATCH):
            self._client.delete(self.collection, ids=stale[at : at + _BATCH])

    def search(self, queries: np.ndarray, topk: int, selection: Selection) -> tuple[np.ndarray, np.ndarray]:
        slots = np.full((len(queries), topk), -1, np.int64)
        scores = np.full((len(queries), topk), -np.inf, np.float32)
        if not len(queries) or not self.manifest.slots:
            return slots, scores
        test = f"slot < {self.manifest.slots}"
        if selection.condition is not None:
            test += f" and {milvus(selection.condition)}"
        for i, hits in enumerate(self._try(lambda: self._ask(queries, topk, test, selection), "does not answer")):
            best = sorted(hits, key=lambda hit: (-hit["distance"], hit["slot"]))[:topk]
            slots[i, : len(best)] = [hit["slot"] for hit in best]
            scores[i, : len(best)] = [hit["distance"] for hit in best]
        return slots, scores

    def _ask(self, queries: np.ndarray, topk: int, test: str, selection: Selection) -> list[list[dict[str, Any]]]:
        limit = min(topk, _MOST)
        while True:
            answers = self._client.search(
                self.collection,
                data=list(queries),
                limit=limit,
                filter=test,
                output_fields=["slot"],
                search_params={"metric_type": "IP"},
            )
            kept = [[hit for hit in hits if _allows(selection, hit["slot"])] for hits in answers]
            short = any(len(mine) < topk and len(hits) == limit for mine, hits in zip(kept, answers))
            if not short or limit == _MOST:
                return kept
            limit = min(4 * limit, _MOST)  # removed images, not yet gone from Milvus, have taken places

    def load(self) -> None:
        if self.manifest.slots:
            self._try(self._ready, "does not load the collection")

    def close(self) -> None:
        self._client.close()


def _known(fields: dict[str, Any]) -> dict[str, Any]:
    """Dynamic fields of a row: what it has no value for is left out."""
    return {MILVUS_PREFIX + name: value for name, value in fields.items() if value is not None}


def _allows(selection: Selection, slot: int) -> bool:
    return selection.allowed is None or bool(selection.allowed[slot])
