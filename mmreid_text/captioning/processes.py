"""The processes of a sharded job on one machine, and their progress."""

import os
import sys
from collections.abc import Callable
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from tqdm import tqdm

from mmreid_text.captioning.progress import JobProgress
from mmreid_text.captioning.sharded_job import ShardedJob
from mmreid_text.captioning.shards import JobFolder
from mmreid_text.datasets.worker_pool import lost_worker, worker_pool

_SHOW_EVERY = 1.0
Job = TypeVar("Job", bound=ShardedJob)


def run_processes(work: Callable[[Job, Path], None], job: Job, folder: JobFolder, workers: int) -> None:
    """Run processes until the job is done; one that fails leaves its shards to the others.

    Args:
        work: What each process does with the job and its folder until all shards are finished.
        job: The job.
        folder: Its folder, with the images listed.
        workers: Processes on this machine.

    Raises:
        BaseException: The first error of a process, where shards are left.
    """
    progress = JobProgress(folder, len(job.source_names))
    if progress.done:
        return
    with worker_pool(workers, "captioning") as pool, progress.bar() as bar:
        running = {pool.submit(work, job, folder.out) for _ in range(workers)}
        try:
            failures = _follow(running, progress, bar)
        except KeyboardInterrupt:
            print("\nStopped; the same command goes on.", file=sys.stderr, flush=True)
            os._exit(130)  # the pool would wait for its processes; so they end with this one
    if not progress.done:
        raise failures[0]


def _follow(running: set[Future[None]], progress: JobProgress, bar: "tqdm[None]") -> list[BaseException]:
    """Show progress until all processes have ended; returns their errors."""
    failures: list[BaseException] = []
    while running:
        done, running = wait(running, timeout=_SHOW_EVERY)
        progress.show(bar)
        for failure in filter(None, (future.exception() for future in done)):
            if isinstance(failure, BrokenProcessPool):
                raise lost_worker("captioning", "--workers")
            failures.append(failure)
            if running:
                tqdm.write(f"A process has stopped, the others go on: {failure}", file=sys.stderr)
    return failures
