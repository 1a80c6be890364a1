"""Joins LUPerson-MLLM's caption files with its images, chunk by chunk in the order of the file names."""

import zlib
from collections.abc import Iterator, Mapping
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmreid_text.datasets.arrow_files import facts_of, write_arrow
from mmreid_text.datasets.caption_rows import Columns
from mmreid_text.datasets.sorted_runs import CaptionRuns, SortedNames
from mmreid_text.randomness import uniform

SOURCES = ("Ts-qwen", "Td-qwen", "Ts-shikra", "Td-shikra")
STATIC = np.array([source.startswith("Ts-") for source in SOURCES])
"""Captions after one fixed instruction; the others follow sentence templates ("dynamic")."""
DIRTY = ("description]", "<")
_ROWS = pa.schema([("image", pa.string()), ("caption", pa.string()), ("image_id", pa.int64()), ("source", pa.string())])


class Findings(dict[str, tuple[int, str]]):
    """What a join came across: how often, and the first file name."""

    def add(self, kind: str, number: int, first: str = "") -> None:
        count, known = self.get(kind, (0, ""))
        if number:
            self[kind] = (count + number, known or first)

    def merge(self, later: Mapping[str, tuple[int, str]]) -> None:
        for kind, (number, first) in later.items():
            self.add(kind, number, first)

    def count(self, kind: str) -> int:
        return self.get(kind, (0, ""))[0]

    def first(self, kind: str) -> str:
        return self.get(kind, (0, ""))[1]


def join(
    names: SortedNames, captions: Mapping[str, CaptionRuns], folder: Path | None, findings: Findings
) -> Iterator[Columns]:
    """Rows in image order, each image's captions side by side in the order of ``SOURCES``, cleaned.

    Args:
        names: The images.
        captions: The caption files by source.
        folder: Where joined chunks are kept for a later call; None keeps none.
        findings: Filled as the chunks go by. Kinds: ``<source> known``, ``<source> strangers`` (captions without an
            image), ``<source> doubles``, ``images``, ``swapped``, ``dropped``, ``lost``, ``bare`` and ``partial``.
    """
    for i, (chunk, following) in enumerate(pairwise(chain(names, [None]))):
        first = chunk[0].as_py() if i else None
        last = None if following is None else following[0].as_py()
        path = None if folder is None else folder / f"rows-{i:05d}.arrow"
        if path is not None and path.exists():
            with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as reader:
                rows, found = reader.get_batch(0), facts_of(reader.schema)
        else:
            found = Findings()
            rows = _join_chunk(chunk, {s: runs.between(first, last) for s, runs in captions.items()}, found)
            if path is not None:
                write_arrow(path, _ROWS, [rows], found)
        image_id = rows.column("image_id").to_numpy() + findings.count("images")
        findings.merge(found)
        if rows.num_rows:
            columns = {key: rows.column(key) for key in ("image", "caption", "source")}
            yield {**columns, "pid": image_id, "image_id": image_id, "split": "train"}


def _join_chunk(names: pa.StringArray, captions: Mapping[str, pa.Table], found: Findings) -> pa.RecordBatch:
    """Rows of the images ``names``, their ``image_id`` from 0."""
    image, source, texts = _interleave(names, captions, found)
    held = np.bincount(image, minlength=len(names))
    replacement, clean = _clean(image, source, texts, names)
    found.add("swapped", int((clean & (replacement != np.arange(len(image)))).sum()))
    _add_images(found, "dropped", names, image[~clean])
    image, source = image[clean], source[clean]
    kept, image_id = np.unique(image, return_inverse=True)
    lost = held > 0
    lost[kept] = False
    found.add("images", len(kept))
    _add_images(found, "lost", names, np.flatnonzero(lost))
    _add_images(found, "bare", names, np.flatnonzero(held == 0))
    _add_images(found, "partial", names, np.flatnonzero((held > 0) & (held < len(captions))))
    columns = [
        names.take(pa.array(image)),
        texts.take(pa.array(replacement[clean])),
        pa.array(image_id, pa.int64()),
        pa.array(SOURCES).take(pa.array(source)),
    ]
    return pa.record_batch(columns, _ROWS)


def _add_images(found: Findings, kind: str, names: pa.StringArray, images: np.ndarray) -> None:
    if len(images):
        found.add(kind, len(images), names[int(images[0])].as_py())


def _interleave(
    names: pa.StringArray, captions: Mapping[str, pa.Table], found: Findings
) -> tuple[np.ndarray, np.ndarray, pa.StringArray]:
    """Image, source code and text of every caption of the images ``names``, in order."""
    images, sources, texts = [], [], []
    for source, rows in captions.items():
        files = rows.column("name").combine_chunks()
        image = pc.index_in(files, value_set=names)
        valid = image.is_valid().to_numpy(zero_copy_only=False)
        known = np.flatnonzero(valid)
        position = np.full(len(names), -1)
        position[image.drop_null().to_numpy()] = known  # of several captions the last stays
        present = np.flatnonzero(position >= 0)
        found.add(f"{source} known", len(present))
        if len(known) < len(files):
            found.add(f"{source} strangers", len(files) - len(known), files[int(np.argmin(valid))].as_py())
        if len(present) < len(known):
            double = known[position[image.drop_null().to_numpy()] != known]
            found.add(f"{source} doubles", len(double), files[int(double[0])].as_py())
        images.append(present)
        sources.append(np.full(len(present), SOURCES.index(source)))
        texts.append(rows.column("caption").combine_chunks().take(pa.array(position[present])))
    all_images, all_sources = np.concatenate(images), np.concatenate(sources)
    order = np.lexsort((all_sources, all_images))
    return all_images[order], all_sources[order], pa.concat_arrays(texts).take(pa.array(order))


def _clean(
    image: np.ndarray, source: np.ndarray, texts: pa.StringArray, names: pa.StringArray
) -> tuple[np.ndarray, np.ndarray]:
    """The row whose text each row takes, and which rows have a clean one."""
    dirty = np.zeros(len(image), dtype=bool)
    for mark in DIRTY:
        dirty |= pc.match_substring(texts, mark).to_numpy(zero_copy_only=False)
    replacement, keep = np.arange(len(image)), np.ones(len(image), dtype=bool)
    rows = np.flatnonzero(dirty)
    if not len(rows):
        return replacement, keep
    clean_static = np.flatnonzero(~dirty & STATIC[source])
    candidates = np.full((len(SOURCES), len(names)), -1, dtype=np.int64)
    candidates[source[clean_static], image[clean_static]] = clean_static
    choice = candidates[:, image[rows]]  # (sources, dirty rows)
    number = (choice >= 0).sum(axis=0)
    keys = np.array([zlib.crc32(names[int(i)].as_py().encode()) for i in image[rows]], dtype=np.int64)
    draws = uniform(0, 0, keys, "LUPersonMLLM.clean", len(SOURCES))[np.arange(len(rows)), source[rows]]
    wanted = np.floor(draws * number).astype(np.int64)
    chosen = np.argmax((np.cumsum(choice >= 0, axis=0) == wanted + 1) & (choice >= 0), axis=0)
    found = number > 0
    replacement[rows[found]] = choice[chosen, np.arange(len(rows))][found]
    keep[rows[~found]] = False
    return replacement, keep
