"""A gallery of person crops that is searched by sentences."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmreid_text.apis.inferencer import TextReIDInferencer
from mmreid_text.file_lock import alone
from mmreid_text.gallery.filters import Kind
from mmreid_text.gallery.image_files import FILES, Listing, inside, list_files, rows_of
from mmreid_text.gallery.index_folder import STORES, IndexFolder, Manifest
from mmreid_text.gallery.indexing import IndexingRun
from mmreid_text.gallery.metadata import MetadataSettings
from mmreid_text.gallery.milvus_store import milvus_settings
from mmreid_text.gallery.report import IndexingReport
from mmreid_text.gallery.snapshot import Snapshot, check_model, open_snapshot, open_store

MAX_TOPK = 10_000


@dataclass(frozen=True)
class Hit:
    """An image that was found.

    Attributes:
        path: Relative to the gallery's folder.
        score: Cosine similarity to the query, -1 to 1.
        metadata: Its values by column, None where there is none.
    """

    path: str
    score: float
    metadata: dict[str, Any] = field(default_factory=dict)


class Gallery:
    """An index of a folder of crops, open for searching; made by :meth:`build` or :meth:`open`.

    The index is a folder of its own. It states the model whose vectors it holds and refuses any other. Many processes
    may search it while one changes it: they go on with the generation that they opened until :meth:`refresh`. Threads
    may share a gallery.

    >>> inferencer = TextReIDInferencer()  # doctest: +SKIP
    >>> gallery = Gallery.build('crops', inferencer, 'crops.index', pattern='(?P<camera>c[0-9]+)_')  # doctest: +SKIP
    >>> gallery.search('a woman in a red coat', topk=5, where='camera == "c2"')[0].path  # doctest: +SKIP
    '0042_c2_007.jpg'
    """

    def __init__(self, folder: IndexFolder, inferencer: TextReIDInferencer) -> None:
        self._folder, self.inferencer = folder, inferencer
        self._snapshot = open_snapshot(folder, inferencer.fingerprint)
        self.report: IndexingReport | None = None
        """Of the last change that this object made."""

    @classmethod
    def build(
        cls,
        folder: str | os.PathLike[str],
        inferencer: TextReIDInferencer,
        path: str | os.PathLike[str],
        store: str | None = None,
        metadata: str | os.PathLike[str] | None = None,
        pattern: str | None = None,
        uri: str | None = None,
        batch_size: int = 64,
        jobs: int | None = None,
        progress: bool = False,
    ) -> "Gallery":
        """Make the index ``path`` of all images below ``folder``, or bring it up to date; then open it.

        Only new and changed files are read (by size and time, then by content), so a file that was moved or touched is
        not encoded again. A run that was killed goes on where it was; until a run is done, searches find what they
        found before it. Duplicates, unreadable images and links out of the folder are passed over and named in
        :attr:`report`.

        Args:
            folder: Of the images (.jpg, .jpeg, .png, .webp, .bmp), with any folders in it.
            inferencer: The model.
            path: Folder of the index; must not lie in ``folder``.
            store: 'exact', 'int8' (a quarter of the memory, the best few ranked exactly), 'ivf' (int8 in lists, for
                many searches in large galleries; its recall is measured), or 'milvus'. None: as before, 'exact' at
                first.
            metadata: CSV, Parquet or JSON-lines file with a column ``path``. None: as before; '' for none any more.
            pattern: Regular expression whose named groups in an image's path are metadata. None: as before; '' for
                none.
            uri: Of a Milvus cluster; None for an embedded Milvus Lite in the index.
            batch_size: Images encoded at a time.
            jobs: Threads that read images; None for one per core.
            progress: Whether to show a bar with rate and time left.

        Raises:
            FileNotFoundError: There is no such folder or metadata file.
            ValueError: The folder holds no image, the index is of another model, folder or store, another process
                changes it, or the metadata cannot be used.
        """
        index, root = IndexFolder(path), Path(os.path.abspath(folder))
        listing = list_files(root)
        if Path(os.path.realpath(index.path)).is_relative_to(os.path.realpath(root)):
            raise ValueError(f"The index {index.path} lies in the folder {root} that it is of: name another place.")
        with _alone(index):
            if not index.exists():
                _create(index, root, inferencer, store or "exact", uri)
            manifest = index.manifest()
            check_model(manifest, inferencer.fingerprint, index)
            _check_request(manifest, index, root, store, uri)
            known = MetadataSettings(**manifest.metadata)
            settings = MetadataSettings(
                known.table if metadata is None else os.path.abspath(metadata) if os.fspath(metadata) else "",
                known.pattern if pattern is None else pattern,
            )
            report = _run(index, inferencer, settings, lambda _: listing, batch_size, jobs, progress)
        gallery = cls(index, inferencer)
        gallery.report = report
        return gallery

    @classmethod
    def open(cls, path: str | os.PathLike[str], inferencer: TextReIDInferencer | None = None) -> "Gallery":
        """Open an index.

        Args:
            path: Its folder.
            inferencer: The model that made it; None loads it from where it was.

        Raises:
            FileNotFoundError: There is no index, or its model's files are gone.
            ValueError: It is damaged, or of another model.
        """
        folder = IndexFolder(path)
        if inferencer is None:
            inferencer = TextReIDInferencer(**folder.manifest().model)
        return cls(folder, inferencer)

    def refresh(self) -> bool:
        """See what was published since this gallery was opened; whether there was anything."""
        if self._folder.manifest() == self._snapshot.manifest:
            return False
        self._snapshot = open_snapshot(
            self._folder, self.inferencer.fingerprint
        )  # the old one lives as long as a search uses it
        return True

    def add(self, paths: Iterable[str], batch_size: int = 64, jobs: int | None = None) -> IndexingReport:
        """Read images of the gallery's folder that are new or changed, and those alone.

        Args:
            paths: Relative to the gallery's folder.
            batch_size: As in :meth:`build`.
            jobs: As in :meth:`build`.

        Raises:
            FileNotFoundError: There is no such image.
            PermissionError: One leads out of the folder.
            ValueError: Another process changes the index.
        """
        root = self.root
        stats = [(path, inside(root, path).stat()) for path in sorted(set(paths))]
        new = pa.table(
            [
                [path for path, _ in stats],
                [stat.st_size for _, stat in stats],
                [stat.st_mtime_ns for _, stat in stats],
            ],
            schema=FILES,
        )
        return self._change(lambda rows: pa.concat_tables([_without(rows, new.column("path")), new]), batch_size, jobs)

    def remove(self, paths: Iterable[str]) -> IndexingReport:
        """Take images out of the index; :meth:`build` finds them again while their files are in the folder.

        Raises:
            KeyError: The index has no such image.
            ValueError: Another process changes it.
        """
        gone = pa.array(sorted(set(paths)), pa.string())
        missing = [path for path, row in zip(gone.to_pylist(), rows_of(gone, self.table.column("path"))) if row < 0]
        if missing:
            raise KeyError(f"The gallery has no image {missing[0]!r}.")
        return self._change(lambda rows: _without(rows, gone), 64, 1)

    def _change(self, files: Callable[[pa.Table], pa.Table], batch_size: int, jobs: int | None) -> IndexingReport:
        with _alone(self._folder):
            manifest = self._folder.manifest()
            check_model(manifest, self.inferencer.fingerprint, self._folder)
            self.report = _run(
                self._folder,
                self.inferencer,
                MetadataSettings(**manifest.metadata),
                lambda rows: Listing(files(rows.select(FILES.names)), {}),
                batch_size,
                jobs,
                False,
            )
        self.refresh()
        return self.report

    @overload
    def search(  # type: ignore[overload-overlap]
        self, queries: str, topk: int = 10, where: str | None = None
    ) -> list[Hit]: ...

    @overload
    def search(
        self, queries: Sequence[str] | np.ndarray, topk: int = 10, where: str | None = None
    ) -> list[list[Hit]]: ...

    def search(
        self, queries: str | Sequence[str] | np.ndarray, topk: int = 10, where: str | None = None
    ) -> list[Hit] | list[list[Hit]]:
        """The images that fit best.

        Args:
            queries: One sentence; or several, or features float (Q, D) of either kind.
            topk: Images per query, 1 to :data:`MAX_TOPK`.
            where: Condition on metadata and ``path``, as ``camera in ["c1", "c2"] and time >= 120000``; see
                :mod:`mmreid_text.gallery.filters`.

        Returns:
            Best first, fewer where the gallery or the condition has fewer; equal ones in the order in which they came
            into the index. A list for one sentence, else a list per query.

        Raises:
            ValueError: A sentence is empty or too long, the features do not fit, ``topk`` is out of range or the
                condition cannot be read.
        """
        if not 1 <= topk <= MAX_TOPK:
            raise ValueError(f"topk={topk} must lie in 1..{MAX_TOPK:,}.")
        snapshot = self._snapshot
        selection = snapshot.selection(where)
        one = isinstance(queries, str)
        if isinstance(queries, np.ndarray):
            feats = _unit(queries, snapshot.manifest.dim)
        else:
            feats = self.inferencer.encode_text([queries] if isinstance(queries, str) else list(queries))
        slots, scores = snapshot.store.search(feats, min(topk, max(snapshot.manifest.slots, 1)), selection)
        found = [_hits(snapshot, *row) for row in zip(slots, scores)]
        return found[0] if one else found

    def similar(self, path: str, topk: int = 10, where: str | None = None) -> list[Hit]:
        """The images most like one of the gallery, which is left out.

        Raises:
            KeyError: The gallery has no such image.
            ValueError: As :meth:`search` states.
        """
        (hits,) = self.search(self.features([path]), min(topk + 1, MAX_TOPK), where)
        return [hit for hit in hits if hit.path != path][:topk]

    def features(self, paths: Sequence[str]) -> np.ndarray:
        """Features of images of the gallery, float32 (n, D), L2-normalised.

        Raises:
            KeyError: The gallery has no such image.
        """
        snapshot = self._snapshot
        rows = rows_of(pa.array(paths, pa.string()), snapshot.rows.column("path"))
        slots = np.where(rows < 0, -1, snapshot.rows.column("slot").to_numpy()[rows]) if len(snapshot.rows) else rows
        if (slots < 0).any():
            raise KeyError(f"The gallery has no image {paths[int(np.argmax(slots < 0))]!r}.")
        return snapshot.store.read(slots)

    def image_path(self, path: str) -> Path:
        """The file of an image of the gallery; nothing else in or outside its folder.

        Raises:
            KeyError: The gallery has no such image.
            FileNotFoundError: Its file is gone.
            PermissionError: It was replaced by a link out of the folder.
        """
        row = rows_of(pa.array([path], pa.string()), self._snapshot.rows.column("path"))[0]
        if row < 0 or self._snapshot.rows.column("slot")[int(row)].as_py() < 0:
            raise KeyError(f"The gallery has no image {path!r}.")
        file = inside(self.root, path)
        if not file.is_file():
            raise FileNotFoundError(f"The file of {path!r} is gone from the gallery's folder {self.root}: index again.")
        return file

    def __len__(self) -> int:
        return self._snapshot.manifest.images

    @property
    def path(self) -> Path:
        """Folder of the index."""
        return self._folder.path

    @property
    def root(self) -> Path:
        """Folder of the images."""
        return Path(self._snapshot.manifest.root)

    @property
    def manifest(self) -> Manifest:
        """What the index states of itself."""
        return self._snapshot.manifest

    @property
    def columns(self) -> dict[str, Kind]:
        """Kinds of what conditions may name: ``path`` and the metadata."""
        return self._snapshot.columns

    @property
    def table(self) -> pa.Table:
        """``path`` and metadata of the images that can be found."""
        rows = self._snapshot.rows
        return rows.filter(pc.greater_equal(rows.column("slot"), 0)).select(list(self.columns))

    def close(self) -> None:
        """Let go of the store; the gallery cannot be used any more."""
        self._snapshot.store.close()


def _alone(folder: IndexFolder) -> Any:
    refusal = f"Another process changes the index {folder.path}: wait for it, or end it and run the same again"
    return alone(folder.lock, refusal)


def _create(folder: IndexFolder, root: Path, inferencer: TextReIDInferencer, store: str, uri: str | None) -> None:
    if store not in STORES:
        raise ValueError(f"store={store!r} must be one of {', '.join(STORES)}.")
    folder.write_manifest(
        Manifest(
            root=str(root),
            store=store,
            fingerprint=inferencer.fingerprint,
            dim=inferencer.embed_dim,
            model=dict(inferencer.source),
            milvus=milvus_settings(uri) if store == "milvus" else {},
        )
    )


def _check_request(manifest: Manifest, folder: IndexFolder, root: Path, store: str | None, uri: str | None) -> None:
    for name, asked, has in (
        ("folder", str(root), manifest.root),
        ("store", store, manifest.store),
        ("uri", uri, manifest.milvus.get("uri")),
    ):
        if asked is not None and asked != has:
            raise ValueError(
                f"The index {folder.path} has {name} {has!r}, and {asked!r} is asked for: leave it out, or make "
                "another index."
            )


def _run(
    folder: IndexFolder,
    inferencer: TextReIDInferencer,
    settings: MetadataSettings,
    listing: Callable[[pa.Table], Listing],
    batch_size: int,
    jobs: int | None,
    progress: bool,
) -> IndexingReport:
    manifest = folder.manifest()
    store = open_store(folder, manifest)
    try:
        run = IndexingRun(folder, manifest, store, inferencer, settings)
        return run.run(listing(run.before), batch_size, jobs or os.cpu_count() or 1, progress)[1]
    finally:
        store.close()


def _unit(queries: np.ndarray, dim: int) -> np.ndarray:
    if queries.ndim != 2 or queries.shape[1] != dim:
        raise ValueError(f"Queries must be features (Q, {dim}), got {queries.shape}.")
    norms = np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
    if not np.isfinite(norms).all() or not norms.all():
        raise ValueError("A query's features are not finite, or all zero.")
    return (queries / norms).astype(np.float32)


def _hits(snapshot: Snapshot, slots: np.ndarray, scores: np.ndarray) -> list[Hit]:
    found = slots >= 0
    names = list(snapshot.columns)
    rows = snapshot.rows.select(names).take(pa.array(snapshot.row_of_slot[slots[found]])).to_pylist()
    return [Hit(row.pop("path"), float(score), row) for row, score in zip(rows, scores[found])]


def _without(rows: pa.Table, paths: pa.ChunkedArray | pa.Array) -> pa.Table:
    return rows.filter(pa.array(rows_of(rows.column("path"), paths) < 0))
