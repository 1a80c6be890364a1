"""Folder of a captioning job: the list of images, claims, journals and finished shards."""

import json
import os
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from time import monotonic
from typing import Any

import pyarrow as pa

from mmreid_text.atomic_write import remove_leftovers, write_text
from mmreid_text.captioning.claims import Claim, Claims
from mmreid_text.captioning.image_sources import ImageSource
from mmreid_text.captioning.journal import Answer, Journal, read_journals
from mmreid_text.datasets.arrow_files import facts_of, write_arrow
from mmreid_text.datasets.sorted_runs import SortedNames
from mmreid_text.datasets.work_folder import work_folder
from mmreid_text.file_lock import alone

OK, REPLACED, FAILED = "ok", "replaced", "failed"
_LOOK_AGAIN = (0.5, 5.0)  # seconds, at least and at most
_LIST_CHUNK = 4096
_RUN = 16_384
_CODED = pa.dictionary(pa.int32(), pa.string())
SHARD = pa.schema(
    [
        ("image", pa.string()),
        ("caption", pa.string()),  # '' where it failed
        ("source", _CODED),
        ("template", pa.int32()),  # position in the source's templates, -1 under a static instruction
        ("instruction", _CODED),  # name
        ("status", _CODED),  # ok, replaced (by a static caption of the image) or failed
        ("reason", pa.string()),  # rule or error where it is not ok
        ("detail", pa.string()),
        ("attempts", pa.int16()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("rejected", pa.list_(pa.struct([("attempt", pa.int16()), ("rule", pa.string()), ("text", pa.string())]))),
    ]
)
COUNTS = (OK, REPLACED, FAILED, "answers", "prompt_tokens", "completion_tokens")


class ImageNames:
    """The job's images, sorted by name, in a file: memory stays the same however many they are.

    Args:
        path: File that :func:`list_images` wrote.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
            batches = reader.num_record_batches
            self._count = (batches - 1) * _LIST_CHUNK + reader.get_batch(batches - 1).num_rows

    def __len__(self) -> int:
        return self._count

    def between(self, start: int, stop: int) -> list[str]:
        """Names ``start`` to ``stop``, this one excluded."""
        names: list[str] = []
        # Mapped anew for each call: what stays mapped counts as this process's memory.
        with pa.memory_map(str(self._path)) as file, pa.ipc.open_file(file) as reader:
            for batch in range(start // _LIST_CHUNK, -(-min(stop, self._count) // _LIST_CHUNK)):
                first = batch * _LIST_CHUNK
                column = reader.get_batch(batch).column("image")
                names += column.slice(max(start - first, 0), stop - max(start, first)).to_pylist()
        return names


def list_images(path: Path, source: ImageSource) -> None:
    """Write the names of a source's images, sorted, unless the list is there already.

    Raises:
        ValueError: A name is no Unicode text or is listed twice, or there is no image.
    """
    with alone(path.with_name(f"{path.name}.lock")):  # others wait and find the list
        if path.exists():
            return
        with work_folder(path, {}) as work:
            names = SortedNames(_unicode(source.names()), _LIST_CHUNK, work, _RUN)
            if not names.count:
                raise ValueError(f"There is no image in {source.root or type(source).__name__}; nothing is to caption.")
            schema = pa.schema([("image", pa.string())])
            write_arrow(path, schema, (pa.record_batch([chunk], schema) for chunk in _distinct(names)))


class JobFolder:
    """Paths and states of one job's folder.

    Args:
        out: The folder, made where there is none.
        shard_size: Images of a shard.
        stale_after: Seconds without a sign of life after which a claim is abandoned.
    """

    def __init__(self, out: Path, shard_size: int, stale_after: float) -> None:
        self.out, self.shard_size = out, shard_size
        for name in ("claims", "journals", "shards", "workers"):
            (out / name).mkdir(parents=True, exist_ok=True)
        self.list_path = out / "images.arrow"
        self.claims = Claims(out / "claims", stale_after)
        self.name = self.claims.name
        self._at_work = monotonic()
        self._jitter = random.Random(self.name)
        self._finished: set[int] = set()
        self._names: ImageNames | None = None

    @property
    def images(self) -> ImageNames:
        if self._names is None:
            self._names = ImageNames(self.list_path)
        return self._names

    @property
    def num_shards(self) -> int:
        return -(-len(self.images) // self.shard_size)

    def names_of(self, shard: int) -> list[str]:
        return self.images.between(shard * self.shard_size, (shard + 1) * self.shard_size)

    def shard_path(self, shard: int) -> Path:
        return self.out / "shards" / f"{shard:07d}.arrow"

    def journal(self, shard: int) -> Journal:
        return Journal(self.out / "journals" / f"{shard:07d}.{self.name}.jsonl")

    def answers(self, shard: int) -> dict[tuple[int, int], list[Answer]]:
        return read_journals((self.out / "journals").glob(f"{shard:07d}.*.jsonl"))

    def finished(self) -> set[int]:
        """Numbers of the finished shards."""
        if len(self._finished) < self.num_shards:
            stems = (name.partition(".") for name in os.listdir(self.out / "shards"))
            self._finished = {int(stem) for stem, _, ending in stems if stem.isdecimal() and ending == "arrow"}
        return self._finished

    def claim_next(self) -> Claim | None:
        """Claim an unfinished shard; each process looks from a place of its own on, so that few want the same."""
        finished, known = self.finished(), self.claims.newest()
        start = hash(self.name) % self.num_shards
        for i in range(self.num_shards):
            shard = (start + i) % self.num_shards
            if shard in finished:
                continue
            claim = self.claims.take(shard, known)
            if claim is None:
                continue
            if self.shard_path(shard).exists():  # finished between looking and claiming
                self.claims.release(shard)
                continue
            self._at_work = monotonic()
            return claim
        return None

    def pause(self) -> float:
        """Seconds until it is worth while to look for a shard again, where :meth:`claim_next` has found none.

        The longer nothing was to do, the longer: hundreds of idle processes would keep a shared file system busy. They
        do not fall into step.
        """
        least, most = _LOOK_AGAIN
        return min(max((monotonic() - self._at_work) / 4, least), most) * self._jitter.uniform(0.8, 1.2)

    def finish(self, shard: int, rows: Sequence[dict[str, Any]], counts: Counter[str]) -> bool:
        """Write a shard unless another process has finished it already; True if this is the one that counts."""
        part = self.out / "shards" / f".{shard:07d}-{self.name}"
        try:
            write_arrow(part, SHARD, [pa.RecordBatch.from_pylist(list(rows), SHARD)], dict(counts))
        except FileNotFoundError:
            if not self.shard_path(shard).exists():
                raise
            return False  # all is done, and another process tidies up at this moment
        try:
            os.link(part, self.shard_path(shard))  # unlike a rename it never takes the place of a file
            first = True
        except FileExistsError:
            first = False
        except OSError:  # a file system without links
            first = not self.shard_path(shard).exists()
            if first:  # two at this line: any finished shard is whole, so the last may stay
                os.replace(part, self.shard_path(shard))
        part.unlink(missing_ok=True)
        self.clear(shard)
        self._at_work = monotonic()
        return first

    def clear(self, shard: int) -> None:
        """Remove what was needed only until the shard was finished."""
        self.claims.release(shard)
        for path in (self.out / "journals").glob(f"{shard:07d}.*.jsonl"):
            path.unlink(missing_ok=True)

    def counts_of(self, shard: int) -> Counter[str]:
        """The counts ``COUNTS`` of a finished shard.

        Raises:
            ValueError: The file is damaged.
        """
        with self._opened(shard) as reader:
            return Counter(facts_of(reader.schema))

    def read(self, shard: int) -> pa.RecordBatch:
        """Rows of a finished shard, in the order of its images and the job's sources.

        Raises:
            ValueError: The file is damaged.
        """
        with self._opened(shard) as reader:
            return reader.get_batch(0)

    @contextmanager
    def _opened(self, shard: int) -> Iterator[pa.ipc.RecordBatchFileReader]:
        path = self.shard_path(shard)
        try:
            with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
                yield reader
        except (pa.ArrowInvalid, OSError) as error:
            raise ValueError(
                f"Shard {path} is damaged ({error}); delete it and start again: it is written anew."
            ) from error

    def tell(self, open_shards: dict[int, Counter[str]]) -> None:
        """Leave word of what this process has done in its open shards."""
        with suppress(FileNotFoundError):  # all is done, and another process tidies up at this moment
            write_text(self.out / "workers" / f"{self.name}.json", json.dumps(open_shards))

    def told(self) -> dict[int, Counter[str]]:
        """What is done in the shards that are not finished, as far as their processes have left word."""
        told: dict[int, Counter[str]] = {}
        for path in (self.out / "workers").glob("*.json"):
            try:
                words = json.loads(path.read_text())
            except (FileNotFoundError, ValueError):
                continue
            for shard, counts in words.items():
                if sum(counts.values()) > sum(told.get(int(shard), {}).values()):
                    told[int(shard)] = Counter(counts)
        return told

    def tidy(self) -> None:
        """Remove what killed processes have left, once all shards are finished."""
        for name in ("claims", "journals", "workers"):
            for path in (self.out / name).iterdir():
                path.unlink(missing_ok=True)
        remove_leftovers(self.out / "shards", "*")
        for path in (self.out / "shards").glob(".*"):
            path.unlink(missing_ok=True)


def _unicode(names: Iterator[str]) -> Iterator[str]:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError:
            raise ValueError(f"The image name {name!r} is no Unicode text; rename the file.") from None
        yield name


def _distinct(names: SortedNames) -> Iterator[pa.StringArray]:
    last = None
    for chunk in names:
        known = [last, *chunk.to_pylist()]
        twice = next((a for a, b in pairwise(known) if a == b), None)
        if twice is not None:
            raise ValueError(f"The image {twice!r} is listed twice; name each image once.")
        last = known[-1]
        yield chunk
