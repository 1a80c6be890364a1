"""A page on which people are found by sentences (docs/search.md).

python tools/demo.py                                  # on drawn people, with the demo's model: nothing else is needed
python tools/demo.py --index work_dirs/crops.index    # on an index of tools/index.py
"""

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

warnings.filterwarnings("ignore", message="Fail to import ``MultiScaleDeformableAttention``")  # mmcv-lite has none

from mmengine.logging import MMLogger  # noqa: E402

from mmreid_text.apis import Gallery, TextReIDInferencer  # noqa: E402
from mmreid_text.engine.config import error_text  # noqa: E402
from mmreid_text.engine.training_run import best_checkpoint  # noqa: E402
from mmreid_text.gallery.index_folder import IndexFolder  # noqa: E402
from mmreid_text.page import GallerySearch, PageServer  # noqa: E402
from mmreid_text.page.server import check_host  # noqa: E402
from mmreid_text.procedural.crops import draw_crops  # noqa: E402

LOGIN = "MMREID_TEXT_LOGIN"
DRAWN = Path("work_dirs/demo_gallery")
TRAINED = Path("work_dirs/demo/nam")


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    MMLogger.get_current_instance().setLevel("WARNING")
    try:
        login = read_login(args.login)
        check_host(args.host, login)
        gallery = indexed(args) if args.index else drawn(args)
        server = PageServer(GallerySearch(gallery), title(gallery), args.host, args.port, login)
        print(f"Open {server.url}", flush=True)
        server.run()
    except (OSError, ValueError, KeyError, ImportError) as error:
        print(f"error: {error_text(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    gallery.close()
    return 0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--index", type=Path, help="folder of an index; without it, drawn people are indexed")
    parser.add_argument("--config", help="config of the model; without it, the one that the checkpoint carries")
    parser.add_argument(
        "--checkpoint", help="weights; without both, the index's model, or that of make demo, or the one it starts from"
    )
    parser.add_argument("--device", help="such as cpu or cuda:0; the GPU if there is one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine alone)")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on (default 7860)")
    parser.add_argument(
        "--login", metavar="USER:PASSWORD", help=f"ask visitors for it; @FILE reads it from a file, as does {LOGIN}"
    )
    args = parser.parse_args(argv)
    if not 0 <= args.port <= 65535:
        parser.error(f"--port {args.port} must lie in 0..65535")
    return args


def read_login(stated: str | None) -> tuple[str, str] | None:
    """Name and password from the option, a file that it names, or the environment.

    Raises:
        ValueError: It is not USER:PASSWORD.
    """
    text = os.environ.get(LOGIN) if stated is None else stated
    if text is None:
        return None
    if text.startswith("@"):
        text = Path(text[1:]).read_text(encoding="utf-8").strip()
    user, _, password = text.partition(":")
    if not user or not password:
        raise ValueError("A login is USER:PASSWORD, or @FILE with such a line in the file.")
    return user, password


def indexed(args: argparse.Namespace) -> Gallery:
    """The index that is asked for, with the model that is asked for or else its own."""
    model = {"config": args.config, "checkpoint": args.checkpoint}
    if not any(model.values()):
        model = IndexFolder(args.index).manifest().model
    return Gallery.open(args.index, TextReIDInferencer(**model, device=args.device))


def drawn(args: argparse.Namespace) -> Gallery:
    """Drawn people, indexed with the model that is asked for, or the one that ``make demo`` trained, or its start."""
    checkpoint = args.checkpoint
    if not checkpoint and not args.config and any(TRAINED.glob("*.pth")):
        checkpoint = best_checkpoint(TRAINED)
    inferencer = TextReIDInferencer(args.config, checkpoint, args.device)
    crops, table = draw_crops(DRAWN)
    index = DRAWN / f"{inferencer.fingerprint[:12]}.index"
    return Gallery.build(crops, inferencer, index, metadata=table, progress=sys.stderr.isatty())


def title(gallery: Gallery) -> str:
    """What the page says of model and gallery."""
    source = gallery.manifest.model
    model = source.get("checkpoint") or source.get("config")
    name = "the small CLIP of the package" if model is None else os.path.relpath(model)
    return f"{len(gallery):,} images in {gallery.root.name}, model: {name}"


if __name__ == "__main__":
    sys.exit(main())
