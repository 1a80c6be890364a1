"""Pack a dataset's images into tar shards that training reads by name, from a disk or an object store.

    python tools/pack_images.py data/LUPerson-MLLM.arrow --out /scratch/luperson
    python tools/pack_images.py data/CUHK-PEDES/imgs     --out /scratch/cuhk --resize 384 128

Give the folder that results wherever a folder of images is asked for. Every image is decoded once; unreadable ones are
listed in unreadable.json. Stopped at any moment, the same command goes on after the last finished shard; started again
after unreadable images were mended, it adds them.
"""

import argparse
import os
import sys
from pathlib import Path

import pyarrow as pa

from mmreid_text.datasets import CaptionTable
from mmreid_text.datasets.image_packing import REPORT, PackSettings, list_images, names_hash, pack_images
from mmreid_text.datasets.image_store import ImageStore


def main() -> int:
    args = parse_args()
    try:
        name, root, names = find_images(args.source, args.image_root)
        if (store := ImageStore.find(root)) is not None:
            raise ValueError(f"{root} is an image store of {len(store):,} images already; name the folder of files.")
        settings = PackSettings(
            name, os.path.abspath(root), names_hash(names), args.resize, args.quality, args.shard_mb
        )
        unreadable = pack_images(names, settings, args.out, args.workers, args.skip_unreadable)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return report(args, len(names), unreadable)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="caption table, whose images are packed in its order, or a folder")
    parser.add_argument("--image-root", type=Path, help="folder of the table's images, unless it is the table's own")
    parser.add_argument("--out", type=Path, required=True, help="folder of the shards and their index")
    parser.add_argument(
        "--resize",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="store images at this size, as JPEG; unless given, files are stored as they are",
    )
    parser.add_argument("--quality", type=int, default=95, help="of the JPEGs after --resize (default 95)")
    parser.add_argument("--shard-mb", type=float, default=1000, help="size of a shard, MB (default 1000)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that decode images")
    parser.add_argument("--skip-unreadable", action="store_true", help="finish the store without unreadable images")
    args = parser.parse_args()
    if args.resize and min(args.resize) < 1:
        parser.error(f"--resize {args.resize} must be height and width in pixels")
    if not 1 <= args.quality <= 100:
        parser.error(f"--quality {args.quality} must lie in 1..100")
    if args.shard_mb <= 0:
        parser.error(f"--shard-mb {args.shard_mb} must be positive")
    if args.workers < 0:
        parser.error(f"--workers {args.workers} must not be negative")
    return args


def find_images(source: Path, root: Path | None) -> tuple[str, Path, pa.LargeStringArray]:
    """Name of the shards, the image folder, and names relative to it."""
    if source.is_dir():
        if root is not None:
            raise ValueError(f"{source} is a folder of images itself; --image-root belongs to a caption table.")
        return source.resolve().name, source, list_images(source)
    table = CaptionTable.open(source)
    root = Path(table.image_root) if root is None else root
    if not root.is_dir():
        raise FileNotFoundError(f"The image folder {root} of {source} does not exist; name it with --image-root.")
    # An image may stand in several splits.
    return table.name, root, pa.array(table.images(), pa.large_string()).unique()


def report(args: argparse.Namespace, images: int, unreadable: dict[str, str]) -> int:
    for name, error in unreadable.items():
        print(f"unreadable: {name}: {error}")
    if unreadable and not args.skip_unreadable:
        print(
            f"{len(unreadable):,} of {images:,} images cannot be read (listed in {args.out / REPORT}), so the store "
            "is not finished. Copy them again from the dataset's source and run the same command, which adds them; or "
            "leave them out with --skip-unreadable.",
            file=sys.stderr,
        )
        return 1
    store = ImageStore(args.out)
    size = sum((args.out / shard).stat().st_size for shard in store.index.shards)
    left_out = f", {len(unreadable):,} unreadable left out" if unreadable else ""
    print(f"{args.out}: {len(store):,} images in {len(store.index.shards):,} shards, {size / 1e9:,.2f} GB{left_out}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
