"""Turn a published dataset into the caption table that training maps.

    python tools/prepare_data.py luperson_mllm data/LUPerson-MLLM

The table is data/LUPerson-MLLM.arrow then, where the dataset finds it by itself, and its token ids are
data/LUPerson-MLLM.arrow.tokens. Stopped at any moment it leaves no half file; started again it goes on, or does nothing
where complete ones of the same files stand. `--check-images` then decodes every image once and goes on likewise.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

from tqdm import tqdm

from mmreid_text import __version__
from mmreid_text.atomic_write import write_text
from mmreid_text.datasets import (
    CUHKPEDES,
    ICFGPEDES,
    MALS,
    CaptionTable,
    LUPersonMLLM,
    LUPersonT,
    RSTPReid,
    write_caption_table,
)
from mmreid_text.datasets.caption_rows import Columns
from mmreid_text.datasets.caption_tokens import open_caption_tokens, tokens_path, write_caption_tokens
from mmreid_text.datasets.image_store import ImageStore
from mmreid_text.datasets.published import PublishedDataset
from mmreid_text.datasets.text_reid_dataset import format_counts
from mmreid_text.datasets.transforms.image import decode_image, read_image
from mmreid_text.datasets.work_folder import remove_work_folder, work_folder
from mmreid_text.datasets.worker_pool import map_ahead, worker_pool

READERS: dict[str, type[PublishedDataset]] = {
    reader.name: reader for reader in (CUHKPEDES, ICFGPEDES, RSTPReid, LUPersonMLLM, LUPersonT, MALS)
}
CHECK_BLOCK = 2_000
"""Images between two savings of the check's state."""
CHUNK = 32
"""Images that a process decodes at a time."""


def main() -> int:
    args = parse_args()
    reader = READERS[args.dataset]
    out = args.out or reader.default_table(args.root)
    try:
        table = reader.finished_table(out, args.root)
        if table is not None and os.path.abspath(table.image_root) == os.path.abspath(reader.find_images(args.root)):
            print(f"{out} is complete and matches {args.root}; nothing to write.")
            remove_work_folder(out)
        else:
            if out.exists():
                print(f"{out} was made from other files than {args.root} holds now; writing it anew.")
            table = write(out, reader, args.root)
        write_tokens(table, args.jobs)
        print(summary(table, reader))
        if args.check_images:
            return check_images(table, reader.find_images(args.root), Path(f"{out}.check.json"), args.jobs)
    except (ChildProcessError, FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", choices=READERS, help="which published format ROOT is in")
    parser.add_argument("root", type=Path, help="folder of the dataset, laid out as docs/data.md shows")
    parser.add_argument("--out", type=Path, help="the table to write; ROOT.arrow unless told")
    parser.add_argument("--check-images", action="store_true", help="decode every image once; list unreadable ones")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes that tokenize and decode")
    return parser.parse_args()


def write(out: Path, reader: type[PublishedDataset], root: Path) -> CaptionTable:
    inputs = reader.inputs(root)
    stamp = {"version": __version__, "dataset": reader.name, "root": os.path.abspath(root), "inputs": inputs}
    with work_folder(out, stamp) as work:
        tree = reader.read(root, work)

        def progress() -> Iterator[Columns]:
            with tqdm(total=tree.captions, unit=" captions", unit_scale=True, desc=str(out)) as bar:
                for chunk in tree.chunks:
                    yield chunk
                    bar.update(len(chunk["image"]))
                bar.total = bar.n  # what belongs to no image was counted, too

        extra = {"notes": tree.notes, "inputs": inputs}
        table = write_caption_table(out, progress(), reader.name, str(tree.image_root), tree.sources, extra)
    print(f"{out}: {len(table):,} captions, {out.stat().st_size / 1e6:,.1f} MB, fingerprint {table.fingerprint[:12]}")
    return table


def write_tokens(table: CaptionTable, jobs: int) -> None:
    """Tokenize the captions, unless their tokens are there already."""
    try:
        tokens = open_caption_tokens(table)
    except ValueError as error:
        print(f"{tokens_path(table)}: {error}; writing it anew.")
        tokens = None
    if tokens is None:
        tokens = write_caption_tokens(table, jobs)
        print(f"{tokens.path}: {len(tokens):,} captions, {os.path.getsize(tokens.path) / 1e6:,.1f} MB")


def summary(table: CaptionTable, reader: type[PublishedDataset]) -> str:
    counts = {split: tuple(row.values()) for split, row in table.info["summary"].items()}
    lines = [format_counts(table.name, counts, reader.deviation(counts))]
    return "\n".join(lines + [f"  note: {note}" for note in table.info.get("notes", [])])


def check_images(table: CaptionTable, root: Path, report: Path, jobs: int) -> int:
    """Decode every image; ``report`` holds how far the check came and which files failed."""
    store = ImageStore.find(root)
    if store is not None and store.packed:
        print(f"{root} is an image store: its images were decoded when they were packed.")
        return 0
    done, failed = read_report(report, table)
    total = sum(row["images"] for row in table.info["summary"].values())
    # Files that failed are tried again: they may have been replaced meanwhile.
    again, failed = list(failed), {}
    names = chain(again, islice(table.images(), done, None))
    with tqdm(total=total + len(again), initial=done, unit=" images", desc="decoding") as bar:
        for i, (image, error) in enumerate(decode_errors(root, names, jobs), start=1):
            bar.update()
            if error:
                failed[image] = error
            if i >= len(again) and (i - len(again)) % CHECK_BLOCK == 0:
                write_report(report, table, done + i - len(again), failed)
    write_report(report, table, total, failed)
    for image, error in failed.items():
        print(f"unreadable: {image}: {error}")
    print(f"{total:,} images checked, {len(failed):,} unreadable; the list is in {report}.")
    if failed:
        print(f"Copy these {len(failed):,} files again from the dataset's source, then check once more.")
    return 1 if failed else 0


def read_report(report: Path, table: CaptionTable) -> tuple[int, dict[str, str]]:
    """Images done and files that failed in an earlier, perhaps unfinished, check of the same table."""
    if not report.exists():
        return 0, {}
    state = json.loads(report.read_text())
    if state["fingerprint"] != table.fingerprint:
        return 0, {}
    return state["checked"], state["unreadable"]


def write_report(report: Path, table: CaptionTable, checked: int, failed: dict[str, str]) -> None:
    state = {"fingerprint": table.fingerprint, "checked": checked, "unreadable": failed}
    write_text(report, json.dumps(state, indent=1))


def decode_errors(root: Path, names: Iterator[str], jobs: int) -> Iterator[tuple[str, str]]:
    """Every image's name and why it cannot be decoded, or '', in order."""
    chunks = ((root, chunk) for chunk in iter(lambda: list(islice(names, CHUNK)), []))
    if jobs <= 1:
        yield from chain.from_iterable(map(decode_chunk, chunks))
        return
    with worker_pool(jobs, "decoding images") as pool:
        yield from chain.from_iterable(map_ahead(pool, decode_chunk, chunks, 4 * jobs))


def decode_chunk(task: tuple[Path, list[str]]) -> list[tuple[str, str]]:
    """What :func:`decode_errors` says of some images of a folder or of Arrow files."""
    root, names = task
    store, found = ImageStore.find(root), []
    for name in names:
        path = os.path.join(root, name)
        try:
            if store is None:
                read_image(path)
            else:
                decode_image(store.read(name), path)
            found.append((name, ""))
        except OSError as error:
            found.append((name, str(error.__cause__ or error)))
    return found


if __name__ == "__main__":
    sys.exit(main())
