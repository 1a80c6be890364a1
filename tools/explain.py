"""Explain why a sentence finds images: what each word adds to the score, and where in the crop it is seen.

python tools/explain.py "a woman in a red coat" a.jpg b.jpg --checkpoint work_dirs/demo/nam/epoch_4.pth
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmreid_text.engine.config import error_text


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sentence", help="whom to look for")
    parser.add_argument("images", nargs="+", help="crops of persons")
    parser.add_argument("--config", help="config file; without one, that of the checkpoint")
    parser.add_argument("--checkpoint", help="weights; without config and checkpoint, the demo's start")
    parser.add_argument("--device", help="such as cpu or cuda:0; unless told, the GPU if there is one")
    parser.add_argument("--layer", type=int, help="blocks passed before words and patches are compared")
    parser.add_argument("--out", type=Path, default=Path("work_dirs/explanation.png"), help="the picture, .png")
    args = parser.parse_args(argv)
    if args.out.suffix != ".png":
        parser.error(f"--out {args.out} must end in .png")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)

    # Late: these imports take seconds, and a mistake on the command line should show before.
    from mmreid_text.apis.explain import explain
    from mmreid_text.apis.inferencer import TextReIDInferencer
    from mmreid_text.gallery.images import read_picture
    from mmreid_text.visualization.attention_map import attention_maps
    from mmreid_text.visualization.explanation_sheet import ExplainedImage, save_explanations

    try:
        inferencer = TextReIDInferencer(args.config, args.checkpoint, args.device)
        shown = []
        for path in args.images:
            image = read_picture(path)
            found = explain(inferencer, args.sentence, image, args.layer)
            encoder = inferencer.model.image_encoder
            try:
                attention = attention_maps(encoder, inferencer.preprocess([image]))[0].cpu().numpy()
            except TypeError:  # no transformer, so there is nothing to show
                attention = None
            shown.append(ExplainedImage(image, Path(path).name, found, attention))
            print(f"{found.score:.3f}  {path}")
            parts = (f"{word} {value:+.3f}" for word, value in zip(found.words, found.contributions))
            print("      ", *parts, sep="  ")
    except (OSError, KeyError, ValueError) as error:
        raise SystemExit(f"error: {error_text(error)}") from error
    save_explanations(shown, args.sentence, args.out)
    print(f"Picture: {args.out}")


if __name__ == "__main__":
    main()
