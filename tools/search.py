"""Find people in an indexed gallery by sentences (tools/index.py, docs/search.md).

python tools/search.py 'a woman in a red coat' --index work_dirs/crops.index
python tools/search.py 'a man with a backpack' --index work_dirs/crops.index --where 'camera == "c2"' --sheet out.png
python tools/search.py --json --topk 3 --index work_dirs/crops.index 'a red coat' 'a blue coat'
"""

import argparse
import json
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore", message="Fail to import ``MultiScaleDeformableAttention``")  # mmcv-lite has none

from mmreid_text.apis import Gallery, Hit, TextReIDInferencer  # noqa: E402
from mmreid_text.engine.config import error_text  # noqa: E402
from mmreid_text.gallery.images import read_picture  # noqa: E402
from mmreid_text.gallery.index_folder import IndexFolder  # noqa: E402
from mmreid_text.quiet_log import quiet_log  # noqa: E402
from mmreid_text.visualization.result_sheet import FoundImage, save_result_sheet  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        gallery = Gallery.open(args.index, inferencer(args))
        found = gallery.search(args.sentences, args.topk, args.where)
        if args.sheet:
            sheet = [(text, [pictured(gallery, hit) for hit in hits]) for text, hits in zip(args.sentences, found)]
            save_result_sheet(sheet, args.sheet)
    except (OSError, ValueError, KeyError, ImportError) as error:
        print(f"error: {error_text(error)}", file=sys.stderr)
        return 2
    if args.json:
        queries = [{"sentence": text, "hits": facts(gallery, hits)} for text, hits in zip(args.sentences, found)]
        print(json.dumps({"index": os.path.abspath(args.index), "queries": queries}, indent=1, ensure_ascii=False))
    else:
        show(gallery, args.sentences, found)
        if args.sheet:
            print(f"Sheet: {args.sheet}")
    gallery.close()
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sentences", nargs="+", metavar="SENTENCE", help="whom to look for")
    parser.add_argument("--index", type=Path, required=True, help="folder of the index")
    parser.add_argument("--topk", type=int, default=10, help="images per sentence (default 10)")
    parser.add_argument(
        "--where", metavar="CONDITION", help="on metadata and path, as 'camera == \"c2\" and time > 90'"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="write a picture of what was found")
    parser.add_argument("--config", help="config of the model; without it, the one that the index was made with")
    parser.add_argument("--checkpoint", help="weights; without both, those that the index was made with")
    parser.add_argument("--device", help="such as cpu or cuda:0; the GPU if there is one")
    return parser.parse_args(argv)


def inferencer(args: argparse.Namespace) -> TextReIDInferencer:
    """The model that is asked for, or else the one that the index was made with."""
    model = {"config": args.config, "checkpoint": args.checkpoint}
    if not any(model.values()):
        model = IndexFolder(args.index).manifest().model
    with quiet_log():
        return TextReIDInferencer(**model, device=args.device)


def pictured(gallery: Gallery, hit: Hit) -> FoundImage:
    try:
        return FoundImage(read_picture(gallery.image_path(hit.path)), hit.path, hit.score)
    except (OSError, ValueError):  # deleted or spoilt since it was indexed
        return FoundImage(None, hit.path, hit.score)


def facts(gallery: Gallery, hits: Sequence[Hit]) -> list[dict[str, Any]]:
    return [{"rank": rank, "file": str(gallery.root / hit.path), **asdict(hit)} for rank, hit in enumerate(hits, 1)]


def show(gallery: Gallery, sentences: Sequence[str], found: Sequence[Sequence[Hit]]) -> None:
    for sentence, hits in zip(sentences, found):
        print(f"{sentence}  ({len(hits):,} of {len(gallery):,} images)")
        for rank, hit in enumerate(hits, 1):
            known = ", ".join(f"{name} {value}" for name, value in hit.metadata.items() if value is not None)
            print(f"{rank:5}  {hit.score:6.3f}  {hit.path}{f'  ({known})' if known else ''}")


if __name__ == "__main__":
    sys.exit(main())
