"""Write procedural people in the layout of a published dataset, to try the real readers without a download.

    python tools/export_procedural.py cuhk_pedes data/trial --domain street --train 200 --val 20 --test 50

Stopped at any moment it goes on where it was when started again.
"""

import argparse
import sys
from pathlib import Path

from mmreid_text.procedural.domains import DOMAINS
from mmreid_text.procedural.export import LAYOUTS, export


def main() -> int:
    args = parse_args()
    num_ids = {split: getattr(args, split) for split in ("train", "val", "test") if getattr(args, split)}
    size = (args.size[0], args.size[1])
    try:
        folder = export(
            args.layout,
            args.data_root,
            args.domain,
            num_ids,
            args.images_per_id,
            size,
            args.seed,
            args.noise_rate,
            args.overwrite,
        )
    except (FileExistsError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{folder} is complete; set DATA_ROOT={args.data_root} to use it")
    return 0


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("layout", choices=LAYOUTS, help="published dataset whose layout to write")
    parser.add_argument("data_root", type=Path, help="folder above the dataset's own")
    parser.add_argument("--domain", choices=DOMAINS, default="street", help="whose people (default: street)")
    for split in ("train", "val", "test"):
        parser.add_argument(f"--{split}", type=int, default=0, metavar="IDS", help=f"identities of the {split} split")
    parser.add_argument("--images-per-id", type=int, help="images of each identity (default: the domain's number)")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(384, 128), metavar=("H", "W"), help="image size in pixels"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the people")
    parser.add_argument("--noise-rate", type=float, default=0.2, help="chance of a wrong value, in the source domain")
    parser.add_argument("--overwrite", action="store_true", help="replace other captions, such as published ones")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
