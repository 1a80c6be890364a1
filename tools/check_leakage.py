"""Look for benchmark images among training images, by perceptual hashes.

    python tools/check_leakage.py data/LUPerson-MLLM.arrow data/CUHK-PEDES.arrow data/ICFG-PEDES.arrow
    python tools/check_leakage.py data/mine data/CUHK-PEDES/imgs --distance 2 --fail

TRAIN and BENCHMARK are prepared caption tables, folders of images, or image stores (folder or URL). Of a training table
the split 'train' counts, of a benchmark's those that --splits names. Every image is decoded once: its hash is kept
beside the table or folder. Stopped at any moment, the same command goes on.

Finds copies that were encoded anew, scaled, darkened or brightened, and some that were cut a little. Other crops of the
same scene, mirrored copies and other pictures of the same people are not found: no match is no proof (docs/data.md,
Leakage).
"""

import argparse
import csv
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmreid_text.atomic_write import write_text, written_beside
from mmreid_text.datasets import CaptionTable
from mmreid_text.datasets.image_packing import list_images
from mmreid_text.datasets.image_store import ImageStore, is_url
from mmreid_text.datasets.perceptual_hash import (
    ALGORITHM,
    DISTANCE,
    HashedImages,
    NearPairs,
    hash_images,
    image_reader,
    near_pairs,
)

SHEET_PAIRS = 24


@dataclass(frozen=True)
class Source:
    """Images to hash: a split of a table, or all of a folder or store; ``path`` is what the user named."""

    path: str
    name: str
    split: str
    root: str
    names: pa.LargeStringArray

    @property
    def title(self) -> str:
        return f"{self.name} {self.split}".rstrip()


@dataclass(frozen=True)
class Match:
    """A benchmark and its near-duplicates; rows are those of the two :class:`HashedImages`."""

    source: Source
    images: HashedImages
    pairs: NearPairs


def main() -> int:
    args = parse_args()
    try:
        train = find(args.train, ["train"])[0]
        benchmarks = [source for path in args.benchmarks for source in find(path, args.splits)]
        training = hashed(train, args)
        matches = [compared(training, source, hashed(source, args), args) for source in benchmarks]
        write_report(train, training, matches, args)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return report(train, training, matches, args)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", metavar="TRAIN", help="table, folder or store of the training images")
    parser.add_argument("benchmarks", metavar="BENCHMARK", nargs="+", help="table, folder or store to look for in it")
    parser.add_argument(
        "--distance",
        type=int,
        default=DISTANCE,
        help=f"bits of 64 by which the hashes of a match may differ (default {DISTANCE})",
    )
    parser.add_argument(
        "--splits", nargs="+", default=["test"], metavar="SPLIT", help="of benchmark tables (default test)"
    )
    parser.add_argument("--out", type=Path, default=Path("work_dirs/leakage"), help="folder of the report")
    parser.add_argument("--hash-dir", type=Path, help="folder of the hash files, where data folders are read-only")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes that decode images")
    parser.add_argument("--fail", action="store_true", help="exit with 1 if there are matches or unreadable images")
    args = parser.parse_args()
    if not 0 <= args.distance <= 20:
        parser.error(f"--distance {args.distance} must lie in 0..20: beyond, images that differ match")
    return args


def find(path: str, splits: Sequence[str]) -> list[Source]:
    """The images that a path names, split by split where it is a table."""
    if not is_url(path) and os.path.isfile(path):
        table = CaptionTable.open(path)
        known = [split for split in splits if split in table.splits]
        if not known:
            raise ValueError(
                f"{path} has none of the splits {', '.join(splits)}; it has {', '.join(table.splits)}. Name one with "
                "--splits, or the folder of the images for all of them."
            )
        if not is_url(table.image_root) and not os.path.isdir(table.image_root):
            raise FileNotFoundError(
                f"The image folder {table.image_root} of {path} does not exist. Prepare the table again where the "
                "images are (tools/prepare_data.py), or name the folder of the images in its place."
            )
        root = table.image_root if is_url(table.image_root) else os.path.abspath(table.image_root)
        names = (pa.array(table.split(split).images(), pa.large_string()).unique() for split in known)
        return [Source(path, table.name, split, root, images) for split, images in zip(known, names)]
    store = ImageStore.find(path)
    if store is None and not os.path.isdir(path):
        raise FileNotFoundError(f"{path} is no caption table, folder of images or image store.")
    root = path if is_url(path) else os.path.abspath(path)
    images = list_images(Path(path)) if store is None else stored_names(store)
    if not len(images):
        raise ValueError(f"{path} holds no images.")
    return [Source(path, Path(root).name, "", root, images)]


def stored_names(store: ImageStore) -> pa.LargeStringArray:
    """Images of a store in the order in which they lie."""
    rows = store.index.rows.filter(pc.equal(store.index.rows.column("error"), ""))
    return rows.sort_by([("shard", "ascending"), ("offset", "ascending")]).column("name").combine_chunks()


def hashed(source: Source, args: argparse.Namespace) -> HashedImages:
    name = f"{Path(source.path).name}{'.' if source.split else ''}{source.split}.hashes"
    folder = args.hash_dir
    if folder is not None or is_url(source.path):  # many folders are called imgs
        name = f"{hashlib.sha256(source.root.encode()).hexdigest()[:8]}-{name}"
    if folder is None:
        folder = args.out if is_url(source.path) else Path(os.path.abspath(source.path)).parent
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise ValueError(f"{folder} is read-only, so {name} cannot stand there: name a folder with --hash-dir.")
    return hash_images(source.root, source.names, folder / name, args.jobs)


def compared(training: HashedImages, source: Source, images: HashedImages, args: argparse.Namespace) -> Match:
    rows, columns = training.readable(), images.readable()
    pairs = near_pairs(training.hashes[rows], images.hashes[columns], args.distance, args.jobs)
    return Match(source, images, NearPairs(rows[pairs.train], columns[pairs.benchmark], pairs.distance))


def write_report(train: Source, training: HashedImages, matches: list[Match], args: argparse.Namespace) -> None:
    """``pairs.csv``, ``report.json`` and, where there are matches, ``pairs.png``."""
    args.out.mkdir(parents=True, exist_ok=True)
    with written_beside(args.out / "pairs.csv") as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["benchmark", "split", "distance", "benchmark_image", "train_image"])
        for match in matches:
            for row, column, bits in zip(match.pairs.train, match.pairs.benchmark, match.pairs.distance):
                names = match.images.names[column].as_py(), training.names[row].as_py()
                writer.writerow([match.source.name, match.source.split, int(bits), *names])
    content = {
        "hash": ALGORITHM,
        "distance": args.distance,
        "train": facts(train, training),
        "benchmarks": [facts(match.source, match.images) | counts(match) for match in matches],
    }
    write_text(args.out / "report.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    sheet = args.out / "pairs.png"
    sheet.unlink(missing_ok=True)
    if any(len(match.pairs.train) for match in matches):
        draw(training, matches, sheet)


def facts(source: Source, images: HashedImages) -> dict[str, Any]:
    return {
        "path": source.path,
        "name": source.name,
        "split": source.split,
        "images": len(images.names),
        "unreadable": images.errors,
    }


def counts(match: Match) -> dict[str, Any]:
    by_distance = Counter(match.pairs.distance.tolist())
    return {
        "matched_images": len(np.unique(match.pairs.benchmark)),
        "pairs": len(match.pairs.train),
        "pairs_by_distance": {str(bits): by_distance[bits] for bits in sorted(by_distance)},
    }


def draw(training: HashedImages, matches: list[Match], path: Path) -> None:
    """A picture of the nearest pairs, one per benchmark image."""
    from mmreid_text.visualization import ImagePair, save_pair_sheet

    nearest = []
    for match in matches:
        _, first = np.unique(match.pairs.benchmark, return_index=True)
        nearest += [(int(match.pairs.distance[i]), int(i), match) for i in np.sort(first)[:SHEET_PAIRS]]
    nearest.sort(key=lambda entry: entry[0])
    read_train = image_reader(training.root)
    readers = {match.images.root: image_reader(match.images.root) for match in matches}
    pairs = []
    for bits, i, match in nearest[:SHEET_PAIRS]:
        left, right = (
            training.names[match.pairs.train[i]].as_py(),
            match.images.names[match.pairs.benchmark[i]].as_py(),
        )
        label = f"{match.source.title}: distance {bits}"
        pairs.append(ImagePair(read_train(left), readers[match.images.root](right), left, right, label))
    save_pair_sheet(pairs, "Training images that may be benchmark images", ("training", "benchmark"), path)


def report(train: Source, training: HashedImages, matches: list[Match], args: argparse.Namespace) -> int:
    """Print what was found; the exit code."""
    unreadable = 0
    for title, images in ((train.title, training), *((match.source.title, match.images) for match in matches)):
        unreadable += len(images.errors)
        for name, error in images.errors.items():
            print(f"unreadable: {title}: {name}: {error}")
    print(f"{train.title}: {len(training.names):,} training images, hashes within {args.distance} of 64 bits")
    found = 0
    for match in matches:
        row = counts(match)
        found += row["matched_images"]
        bits = ", ".join(f"{n:,} at {d}" for d, n in row["pairs_by_distance"].items())
        print(
            f"  {match.source.title}: {row['matched_images']:,} of {len(match.images.names):,} images match, "
            f"{row['pairs']:,} pairs{f' ({bits})' if bits else ''}"
        )
    print(f"Report: {args.out}/report.json, pairs.csv{' and pairs.png' if found else ''}")
    if unreadable:
        print(f"WARNING: {unreadable:,} images cannot be read and were not compared. Copy them again and repeat.")
    if found:
        print(
            f"WARNING: {found:,} benchmark images are near-duplicates of training images. Look at pairs.png; leave the "
            "training images that pairs.csv names out of training, or report the results as contaminated."
        )
    else:
        print("No match. Other crops of the same scene and mirrored copies are not looked for (docs/data.md).")
    return int(args.fail and bool(found or unreadable))


if __name__ == "__main__":
    sys.exit(main())
