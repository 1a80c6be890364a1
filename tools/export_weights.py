"""Export the encoders of a checkpoint for other people's code.

irra writes OUT as IRRA's checkpoint, with the identity and relation heads that there are; huggingface makes the folder
OUT for transformers' CLIPModel, with tokenizer and image processor.
"""

import argparse
from pathlib import Path
from typing import Any

from mmreid_text.engine.config import error_text, load_config
from mmreid_text.models.checkpoints import load_clip, load_into
from mmreid_text.models.exports import export_hugging_face, export_irra
from mmreid_text.models.peers import head_sizes
from mmreid_text.registry import MODELS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="checkpoint of this project or of IRRA, or CLIP weights of any layout")
    parser.add_argument("layout", choices=["irra", "huggingface"])
    parser.add_argument("out", type=Path, help="file (irra) or folder (huggingface) to write")
    parser.add_argument(
        "--config",
        help="config of the run: checks that the weights are its model's, and gives the temperature behind Hugging "
        "Face's logit_scale; without it 0.01, CLIP's",
    )
    args = parser.parse_args()
    try:
        export(args)
    except (OSError, KeyError, ValueError) as error:
        raise SystemExit(f"error: {error_text(error)}") from error


def export(args: argparse.Namespace) -> None:
    img_size, options = (384, 128), dict[str, Any]()
    cfg = load_config(args.config).model if args.config else None
    if cfg is not None:
        img_size = tuple(cfg.image_encoder.get("img_size", img_size))
    weights = load_clip(args.checkpoint, img_size)
    if cfg is not None:
        if "num_ids" in cfg:  # read off the training set in training, and off the file here
            cfg.num_ids = head_sizes(weights.heads, None)[0]
        model: Any = MODELS.build(cfg)
        load_into(model, weights)
        taus = [loss.tau for loss in model.losses.values() if hasattr(loss, "tau")]
        if args.layout == "huggingface" and taus:
            options["tau"] = taus[0]
        elif args.layout == "irra" and getattr(model, "relation", None) is not None:
            options["relation_heads"] = model.relation.heads
    left_out = list(weights.dropped)
    if args.layout == "irra":
        export_irra(weights, args.out, **options)
    else:
        export_hugging_face(weights, args.out, **options)
        left_out += sorted({key.split(".")[0] + ".*" for key in weights.heads})
    rows, columns = weights.arch.grid
    size = f"{rows * weights.arch.patch_size}x{columns * weights.arch.patch_size}"
    print(f"{args.checkpoint} -> {args.out}: {weights.arch}")
    if left_out:
        print(f"left out: {', '.join(left_out)}")
    if args.layout == "irra":
        print(f"IRRA's code reads it at img_size={size}, stride_size={weights.arch.patch_size}.")
    elif rows != columns:
        print(
            f"CLIPModel knows square position grids only. For images of {size}, pass interpolate_pos_encoding=True to "
            "get_image_features and forward: the grid then is the one trained."
        )


if __name__ == "__main__":
    main()
