"""Caption images without a language model: attributes that a dual encoder sees, composed into sentences (UniPT).

    python tools/pseudo_text.py configs/unipt/pseudo_text_procedural.py --out work_dirs/captions/unipt
    python tools/pseudo_text.py configs/unipt/pseudo_text_clip.py --out /shared/captions/unipt --publish data/LUPerson-T

Any number of processes, on any machines that share the folder, may run the same command: they divide the work among
them. Stopped at any moment, in whatever way, the same command goes on. At the end stand a caption table (<out>.arrow),
which data sets read, and in the folder report.md, attributes.md, failed.jsonl, and in scores/ what was seen in each
image.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mmreid_text.captioning.join import join, table_path
from mmreid_text.captioning.processes import run_processes
from mmreid_text.captioning.shards import list_images
from mmreid_text.datasets import CaptionTable
from mmreid_text.pseudo_text.job import PseudoTextJob
from mmreid_text.pseudo_text.mentions import write_mentions
from mmreid_text.pseudo_text.publish import publish_arrow, publish_json
from mmreid_text.pseudo_text.worker import run_worker


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    out = Path(os.path.abspath(args.out))
    try:
        job = PseudoTextJob.from_file(args.config)
        images = job.build_images()  # before the folder becomes this job's
        folder = job.open(out)
        list_images(folder.list_path, images)
        run_processes(run_worker, job, folder, args.workers)
        facts = join(job, folder)
        mentions = write_mentions(job, out)
        table = CaptionTable.open(table_path(out))
        files = []
        if args.publish:
            root = Path(images.root) if os.path.isdir(images.root) else None
            files += publish_json(table, args.publish, root)
        if args.publish_arrow:
            files += publish_arrow(table, args.publish_arrow, images, job.seed)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(mentions)
    total = facts["total"]
    print(
        f"{table_path(out)}: {total['ok']:,} captions of {facts['images with captions']:,} images; {total['failed']:,} "
        f"failed (failed.jsonl in {out})."
    )
    for path in files:
        print(f"published: {path}")
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="Python file: images, scorer, vocabulary, ... (docs/pseudo_text.md)")
    parser.add_argument("--out", type=Path, required=True, help="the job's folder; its table is <out>.arrow")
    parser.add_argument("--workers", type=int, default=1, help="processes on this machine (default 1)")
    parser.add_argument(
        "--publish",
        type=Path,
        metavar="FOLDER",
        help="write <FOLDER>/LUPerson-T.json, too, and link <FOLDER>/images to the images",
    )
    parser.add_argument(
        "--publish-arrow",
        type=Path,
        metavar="FOLDER",
        help="write <FOLDER>/LUPerson_{train,val,restval,test}.arrow, too, which hold the images",
    )
    args = parser.parse_args(argv)
    if args.workers < 1:
        parser.error(f"--workers {args.workers} must be at least 1")
    return args


if __name__ == "__main__":
    sys.exit(main())
