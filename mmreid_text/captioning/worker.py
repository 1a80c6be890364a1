"""One process of a captioning job: claims shards, keeps its back ends busy, judges answers, finishes shards."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from mmreid_text.captioning.backends.base import CaptionAnswer, CaptionBackend, CaptionRequest, UnreadableImage
from mmreid_text.captioning.claims import Claim
from mmreid_text.captioning.cleaning import REPEATED, clean
from mmreid_text.captioning.cleaning_report import RepeatCounter
from mmreid_text.captioning.job import CaptionJob
from mmreid_text.captioning.journal import Answer, Journal, is_final
from mmreid_text.captioning.shards import FAILED, OK, REPLACED, JobFolder
from mmreid_text.captioning.templates import choose_template

_BEAT = 2.0
_MOST_OPEN = 16
"""Shards of one process at a time: one that a slow answer holds up does not hold up the others."""
_READERS = 32


@dataclass
class _OpenShard:
    """A claimed shard: its images, the answers so far, and how many captions are undecided."""

    claim: Claim
    names: list[str]
    journal: Journal
    answers: dict[tuple[int, int], list[Answer]]
    left: int = 0
    lost: bool = False
    counts: Counter[str] = field(default_factory=Counter)

    def count(self, answer: Answer) -> None:
        self.counts["answers"] += 1
        self.counts["prompt_tokens"] += answer.prompt_tokens
        self.counts["completion_tokens"] += answer.completion_tokens


class CaptionWorker:
    """Works until every shard of the job is finished, by this process or another.

    Args:
        job: The job.
        folder: Its folder, with the images listed.

    Raises:
        BackendError: A back end cannot go on.
    """

    def __init__(self, job: CaptionJob, folder: JobFolder) -> None:
        self.job, self.folder = job, folder
        self.images = job.build_images()
        self.backends = job.build_backends()
        self._repeats = None if job.max_repeats is None else RepeatCounter(job.max_repeats)
        self._open: dict[int, _OpenShard] = {}
        self._queues: dict[int, asyncio.Queue[tuple[_OpenShard, int, int]]] = {}
        self._decided: asyncio.Event
        self._dropped: asyncio.Event

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(_READERS, "read"))
        self._decided, self._dropped = asyncio.Event(), asyncio.Event()
        async with AsyncExitStack() as stack:
            # Sources may share a back end; each is entered once.
            backends = {id(backend): backend for backend in self.backends}
            tasks = []
            for key, backend in backends.items():
                await stack.enter_async_context(backend)
                self._queues[key] = asyncio.Queue()
                tasks += [self._consume(backend) for _ in range(backend.concurrency)]
            # Signs of life do not wait for a thread behind reads from a slow file system.
            beats = stack.enter_context(ThreadPoolExecutor(1, "beat"))
            running = [asyncio.create_task(task) for task in [self._feed(), self._beat(beats), *tasks]]
            try:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:  # the feeder ends when all is done, the others only by an error
                    task.result()
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
                for shard in self._open.values():
                    shard.journal.close()
                self.folder.claims.close()

    async def _feed(self) -> None:
        """Open a shard whenever a back end is about to run dry."""
        while True:
            if len(self._open) < _MOST_OPEN and self._hungry():
                claim = await asyncio.to_thread(self.folder.claim_next)
                if claim is not None:
                    await self._open_shard(claim)
                    continue
                if not self._open and len(self.folder.finished()) == self.folder.num_shards:
                    return
                with suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._dropped.wait(), self.folder.pause())
                self._dropped.clear()
                continue
            self._decided.clear()
            await self._decided.wait()

    def _hungry(self) -> bool:
        return any(self._queues[id(b)].qsize() < b.concurrency for b in self.backends)

    async def _open_shard(self, claim: Claim) -> None:
        names = self.folder.names_of(claim.shard)
        answers = await asyncio.to_thread(self.folder.answers, claim.shard)
        shard = _OpenShard(claim, names, self.folder.journal(claim.shard), answers)
        self._open[claim.shard] = shard
        waiting = []
        for image in range(len(names)):
            for source in range(len(self.job.sources)):
                told = answers.setdefault((image, source), [])
                for answer in told:
                    shard.count(answer)
                if self._is_decided(told):
                    shard.counts[OK if told[-1].accepted else FAILED] += 1
                else:
                    waiting.append((image, source))
        shard.left = len(waiting)
        for image, source in waiting:
            self._queues[id(self.backends[source])].put_nowait((shard, image, source))
        if not waiting:
            await self._finish(shard)

    async def _consume(self, backend: CaptionBackend) -> None:
        """One request after the other; as many of these run as the back end takes at a time."""
        queue = self._queues[id(backend)]
        while True:
            shard, image, source = await queue.get()
            told = shard.answers[image, source]
            while not shard.lost and not self._is_decided(told):
                answer = await self._ask(backend, shard, image, source, len(told))
                if shard.lost:
                    break
                shard.journal.write(answer)
                told.append(answer)
                shard.count(answer)
            self._decided.set()
            if shard.lost:
                continue
            shard.counts[OK if told[-1].accepted else FAILED] += 1
            shard.left -= 1
            if not shard.left:
                await self._finish(shard)

    async def _ask(self, backend: CaptionBackend, shard: _OpenShard, image: int, source: int, attempt: int) -> Answer:
        job, name = self.job, shard.names[image]
        asked = job.sources[source]
        number = asked.template_of(job.seed, name)
        template = None if number < 0 else asked.templates[number]
        request = CaptionRequest(
            image_name=name,
            read=partial(self.images.read, name),
            instruction=asked.instruction.render(template),
            template=template,
            source=asked.name,
            seed=job.seed,
            attempt=attempt,
        )
        try:
            answer = await backend.caption(request)
        except UnreadableImage as error:
            answer = CaptionAnswer(error="image", detail=str(error))
        return self._judge(answer, image, source, attempt)

    def _judge(self, answer: CaptionAnswer, image: int, source: int, attempt: int) -> Answer:
        text = answer.text.encode("utf-8", "replace").decode()  # half characters have no place in a file
        why, final = answer.error or "", answer.error is not None and is_final(answer.error)
        if not why:
            tidied, rule = clean(text, self.job.contexts[source])
            if rule is None and self._repeats is not None and self._repeats.add(f"{source} {tidied}"):
                rule = REPEATED
            text, why = (tidied, "") if rule is None else (text, rule)
        detail = answer.detail.encode("utf-8", "replace").decode()
        tokens = answer.prompt_tokens, answer.completion_tokens
        return Answer(image, source, attempt, text, why, detail, *tokens, final)

    def _is_decided(self, told: Sequence[Answer]) -> bool:
        return bool(told) and (told[-1].accepted or told[-1].final or len(told) > self.job.re_asks)

    async def _finish(self, shard: _OpenShard) -> None:
        number = shard.claim.shard
        rows = [
            self._row(shard, image, source)
            for image in range(len(shard.names))
            for source in range(len(self.job.sources))
        ]
        counts = Counter(row["status"] for row in rows)
        for key in ("prompt_tokens", "completion_tokens"):
            counts[key] = sum(row[key] for row in rows)
        counts["answers"] = sum(row["attempts"] for row in rows)
        await asyncio.to_thread(self.folder.finish, number, rows, counts)
        self._drop(shard)

    def _drop(self, shard: _OpenShard) -> None:
        shard.journal.close()
        if self._open.get(shard.claim.shard) is shard:  # else this process has claimed it once more
            del self._open[shard.claim.shard]
        self._decided.set()
        self._dropped.set()

    def _row(self, shard: _OpenShard, image: int, source: int) -> dict[str, Any]:
        name, asked, told = shard.names[image], self.job.sources[source], shard.answers[image, source]
        last = told[-1]
        text, status = (last.text, OK) if last.accepted else self._stand_in(shard, image, source)
        return {
            "image": name,
            "caption": text,
            "source": asked.name,
            "template": asked.template_of(self.job.seed, name),
            "instruction": asked.instruction.name,
            "status": status,
            "reason": last.why,
            "detail": last.detail,
            "attempts": len(told),
            "prompt_tokens": sum(answer.prompt_tokens for answer in told),
            "completion_tokens": sum(answer.completion_tokens for answer in told),
            "rejected": [
                {"attempt": answer.attempt, "rule": answer.why, "text": answer.text}
                for answer in told
                if not (answer.accepted or answer.final)
            ],
        }

    def _stand_in(self, shard: _OpenShard, image: int, source: int) -> tuple[str, str]:
        """A static caption of the image for one that was rejected to the end, as the published cleaning has it."""
        if shard.answers[image, source][-1].final:
            return "", FAILED
        static = [
            shard.answers[image, other][-1].text
            for other, asked in enumerate(self.job.sources)
            if not asked.instruction.dynamic and shard.answers[image, other][-1].accepted
        ]
        if not static:
            return "", FAILED
        chosen = choose_template(
            static, self.job.seed, shard.names[image], f"stand-in for {self.job.sources[source].name}"
        )
        return static[chosen], REPLACED

    async def _beat(self, thread: ThreadPoolExecutor) -> None:
        """Signs of life, word of what is done, and giving up what others have taken over."""
        while True:
            open_shards = list(self._open.values())
            lost = await asyncio.get_running_loop().run_in_executor(thread, self._tell, open_shards)
            for shard in open_shards:
                if shard.claim in lost and self._open.get(shard.claim.shard) is shard and shard.left:
                    shard.lost = True
                    self._drop(shard)
            await asyncio.sleep(_BEAT)

    def _tell(self, open_shards: Sequence[_OpenShard]) -> list[Claim]:
        self.folder.tell({shard.claim.shard: Counter(shard.counts) for shard in open_shards})
        return self.folder.claims.renew([shard.claim for shard in open_shards])


def run_worker(job: CaptionJob, out: Path) -> None:
    """Work on a job in this process until all of it is done."""
    folder = JobFolder(out, job.shard_size, job.stale_after)
    asyncio.run(CaptionWorker(job, folder).run())
