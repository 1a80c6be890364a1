"""Vectors in a file of the index; searched exactly, or by faiss with the best few ranked exactly."""

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mmreid_text.atomic_write import written_beside
from mmreid_text.gallery.exact_search import exact_search
from mmreid_text.gallery.faiss_library import load_faiss
from mmreid_text.gallery.index_folder import Manifest
from mmreid_text.gallery.recall import RecallCheck
from mmreid_text.gallery.store import Selection, VectorStore

RERANK = 4
"""An approximate store finds so many times the wanted number, and at least :data:`RERANK_LEAST`, to rank exactly."""
RERANK_LEAST = 100
TARGET_RECALL = 0.99
_TRAIN = 100_000
_GARBAGE = 0.25
"""Share of unused slots from which on the file of vectors is written anew."""
_BLOCK = 65_536


class LocalStore(VectorStore):
    """Vectors in ``vectors-<n>.f32``, float32, row by row, to which a run only adds.

    ``exact`` scores all of them. ``int8`` keeps a byte per dimension in memory (faiss's scalar quantizer), reads of the
    float32 vectors only the best few, from disk, and ranks these exactly. ``ivf`` is ``int8`` in lists around centres
    (faiss's IVF), of which a search visits as few as reach :data:`TARGET_RECALL` on the gallery's own vectors and on
    sentences; more where a condition lets fewer images be found, and all before it finds too few.
    """

    @cached_property
    def vectors(self) -> np.ndarray:
        """float32 (slots, D), mapped into memory.

        Raises:
            ValueError: The file is shorter than the manifest says.
        """
        return self._map(self.manifest.slots)

    def _map(self, slots: int) -> np.ndarray:
        dim = self.manifest.dim
        path = self.folder.vectors_path(self.manifest.vectors)
        if not slots:
            return np.empty((0, dim), np.float32)
        try:
            # Copy on write: nothing is written, and torch warns about arrays that cannot be.
            return np.asarray(np.memmap(path, np.float32, "c", shape=(slots, dim)))
        except FileNotFoundError:
            raise
        except (ValueError, OSError) as error:
            raise self.folder.damaged(path, error) from error

    def write(self, start: int, vectors: np.ndarray, metadata: pa.Table) -> None:
        file = os.open(self.folder.vectors_path(self.manifest.vectors), os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            at = start * self.manifest.dim * 4
            data = memoryview(np.ascontiguousarray(vectors, np.float32).tobytes())
            while data:
                written = os.pwrite(file, data, at)
                data, at = data[written:], at + written
            os.fsync(file)
        finally:
            os.close(file)

    @cached_property
    def _file(self) -> Any:
        return open(self.folder.vectors_path(self.manifest.vectors), "rb", buffering=0)

    def read(self, slots: np.ndarray) -> np.ndarray:
        # Not from the map, whose neighbouring pages would count as this process's memory.
        size = 4 * self.manifest.dim
        rows = [os.pread(self._file.fileno(), size, size * int(slot)) for slot in slots]
        if any(len(row) < size for row in rows):
            path = self.folder.vectors_path(self.manifest.vectors)
            raise self.folder.damaged(path, ValueError(f"it has fewer than {int(slots.max()) + 1:,} vectors"))
        return np.frombuffer(b"".join(rows), np.float32).reshape(len(slots), self.manifest.dim)

    def annotate(self, slots: np.ndarray, metadata: pa.Table) -> None:
        return  # the table of the index has them

    def publish(self, manifest: Manifest, live: np.ndarray, queries: np.ndarray) -> tuple[Manifest, np.ndarray]:
        if manifest.slots - len(live) > _GARBAGE * manifest.slots:
            manifest, live = self._compacted(manifest, live)
        after = type(self)(self.folder, manifest)
        if manifest.store != "exact" and len(live):
            manifest = after._write_search(self, live, queries)
        return manifest, live

    def _compacted(self, manifest: Manifest, live: np.ndarray) -> tuple[Manifest, np.ndarray]:
        number = manifest.vectors + 1
        old = self._map(manifest.slots)
        with written_beside(self.folder.vectors_path(number)) as beside, beside.open("wb") as file:
            for start in range(0, len(live), _BLOCK):
                file.write(old[live[start : start + _BLOCK]])
        return manifest.with_(vectors=number, slots=len(live), search={}), np.arange(len(live))

    def _write_search(self, before: "LocalStore", live: np.ndarray, queries: np.ndarray) -> Manifest:
        """Write faiss's index of all slots, grown from the last one where that was trained on enough."""
        faiss = load_faiss()
        slots = self.manifest.slots
        trained = int(self.manifest.search.get("trained", 0))
        grows = before.manifest.vectors == self.manifest.vectors and 2 * trained >= len(live) > 0
        index = before._index_if_whole() if grows else None
        if index is None:
            sample = self.vectors[_sample(live, _TRAIN)]
            index, trained = _trained(self.manifest.store, sample, len(live)), len(live)
        for start in range(index.ntotal, slots, _BLOCK):
            index.add(np.ascontiguousarray(self.vectors[start : start + _BLOCK]))
        self._index = index
        recall: dict[str, float] = {}
        check = RecallCheck(self.vectors, live, queries, _only(live, slots))
        for nprobe in _probes(index):
            self.manifest = self.manifest.with_(search={"trained": trained, "nprobe": nprobe})
            recall = check.measure(self)
            if min(recall.values()) >= TARGET_RECALL:
                break
        path = self.folder.search_path(self.manifest.generation)
        with written_beside(path) as beside:
            faiss.write_index(index, str(beside))
        return self.manifest.with_(recall=recall)

    @cached_property
    def _index(self) -> Any:
        return _read_index(self.folder.search_path(self.manifest.generation), self)

    def _index_if_whole(self) -> Any:
        try:
            return self._index
        except (FileNotFoundError, ValueError):
            return None

    def load(self) -> None:
        load_faiss()
        _ = self.vectors
        if self.manifest.slots:
            _ = self._file
        if self.manifest.images and self.manifest.store != "exact":
            _ = self._index

    def close(self) -> None:
        self.__dict__.pop("_index", None)
        if "_file" in self.__dict__:
            self.__dict__.pop("_file").close()

    def tidy(self, live: np.ndarray) -> None:
        return  # unused slots wait until they are many

    def search(self, queries: np.ndarray, topk: int, selection: Selection) -> tuple[np.ndarray, np.ndarray]:
        if self.manifest.store == "exact":
            return exact_search(self.vectors, queries, topk, selection.allowed)
        slots = np.full((len(queries), topk), -1, np.int64)
        scores = np.full((len(queries), topk), -np.inf, np.float32)
        if not self.manifest.images:
            return slots, scores
        count = min(max(RERANK * topk, RERANK_LEAST), len(self.vectors))
        for i, near in enumerate(self._nearest(queries, count, selection.allowed)):
            near = np.sort(near[near >= 0])
            exact = self.read(near) @ queries[i]
            order = np.argsort(-exact, kind="stable")[:topk]
            slots[i, : len(order)], scores[i, : len(order)] = near[order], exact[order]
        return slots, scores

    def _nearest(self, queries: np.ndarray, count: int, allowed: np.ndarray | None) -> np.ndarray:
        """Slots (Q, count) by faiss, -1 where there are no more."""
        faiss = load_faiss()
        queries = np.ascontiguousarray(queries)
        kwargs: dict[str, Any] = {}
        images = len(self.vectors)
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            kwargs["sel"] = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
            images = int(np.count_nonzero(allowed))
        nprobe = int(self.manifest.search.get("nprobe", 0))
        if not nprobe:
            return self._index.search(queries, count, params=faiss.SearchParameters(**kwargs))[1]
        # The nearest of a few images are in lists farther off: as many of them must be looked at.
        lists = self._index.nlist
        visited = min(lists, -(-nprobe * len(self.vectors) // max(images, 1)))
        near = self._index.search(queries, count, params=faiss.SearchParametersIVF(nprobe=visited, **kwargs))[1]
        if visited < lists and (near[:, min(count, images) - 1] < 0).any():
            near = self._index.search(queries, count, params=faiss.SearchParametersIVF(nprobe=lists, **kwargs))[1]
        return near


def _trained(store: str, sample: np.ndarray, images: int) -> Any:
    """An empty faiss index for so many images, trained on vectors (n, D)."""
    faiss = load_faiss()
    dim = sample.shape[1]
    kind, metric = faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    if store == "int8":
        index = faiss.IndexScalarQuantizer(dim, kind, metric)
    else:
        lists = max(1, min(int(4 * images**0.5), len(sample) // 39))
        index = faiss.IndexIVFScalarQuantizer(faiss.IndexFlatIP(dim), dim, lists, kind, metric)
    index.train(np.ascontiguousarray(sample))
    return index


def _probes(index: Any) -> list[int]:
    """Numbers of lists to try, ascending to all of them; 0 where there are no lists."""
    lists = getattr(index, "nlist", 0)
    if not lists:
        return [0]
    return [*(2**i for i in range(lists.bit_length()) if 8 <= 2**i < lists), lists]


def _read_index(path: Path, store: LocalStore) -> Any:
    faiss = load_faiss()
    if not path.exists():
        raise FileNotFoundError(path)
    try:
        index = faiss.read_index(str(path))
        if (index.ntotal, index.d) != (store.manifest.slots, store.manifest.dim):
            raise RuntimeError(f"it holds {index.ntotal} vectors of {index.d} dimensions")
    except RuntimeError as error:
        if not path.exists():  # removed meanwhile, as a later generation stands
            raise FileNotFoundError(path) from error
        raise store.folder.damaged(path, error) from error
    return index


def _sample(slots: np.ndarray, count: int) -> np.ndarray:
    if len(slots) <= count:
        return slots
    return np.sort(np.random.default_rng(0).choice(slots, count, replace=False))


def _only(live: np.ndarray, slots: int) -> np.ndarray | None:
    if len(live) == slots:
        return None
    allowed = np.zeros(slots, bool)
    allowed[live] = True
    return allowed
