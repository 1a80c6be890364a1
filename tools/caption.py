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
from pathlib import Path

from mmreid_text.captioning.backends import BackendError
from mmreid_text.captioning.job import CaptionJob
from mmreid_text.captioning.join import join, publish, table_path
from mmreid_text.captioning.processes import run_processes
from mmreid_text.captioning.shards import list_images
from mmreid_text.captioning.worker import run_worker
from mmreid_text.datasets import CaptionTable


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    out = Path(os.path.abspath(args.out))
    try:
        job = CaptionJob.from_file(args.config)
        images = job.build_images()  # before the folder becomes this job's
        folder = job.open(out)
        list_images(folder.list_path, images)
        run_processes(run_worker, job, folder, args.workers)
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


if __name__ == "__main__":
    sys.exit(main())
