"""Show which words of captions noise-aware masking masks, epoch by epoch, from a run's noise tables.

    python tools/token_noise.py configs/nam/tiny_procedural.py --work-dir work_dirs/demo/nam --rows 0-11

An epoch needs the noise table of the epoch before. Checkpoints that are removed take theirs along:
default_hooks.checkpoint.max_keep_ckpts=-1 keeps all. Words that are known to be wrong, as in procedural people, are
marked.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.config import DictAction

from mmreid_text.engine.config import check_data, error_text, load_config


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config of the run")
    parser.add_argument("--work-dir", type=Path, help="its folder; work_dirs/<config name> unless told")
    parser.add_argument("--rows", default="0-11", help="captions by their row in the training set (default: 0-11)")
    parser.add_argument("--out", type=Path, help=".png or .html; token_noise.png in the work dir unless told")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={}, help="dotted.key=value ...")
    args = parser.parse_args(argv)
    args.work_dir = args.work_dir or Path("work_dirs") / Path(args.config).stem
    args.out = args.out or args.work_dir / "token_noise.png"
    if args.out.suffix not in (".png", ".html"):
        parser.error(f"--out {args.out} must end in .png or .html")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)

    # Late: these imports take seconds, and a mistake on the command line should show before.
    from mmreid_text.visualization.token_noise_view import TokenNoise, save_token_noise
    from mmreid_text.visualization.training_view import TrainingView, read_rows

    try:
        rows = read_rows(args.rows)
        cfg = load_config(args.config, args.cfg_options)
        check_data(cfg, ("train_dataloader",))
        view = TrainingView(cfg, args.work_dir, seed=0)  # of the images alone: probabilities do not depend on it
        epochs = view.epochs()
        if not epochs:
            raise FileNotFoundError(f"{args.work_dir} holds no noise_epoch_<n>.npz: --work-dir names the run's folder")
        samples = view.samples(rows, epochs[-1])
        by_epoch = [view.probability(samples, epoch) for epoch in epochs]
    except (OSError, KeyError, ValueError) as error:
        raise SystemExit(f"error: {error_text(error)}") from error
    wrong = view.wrong_tokens(samples)
    captions = [
        TokenNoise(sample, np.stack([found[i] for found in by_epoch]), None if wrong is None else wrong[i])
        for i, sample in enumerate(samples)
    ]
    save_token_noise(captions, epochs, f"{Path(args.config).stem}: chance of each word to be masked", args.out)
    print(f"{len(captions)} captions, epochs {', '.join(map(str, epochs))}: {args.out}")


if __name__ == "__main__":
    main()
