"""One process of a pseudo-text job: claims shards, scores their images in batches, composes captions."""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmreid_text.captioning.claims import Claim
from mmreid_text.captioning.shards import FAILED, OK, JobFolder
from mmreid_text.datasets.transforms.image import decode_image
from mmreid_text.pseudo_text.job import PseudoTextJob
from mmreid_text.pseudo_text.score_files import write_scores
from mmreid_text.pseudo_text.scoring import PromptScorer, keep, load_encoder

_BEAT = 2.0
_READERS = 16
_AHEAD = 2
"""Batches that are read while one is scored."""
INSTRUCTION = "pseudo-text"
"""What stands in the captions' column ``instruction``."""


@dataclass
class _OpenShard:
    """A claimed shard and what is known of its images so far."""

    claim: Claim
    names: list[str]
    best: np.ndarray  # int64 (n, A), -1 where the image cannot be read
    probability: np.ndarray  # float32 (n, A)
    faults: dict[int, str] = field(default_factory=dict)
    done: int = 0
    lost: bool = False


@dataclass(frozen=True)
class _Batch:
    """Images of a shard that are scored together, on their way: for each its pixels, or why it cannot be read."""

    shard: _OpenShard
    rows: range
    images: Sequence[Future[list[torch.Tensor | str]]]


class PseudoTextWorker:
    """Works until every shard of the job is finished, by this process or another.

    Nothing of an unfinished shard is kept: scoring one again is cheaper than a journal of it.

    Args:
        job: The job.
        folder: Its folder, with the images listed.
    """

    def __init__(self, job: PseudoTextJob, folder: JobFolder) -> None:
        self.job, self.folder = job, folder
        self.images = job.build_images()
        self.composer = job.build_composer()
        self.vocabulary = self.composer.vocabulary
        device = job.device if job.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
        encoder = load_encoder(job.scorer, device)
        self._prepare = encoder.prepare
        self.scorer = PromptScorer(encoder, self.vocabulary, job.scale)
        self._open: dict[int, _OpenShard] = {}

    def run(self) -> None:
        with ThreadPoolExecutor(_READERS, "read") as readers, self._signs_of_life():
            scored: deque[tuple[_Batch, list[int], tuple[torch.Tensor, torch.Tensor] | None]] = deque()
            for batch in self._batches(readers):
                if batch is not None:
                    scored.append((batch, *self._score(batch)))
                # One batch behind: sentences are written while a GPU encodes.
                while len(scored) > (batch is not None):
                    self._take(*scored.popleft())
            while scored:
                self._take(*scored.popleft())

    def _batches(self, readers: ThreadPoolExecutor) -> Iterator[_Batch | None]:
        """Batches of claimed shards, some read ahead; None while there is nothing but others' shards."""
        ahead: deque[_Batch] = deque()
        while True:
            claim = self.folder.claim_next()
            if claim is None:
                yield from ahead
                ahead.clear()
                yield None
                if len(self.folder.finished()) == self.folder.num_shards:
                    return
                time.sleep(self.folder.pause())
                continue
            names, size = self.folder.names_of(claim.shard), len(self.vocabulary.attributes)
            shard = _OpenShard(
                claim, names, np.full((len(names), size), -1, np.int64), np.zeros((len(names), size), np.float32)
            )
            self._open[claim.shard] = shard
            for start in range(0, len(names), self.job.batch_size):
                rows = range(start, min(start + self.job.batch_size, len(names)))
                # Few tasks: one for each image would cost a small model a tenth of its time.
                size = -(-len(rows) // _READERS)
                parts = (names[first : min(first + size, rows.stop)] for first in rows[::size])
                ahead.append(_Batch(shard, rows, [readers.submit(self._load, part) for part in parts]))
                if len(ahead) > _AHEAD:
                    yield ahead.popleft()

    def _load(self, names: Sequence[str]) -> list[torch.Tensor | str]:
        loaded: list[torch.Tensor | str] = []
        for name in names:
            try:
                loaded.append(self._prepare(decode_image(self.images.read(name), name)))
            except OSError as error:
                loaded.append(str(error))
        return loaded

    def _score(self, batch: _Batch) -> tuple[list[int], tuple[torch.Tensor, torch.Tensor] | None]:
        """Rows that can be read, and their likeliest classes, which a GPU may still be at work on."""
        rows, pixels = [], []
        for row, image in zip(batch.rows, chain.from_iterable(part.result() for part in batch.images)):
            if isinstance(image, str):
                batch.shard.faults[row] = image
            else:
                rows.append(row)
                pixels.append(image)
        if not rows or batch.shard.lost:
            return rows, None
        images = torch.stack(pixels)
        try:
            return rows, self.scorer.best(images.pin_memory() if self.scorer.device.type == "cuda" else images)
        except torch.OutOfMemoryError:
            raise ValueError(
                f"batch_size={self.job.batch_size} does not fit into {self.scorer.device}'s memory: make it smaller."
            ) from None

    def _take(self, batch: _Batch, rows: list[int], found: tuple[torch.Tensor, torch.Tensor] | None) -> None:
        shard = batch.shard
        if found is not None:
            shard.best[rows], shard.probability[rows] = (part.cpu().numpy() for part in found)
        shard.done += len(batch.rows)
        if shard.done == len(shard.names):
            del self._open[shard.claim.shard]
            if not shard.lost:
                self._finish(shard)

    def _finish(self, shard: _OpenShard) -> None:
        readable = [row for row in range(len(shard.names)) if row not in shard.faults]
        names = [shard.names[row] for row in readable]
        told = keep(shard.best[readable], shard.probability[readable], self.vocabulary, self.job.threshold)
        written = [self.composer.write(told, names, number) for number in range(self.job.captions_per_image)]
        place = {row: i for i, row in enumerate(readable)}
        rows = []
        for row, name in enumerate(shard.names):
            for source, (texts, patterns) in zip(self.job.source_names, written):
                fault = shard.faults.get(row)
                text, pattern = ("", -1) if fault is not None else (texts[place[row]], patterns[place[row]])
                rows.append(_caption_row(name, source, text, pattern, fault))
        counts = Counter(row["status"] for row in rows)
        counts["answers"] = len(rows)
        # Scores first: a finished shard has them.
        write_scores(self.folder.out, shard.claim.shard, self.vocabulary, shard.names, shard.best, shard.probability)
        self.folder.finish(shard.claim.shard, rows, counts)

    @contextmanager
    def _signs_of_life(self) -> Iterator[None]:
        """Renew claims and leave word of what is done from a thread of its own, until the block ends."""
        ended = threading.Event()

        def beat() -> None:
            while not ended.wait(_BEAT):
                open_shards = list(self._open.values())
                each = self.job.captions_per_image
                self.folder.tell({shard.claim.shard: Counter({OK: each * shard.done}) for shard in open_shards})
                lost = self.folder.claims.renew([shard.claim for shard in open_shards])
                for shard in open_shards:
                    shard.lost |= shard.claim in lost

        thread = threading.Thread(target=beat, name="beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            self.folder.claims.close()


def _caption_row(name: str, source: str, text: str, pattern: int, fault: str | None) -> dict[str, Any]:
    return {
        "image": name,
        "caption": text,
        "source": source,
        "template": pattern,
        "instruction": INSTRUCTION,
        "status": OK if fault is None else FAILED,
        "reason": "" if fault is None else "image",
        "detail": fault or "",
        "attempts": 1,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "rejected": [],
    }


def run_worker(job: PseudoTextJob, out: Path) -> None:
    """Work on a job in this process until all of it is done."""
    folder = JobFolder(out, job.shard_size, job.stale_after)
    PseudoTextWorker(job, folder).run()
