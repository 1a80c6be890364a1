"""Caption images with multi-modal LLMs, from a config (configs/captioning, docs/captioning.md).

    python tools/caption.py configs/captioning/procedural.py --out work_dirs/captions/people
    python tools/caption.py configs/captioning/qwen_vllm.py --out /shared/captions/luperson --publish data/LUPerson-MLLM

Any number of processes, on any machines that share the folder, may run the same command: they divide the work among
them. Stopped at any moment, in whatever way, the same command goes on; no answer is asked for twice. At the end stand a
caption table (<out>.arrow), which data sets read, and in the folder report.md, rejected-*.jsonl and failed.jsonl.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from tqdm import tqdm

from mmreid_text.captioning.backends import BackendError
from mmreid_text.captioning.job import CaptionJob
from mmreid_text.captioning.join import join, publish, table_path
from mmreid_text.captioning.progress import JobProgress
from mmreid_text.captioning.shards import JobFolder, list_images
from mmreid_text.captioning.worker import run_worker
from mmreid_text.datasets import CaptionTable
from mmreid_text.datasets.worker_pool import lost_worker, worker_pool

SHOW_EVERY = 1.0


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    out = Path(os.path.abspath(args.out))
    try:
        job = CaptionJob.from_file(args.config)
        images = job.build_images()  # before the folder becomes this job's
        folder = job.open(out)
        list_images(folder.list_path, images)
        caption(job, folder, args.workers)
        facts = join(job, folder)
        files = publish(CaptionTable.open(table_path(out)), args.publish) if args.publish else []
    except (OSError, ValueError, BackendError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print((out / "report.md").read_text())
    total = facts["total"]
    print(
        f"{table_path(out)}: {total['ok'] + total['replaced']:,} captions of {facts['images with captions']:,} images, "
        f"{total['replaced']:,} of them static stand-ins; {total['failed']:,} failed (failed.jsonl in {out})."
    )
    for path in files:
        print(f"published: {path}")
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="Python file: images, sources, ... (docs/captioning.md)")
    parser.add_argument("--out", type=Path, required=True, help="the job's folder; its table is <out>.arrow")
    parser.add_argument(
        "--workers", type=int, default=1, help="processes on this machine (default 1, enough for most servers)"
    )
    parser.add_argument(
        "--publish", type=Path, metavar="FOLDER", help="write <FOLDER>/captions/<source>.json, as LUPerson-MLLM's, too"
    )
    args = parser.parse_args(argv)
    if args.workers < 1:
        parser.error(f"--workers {args.workers} must be at least 1")
    return args


def caption(job: CaptionJob, folder: JobFolder, workers: int) -> None:
    """Run processes until the job is done; one that fails leaves its shards to the others."""
    progress = JobProgress(folder, len(job.sources))
    if progress.done:
        return
    with worker_pool(workers, "captioning") as pool, progress.bar() as bar:
        running = {pool.submit(run_worker, job, folder.out) for _ in range(workers)}
        try:
            failures = follow(running, progress, bar)
        except KeyboardInterrupt:
            print("\nStopped; the same command goes on.", file=sys.stderr, flush=True)
            os._exit(130)  # the pool would wait for its processes; so they end with this one
    if not progress.done:
        raise failures[0]


def follow(running: set[Future[None]], progress: JobProgress, bar: "tqdm[None]") -> list[BaseException]:
    """Show progress until all processes have ended; returns their errors."""
    failures: list[BaseException] = []
    while running:
        done, running = wait(running, timeout=SHOW_EVERY)
        progress.show(bar)
        for failure in filter(None, (future.exception() for future in done)):
            if isinstance(failure, BrokenProcessPool):
                raise lost_worker("captioning", "--workers")
            failures.append(failure)
            if running:
                tqdm.write(f"A process has stopped, the others go on: {failure}", file=sys.stderr)
    return failures


if __name__ == "__main__":
    sys.exit(main())
