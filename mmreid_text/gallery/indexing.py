"""Brings an index up to date with its folder: lists, reads and encodes what is new, and publishes it at once."""

import hashlib
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tqdm import tqdm

from mmreid_text.gallery.image_files import Listing, inside, rows_of
from mmreid_text.gallery.images import ImageLike, decode_picture, read_bytes
from mmreid_text.gallery.index_folder import ROWS, IndexFolder, Journal, Manifest, checksum
from mmreid_text.gallery.metadata import Metadata, MetadataSettings
from mmreid_text.gallery.recall import SENTENCES
from mmreid_text.gallery.report import IndexingReport
from mmreid_text.gallery.store import VectorStore

DUPLICATE = "same content as "


class Encoder(Protocol):
    """What indexing asks of an inferencer; ``prepare`` is called in threads."""

    def prepare(self, image: ImageLike) -> dict[str, Any]: ...

    def encode_prepared(self, samples: Sequence[dict[str, Any]]) -> np.ndarray: ...

    def encode_text(self, sentences: Sequence[str], batch_size: int = 256) -> np.ndarray: ...


@dataclass(frozen=True)
class _Read:
    """A file that was read: its digest and what the model is given of it, or why there is nothing."""

    path: str
    size: int
    mtime_ns: int
    digest: str = ""
    sample: dict[str, Any] | None = None
    note: str = ""


class IndexingRun:
    """One run over one index, whose lock the caller holds.

    Args:
        folder: The index.
        manifest: As it was published.
        store: Of the vectors.
        encoder: The model.
        metadata: Where metadata comes from, from now on.
    """

    def __init__(
        self,
        folder: IndexFolder,
        manifest: Manifest,
        store: VectorStore,
        encoder: Encoder,
        metadata: MetadataSettings,
    ) -> None:
        self.folder, self.manifest, self.store, self.encoder = folder, manifest, store, encoder
        self.settings, self.metadata = metadata, Metadata(metadata)
        self.root = Path(manifest.root)
        self.before = folder.rows(manifest)
        self.report = IndexingReport()
        self.next_slot = manifest.slots
        self._first_slot = self.next_slot
        self._began = time.monotonic()

    def run(self, listing: Listing, batch_size: int, jobs: int, progress: bool) -> tuple[Manifest, IndexingReport]:
        """Bring the index up to what is listed.

        Args:
            listing: Files that the index is to hold; all others leave it.
            batch_size: Images that are encoded, and noted in the journal, at a time.
            jobs: Threads that read and decode.
            progress: Whether to show a bar.
        """
        journal = self.folder.journal(self.manifest, self.manifest.dim)
        self.folder.remove_stale(self.manifest)
        journaled = self._resume(journal)
        self._first_slot = self.next_slot
        kept, pending = self._sort(listing.files, journaled)
        try:
            encoded = self._encode(pending, kept, journal, batch_size, jobs, progress)
            rows = _joined([kept, *encoded])
            manifest = self._publish(rows, listing)
        finally:
            journal.close()
        journal.end()
        self.report.seconds = time.monotonic() - self._began
        return manifest, self.report

    def _resume(self, journal: Journal) -> pa.Table:
        """Rows of a killed run whose vectors are there, which this one takes over."""

        def is_whole(batch: dict[str, Any]) -> bool:
            start, stop = batch["start"], batch["stop"]
            if start != self.next_slot or not self._stored(start, stop, batch["crc"]):
                return False
            self.next_slot = stop
            return True

        return _joined(journal.take_over(is_whole))

    def _stored(self, start: int, stop: int, crc: int) -> bool:
        if start == stop:
            return True
        try:
            return checksum(self.store.read(np.arange(start, stop))) == crc
        except (OSError, ValueError):
            return False

    def _sort(self, files: pa.Table, journaled: pa.Table) -> tuple[pa.Table, pa.Table]:
        """Rows of the files that are as they were, by the table or the journal, and the files to read."""
        # A moved image of a killed run took over a vector whose own image may be back.
        slots = journaled.column("slot").to_numpy()
        journaled = journaled.filter(pa.array((slots < 0) | (slots >= self.manifest.slots)))
        found, resumed = _same(files, self.before), _same(files, journaled)
        resumed[found >= 0] = -1
        # What stood for a duplicate may be gone or have changed; what could not be read may have been put right.
        rows = [_take(self.before, found), _take(journaled, resumed)]
        settled = [pc.equal(part.column("note"), "").to_numpy().astype(bool) for part in rows]
        standing = _joined([part.filter(pa.array(good)) for part, good in zip(rows, settled)])
        originals = _with_digest(standing.column("path"), standing)
        keep = []
        for part, good in zip(rows, settled):
            notes = part.column("note")
            other = _with_digest(pc.utf8_slice_codeunits(notes, len(DUPLICATE)), part)
            twin = pc.and_(pc.starts_with(notes, DUPLICATE), pc.is_in(other, value_set=originals))
            keep.append(part.filter(pa.array(good | twin.to_numpy().astype(bool))))
        kept = _joined(keep)
        with_vector = [int(pc.sum(pc.greater_equal(part.column("slot"), 0)).as_py() or 0) for part in keep]
        self.report.unchanged, self.report.resumed = with_vector
        pending = files.filter(pa.array(rows_of(files.column("path"), kept.column("path")) < 0))
        return kept, pending

    def _encode(
        self, pending: pa.Table, kept: pa.Table, journal: Journal, batch_size: int, jobs: int, progress: bool
    ) -> list[pa.Table]:
        """Deal with the files to read, batch by batch; their rows."""
        if not len(pending):
            return []
        known = _Known(self.before, kept)
        batches = _batches(self._read_ahead(pending, jobs, 2 * batch_size), batch_size)
        dealt = ((len(batch), self._deal_with(batch, known, journal)) for batch in batches)
        return list(_shown(dealt, len(kept), len(pending)) if progress else (rows for _, rows in dealt))

    def _read_ahead(self, files: pa.Table, jobs: int, ahead: int) -> Iterator[_Read]:
        """Read and prepare files in threads, in order, so many ahead of the model."""
        columns = ("path", "size", "mtime_ns")
        parts = files.select(columns).to_batches(max_chunksize=4096)
        rows = (row for part in parts for row in zip(*(part.column(name).to_pylist() for name in columns)))
        with ThreadPoolExecutor(jobs) as pool:
            waiting = deque(pool.submit(self._read, *row) for row in islice(rows, ahead))
            try:
                while waiting:
                    file = waiting.popleft().result()
                    waiting.extend(pool.submit(self._read, *row) for row in islice(rows, 1))
                    yield file
            finally:
                pool.shutdown(cancel_futures=True)

    def _read(self, path: str, size: int, mtime_ns: int) -> _Read:
        digest = ""
        try:
            data = read_bytes(inside(self.root, path))
            digest = hashlib.blake2b(data, digest_size=16).hexdigest()
            return _Read(path, size, mtime_ns, digest, self.encoder.prepare(decode_picture(data, path)))
        except (OSError, ValueError) as error:
            return _Read(path, size, mtime_ns, digest, note=str(error) or type(error).__name__)

    def _deal_with(self, batch: Sequence[_Read], known: "_Known", journal: Journal) -> pa.Table:
        rows: list[dict[str, Any]] = []
        fresh: list[dict[str, Any]] = []
        for file in batch:
            row = {"path": file.path, "size": file.size, "mtime_ns": file.mtime_ns, "digest": file.digest}
            slot, note = -1, file.note
            if not note:
                slot, twin = known.find(file.digest)
                if twin:
                    note = DUPLICATE + twin
                elif slot < 0:
                    assert file.sample is not None
                    slot = self.next_slot + len(fresh)
                    fresh.append(file.sample)
                else:
                    self.report.moved += 1
                if not twin:
                    known.add(file.digest, file.path)
            rows.append(row | {"slot": slot, "note": note})
        start, vectors = self.next_slot, np.empty((0, self.manifest.dim), np.float32)
        table = pa.Table.from_pylist(rows, ROWS)
        if fresh:
            vectors = self.encoder.encode_prepared(fresh)
            new = table.filter(pc.greater_equal(table.column("slot"), start))
            self.store.write(start, vectors, self._described(new.column("path")))
        self.next_slot += len(fresh)
        self.report.encoded += len(fresh)
        journal.write(rows, start, vectors)
        return table

    def _described(self, paths: pa.ChunkedArray) -> pa.Table:
        """Path and metadata of images, as the table and the stores hold them."""
        columns = self.metadata.of(paths)
        return pa.table([paths, *columns.columns], names=["path", *columns.column_names])

    def _publish(self, rows: pa.Table, listing: Listing) -> Manifest:
        rows = rows.sort_by([("path", "ascending")])
        described = self._described(rows.column("path"))
        full = pa.table([*rows.columns, *described.columns[1:]], names=[*ROWS.names, *described.column_names[1:]])
        self._annotate(full)
        self._note(full, listing)
        slots = full.column("slot").to_numpy()
        if self._is_published(full):
            return self.manifest
        has = slots >= 0
        live, place = np.unique(slots[has], return_inverse=True)
        manifest = self.manifest.with_(
            generation=self.manifest.generation + 1,
            slots=self.next_slot,
            images=int(has.sum()),
            metadata=self.settings.to_dict(),
        )
        queries = self.encoder.encode_text(SENTENCES) if manifest.store in ("int8", "ivf") else np.empty((0, 0))
        manifest, renewed = self.store.publish(manifest, live, queries)
        slots = slots.copy()
        slots[has] = renewed[place]
        full = full.set_column(ROWS.names.index("slot"), "slot", pa.array(slots))
        self.folder.write_rows(full, manifest.generation)
        self.folder.write_manifest(manifest)
        self.folder.remove_stale(manifest)
        self.store.tidy(renewed)
        self.report.recall = manifest.recall
        return manifest

    def _annotate(self, full: pa.Table) -> None:
        """Give the store the metadata that changed, and that of moved and resumed images."""
        has = full.filter(pc.greater_equal(full.column("slot"), 0))
        described = has.select(["path", *has.column_names[len(ROWS) :]])
        slots = has.column("slot").to_numpy()
        rows = rows_of(has.column("slot"), self.before.column("slot")) if len(self.before) else slots * 0 - 1
        stale = rows < 0
        before = self.before.select(["path", *self.before.column_names[len(ROWS) :]])
        if not stale.all() and described.schema.equals(before.schema):
            old = before.take(pa.array(np.maximum(rows, 0)))
            for name in described.column_names:
                now, then = described.column(name), old.column(name)
                same = pc.or_(pc.fill_null(pc.equal(now, then), False), pc.and_(pc.is_null(now), pc.is_null(then)))
                stale |= ~same.to_numpy().astype(bool)
        else:
            stale[:] = True
        stale &= slots < self._first_slot  # those of this run were just written
        if stale.any():
            self.store.annotate(slots[stale], described.filter(pa.array(stale)))

    def _note(self, full: pa.Table, listing: Listing) -> None:
        report = self.report
        notes = full.filter(pc.not_equal(full.column("note"), ""))
        for path, note in zip(notes.column("path").to_pylist(), notes.column("note").to_pylist()):
            if note.startswith(DUPLICATE):
                report.duplicates[path] = note.removeprefix(DUPLICATE)
            else:
                report.unreadable[path] = note
        report.refused = dict(listing.refused)
        report.images = int(pc.sum(pc.greater_equal(full.column("slot"), 0)).as_py() or 0)
        had = self.before.filter(pc.greater_equal(self.before.column("slot"), 0)).column("path")
        report.removed = int((rows_of(had, full.column("path")) < 0).sum())
        report.unknown_metadata = self.metadata.unknown_images(full.column("path"))
        report.recall = self.manifest.recall

    def _is_published(self, full: pa.Table) -> bool:
        same = self.manifest.generation > 0 and self.settings.to_dict() == self.manifest.metadata
        return same and full.schema.equals(self.before.schema) and full.equals(self.before)


class _Known:
    """Contents that have a vector, by digest."""

    def __init__(self, before: pa.Table, kept: pa.Table) -> None:
        self._here: dict[str, str] = {}
        for part in kept.filter(pc.greater_equal(kept.column("slot"), 0)).select(["digest", "path"]).to_batches():
            self._here.update(zip(part.column(0).to_pylist(), part.column(1).to_pylist()))
        gone = before.filter(
            pa.array(
                (rows_of(before.column("path"), kept.column("path")) < 0) & (before.column("slot").to_numpy() >= 0)
            )
        )
        self._gone = dict(zip(gone.column("digest").to_pylist(), gone.column("slot").to_pylist()))

    def find(self, digest: str) -> tuple[int, str]:
        """The slot of this content if an image that had it is gone, else -1; and the image that has it now, or ''."""
        if digest in self._here:
            return -1, self._here[digest]
        return self._gone.pop(digest, -1), ""

    def add(self, digest: str, path: str) -> None:
        self._here[digest] = path


def _same(files: pa.Table, rows: pa.Table) -> np.ndarray:
    """Row with the same path, size and time of each file, int64 (n,), -1 for none."""
    found = rows_of(files.column("path"), rows.column("path"))
    for name in ("size", "mtime_ns"):
        there = rows.column(name).to_numpy() if len(rows) else np.full(1, -1)
        found[files.column(name).to_numpy() != there[np.maximum(found, 0)]] = -1
    return found


def _with_digest(paths: pa.ChunkedArray, rows: pa.Table) -> pa.ChunkedArray:
    """Paths of contents, the digests before them."""
    return pc.binary_join_element_wise(rows.column("digest"), paths, "/")


def _take(rows: pa.Table, found: np.ndarray) -> pa.Table:
    return rows.select(ROWS.names).take(pa.array(found[found >= 0]))


def _joined(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables([ROWS.empty_table(), *tables])


def _shown(dealt: Iterable[tuple[int, pa.Table]], kept: int, pending: int) -> Iterator[pa.Table]:
    """Rows of batches, with a bar."""
    twice, unreadable = 0, 0
    with tqdm(total=kept + pending, initial=kept, unit="image", desc="indexing") as bar:
        for count, rows in dealt:
            yield rows
            notes = rows.column("note")
            same = int(pc.sum(pc.starts_with(notes, DUPLICATE)).as_py())
            twice, unreadable = twice + same, unreadable + int(pc.sum(pc.not_equal(notes, "")).as_py()) - same
            bar.set_postfix_str(f"{twice:,} duplicates, {unreadable:,} unreadable", False)
            bar.update(count)


def _batches(files: Iterator[_Read], size: int) -> Iterator[list[_Read]]:
    while batch := list(islice(files, size)):
        yield batch
