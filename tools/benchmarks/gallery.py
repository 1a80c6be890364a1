"""Searching 1 M x 512 features: exact, int8 and IVF, beside reading the memory once; opening and changing the index."""

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from benchmarks.common import Job, Row, interleaved, peak_memory

from mmreid_text.gallery.exact_search import exact_search
from mmreid_text.gallery.image_files import FILES, Listing
from mmreid_text.gallery.index_folder import ROWS, IndexFolder, Manifest
from mmreid_text.gallery.indexing import IndexingRun
from mmreid_text.gallery.local_store import LocalStore
from mmreid_text.gallery.metadata import MetadataSettings
from mmreid_text.gallery.snapshot import Snapshot, open_snapshot
from mmreid_text.gallery.store import Selection

IMAGES = 1_000_000
DIM = 512
PER_PERSON = 5
SPREAD = {"easy": 0.61, "hard": 1.49}
"""Noise beside a person's direction: cosines of 0.73 and of 0.31 between images of one person."""
BATCH = 200
TOPK = 10
_BLOCK = 50_000


class NoEncoder:
    """Stands where nothing is encoded."""

    def prepare(self, image: object) -> dict:
        raise AssertionError

    def encode_prepared(self, samples: object) -> np.ndarray:
        raise AssertionError

    def encode_text(self, sentences: list[str], batch_size: int = 256) -> np.ndarray:
        raise AssertionError


def run(rounds: int) -> list[Row]:
    folder = Path(tempfile.mkdtemp(prefix="gallery-benchmark-"))
    try:
        rows = []
        for kind in SPREAD:
            built = build(folder / kind, kind)
            rows += _searches(folder / kind, kind, rounds, built)
        return rows + _changes(folder / "easy", rounds)
    finally:
        shutil.rmtree(folder)


def _searches(folder: Path, kind: str, rounds: int, built: dict[str, float]) -> list[Row]:
    stores = {store: open_snapshot(IndexFolder(folder / store), "") for store in ("exact", "int8", "ivf")}
    exact = stores["exact"].store
    assert isinstance(exact, LocalStore)
    queries = make_queries(exact.vectors, 1)
    recall = {store: _recall(snapshot, exact.vectors, queries) for store, snapshot in stores.items()}
    one = {f"one {store}": _search(snapshot, queries[:1]) for store, snapshot in stores.items()}
    many = {"many exact": _search(stores["exact"], queries)}
    jobs: dict[str, Job] = {"read": lambda: torch.from_numpy(exact.vectors).sum(), **one, **many}
    seconds = interleaved(jobs, rounds)
    memory = {store: peak_memory("gallery", store, str(folder / store)) for store in stores}
    size = float(exact.vectors.nbytes)
    name = f"gallery, 1 M x 512 {kind}"
    rows = [
        Row(
            *(f"{name}: one exact query", "reading the vectors once", seconds["one exact"], seconds["read"]),
            ours_bytes=size,
            reference_bytes=size,
        ),
        Row(
            *(f"{name}: {BATCH} exact queries", "one after the other"),
            *(seconds["many exact"], BATCH * seconds["one exact"]),
        ),
    ]
    for store in ("int8", "ivf"):
        remark = f"recall@10 {100 * recall[store]:.2f}%, built in {built[store]:.0f} s, exact in {built['exact']:.0f} s"
        if store == "ivf":
            remark += f", {stores[store].manifest.search['nprobe']} lists visited"
        times = seconds[f"one {store}"], seconds["one exact"]
        rows.append(Row(f"{name}: one {store} query", "exact", *times, memory[store], memory["exact"], remark))
    return rows


def _changes(folder: Path, rounds: int) -> list[Row]:
    """Opening the exact index, and taking 1,000 images out of it."""
    index = IndexFolder(folder / "exact")
    before = index.manifest()
    fewer = index.rows(before).select(FILES.names).slice(1000)

    def remove() -> None:
        store = LocalStore(index, before)
        IndexingRun(index, before, store, NoEncoder(), MetadataSettings()).run(Listing(fewer, {}), 64, 1, False)

    path = index.vectors_path(0)
    jobs: dict[str, Job] = {
        "open": lambda: open_snapshot(index, ""),
        "copy": lambda: shutil.copyfile(path, folder / "copy"),
        "read": lambda: path.read_bytes(),
    }
    seconds = interleaved(jobs, rounds)
    seconds["remove"] = _cpu_seconds(remove)
    return [
        Row("gallery, 1 M x 512: open the exact index", "reading its vectors", seconds["open"], seconds["read"]),
        Row(
            *("gallery, 1 M x 512: take 1,000 images out", "writing the vectors anew", seconds["remove"]),
            *(seconds["copy"], None, None, "once"),
        ),
    ]


def _cpu_seconds(job: Job) -> float:
    began = time.process_time()
    job()
    return time.process_time() - began


def build(folder: Path, kind: str) -> dict[str, float]:
    """Make the three indexes of the same vectors; seconds of each, encoding left out."""
    seconds = {}
    files = pa.table(
        [
            pa.array([f"camera_{i % 40}/{i:07d}.jpg" for i in range(IMAGES)]),
            pa.array(np.full(IMAGES, 30_000)),
            pa.array(np.arange(IMAGES)),
            pa.array([f"{i:032x}" for i in range(IMAGES)]),
            pa.array(np.arange(IMAGES)),
            pa.array([""] * IMAGES),
        ],
        schema=ROWS,
    ).sort_by("path")
    files = files.set_column(4, "slot", pa.array(np.arange(IMAGES)))
    vectors: Path | None = None
    for name in ("exact", "int8", "ivf"):
        index = IndexFolder(folder / name)
        empty = Manifest(root="", store=name, fingerprint="", dim=DIM)
        index.write_manifest(empty)
        began = time.perf_counter()
        store = LocalStore(index, empty)
        if vectors is None:
            vectors = index.vectors_path(0)
            write_vectors(store, kind)
        else:
            index.vectors_path(0).hardlink_to(vectors)
        manifest = empty.with_(generation=1, slots=IMAGES, images=IMAGES)
        manifest, _ = store.publish(manifest, np.arange(IMAGES), make_queries(LocalStore(index, manifest).vectors, 2))
        index.write_rows(files, 1)
        index.write_manifest(manifest)
        seconds[name] = time.perf_counter() - began
    return seconds


def write_vectors(store: LocalStore, kind: str) -> None:
    """People around random directions, PER_PERSON images of each, as features of a trained model cluster."""
    rng = np.random.default_rng(0)
    for start in range(0, IMAGES, _BLOCK):
        people = unit(rng.standard_normal((_BLOCK // PER_PERSON, DIM), dtype=np.float32))
        noise = unit(rng.standard_normal((_BLOCK, DIM), dtype=np.float32))
        store.write(start, unit(np.repeat(people, PER_PERSON, axis=0) + SPREAD[kind] * noise), pa.table({"path": []}))


def make_queries(vectors: np.ndarray, seed: int) -> np.ndarray:
    """Farther from images than these are from each other, as sentences are: cosines of 0.5 to one image."""
    rng = np.random.default_rng(seed)
    chosen = vectors[np.sort(rng.choice(len(vectors), BATCH, replace=False))]
    return unit(chosen + 1.73 * unit(rng.standard_normal(chosen.shape, dtype=np.float32)))


def unit(array: np.ndarray) -> np.ndarray:
    return array / np.linalg.norm(array, axis=1, keepdims=True)


def _search(snapshot: Snapshot, queries: np.ndarray) -> Callable[[], object]:
    return lambda: snapshot.store.search(queries, TOPK, Selection())


def _recall(snapshot: Snapshot, vectors: np.ndarray, queries: np.ndarray) -> float:
    wanted, _ = exact_search(vectors, queries, TOPK)
    found, _ = snapshot.store.search(queries, TOPK, Selection())
    return float((wanted[:, :, None] == found[:, None, :]).any(axis=2).mean())


def memory_job(name: str, argument: str) -> Job:
    """Open an index and ask it 20 times."""
    queries = unit(np.random.default_rng(3).standard_normal((20, DIM), dtype=np.float32))

    def job() -> None:
        snapshot = open_snapshot(IndexFolder(argument), "")
        for query in queries:
            snapshot.store.search(query[None], TOPK, Selection())

    return job
