"""Index a folder of person crops, or bring its index up to date (docs/search.md).

    python tools/index.py data/crops --out work_dirs/crops.index --checkpoint work_dirs/demo/nam/epoch_4.pth
    python tools/index.py data/crops --out work_dirs/crops.index                        # later: what is new or changed
    python tools/index.py data/crops --out work_dirs/crops.index --pattern '(?P<camera>c[0-9]+)_'

Stopped at any moment, the same command goes on. Until it is done, searches find what they found before.
"""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

warnings.filterwarnings("ignore", message="Fail to import ``MultiScaleDeformableAttention``")  # mmcv-lite has none

from mmreid_text.apis import Gallery, TextReIDInferencer  # noqa: E402
from mmreid_text.engine.config import error_text  # noqa: E402
from mmreid_text.gallery.index_folder import STORES, IndexFolder  # noqa: E402
from mmreid_text.quiet_log import quiet_log  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        gallery = Gallery.build(
            args.folder,
            inferencer(args),
            args.out,
            store=args.store,
            metadata=args.metadata,
            pattern=args.pattern,
            uri=args.uri,
            batch_size=args.batch_size,
            jobs=args.jobs,
            progress=sys.stderr.isatty() or not args.json,
        )
    except (OSError, ValueError, KeyError, ImportError) as error:
        print(f"error: {error_text(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nStopped; the same command goes on.", file=sys.stderr, flush=True)
        return 130
    assert gallery.report is not None
    if args.json:
        facts = {"index": os.path.abspath(args.out), "manifest": asdict(gallery.manifest)}
        print(json.dumps(facts | asdict(gallery.report), indent=1, ensure_ascii=False))
    else:
        print(gallery.report)
        print(f"Search it: python tools/search.py 'a woman in a red coat' --index {args.out}")
    gallery.close()
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the crops, with any folders in it")
    parser.add_argument("--out", type=Path, required=True, metavar="INDEX", help="folder of the index")
    parser.add_argument("--config", help="config of the model; without it, the one that the checkpoint carries")
    parser.add_argument("--checkpoint", help="weights; without both, the index's model, or the package's small CLIP")
    parser.add_argument("--device", help="such as cpu or cuda:0; the GPU if there is one")
    parser.add_argument("--store", choices=STORES, help="exact (default), int8, ivf or milvus: docs/search.md")
    parser.add_argument("--uri", help="of a Milvus cluster; without it, an embedded database in the index")
    parser.add_argument("--metadata", metavar="FILE", help="CSV, Parquet or JSON lines with a column 'path'")
    parser.add_argument("--pattern", metavar="REGEX", help="its named groups in an image's path are metadata")
    parser.add_argument("--batch-size", type=int, default=64, help="images encoded at a time (default 64)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="threads that read images")
    parser.add_argument("--json", action="store_true", help="print the report as JSON, with every name")
    args = parser.parse_args(argv)
    for name in ("batch_size", "jobs"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)} must be at least 1")
    return args


def inferencer(args: argparse.Namespace) -> TextReIDInferencer:
    """The model that is asked for, or else the one that the index was made with."""
    folder = IndexFolder(args.out)
    model = {"config": args.config, "checkpoint": args.checkpoint}
    if not any(model.values()) and folder.exists():
        model = folder.manifest().model
    with quiet_log():
        return TextReIDInferencer(**model, device=args.device)


if __name__ == "__main__":
    sys.exit(main())
