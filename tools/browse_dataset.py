"""Show training samples as the model sees them in an epoch: augmented images, captions, and the words that are masked.

    python tools/browse_dataset.py configs/nam/clip_b16_luperson.py --rows 0-23
    python tools/browse_dataset.py configs/nam/tiny_procedural.py --work-dir work_dirs/demo/nam --epoch 4 --out four.png

With the seed of a run they are exactly what it trained on, or will. Where words are masked by their noise, an epoch
after the first needs the noise table of the epoch before, from the run's work dir.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import DictAction

from mmreid_text.engine.config import check_data, error_text, load_config


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="config file")
    parser.add_argument("--rows", default="0-23", help="captions by their row in the training set (default: 0-23)")
    parser.add_argument("--epoch", type=int, default=1, help="from 1, as in the log (default: 1)")
    parser.add_argument("--seed", type=int, help="of the run; the config's unless told")
    parser.add_argument("--work-dir", type=Path, help="the run's folder; work_dirs/<config name> unless told")
    parser.add_argument("--out", type=Path, help=".html or .png; dataset_epoch_<n>.html in the work dir unless told")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, default={}, help="dotted.key=value ...")
    args = parser.parse_args(argv)
    args.work_dir = args.work_dir or Path("work_dirs") / Path(args.config).stem
    args.out = args.out or args.work_dir / f"dataset_epoch_{args.epoch}.html"
    if args.out.suffix not in (".png", ".html"):
        parser.error(f"--out {args.out} must end in .png or .html")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)

    # Late: these imports take seconds, and a mistake on the command line should show before.
    from mmreid_text.visualization.dataset_sheet import save_dataset_sheet
    from mmreid_text.visualization.training_view import TrainingView, read_rows

    try:
        rows = read_rows(args.rows)
        cfg = load_config(args.config, args.cfg_options)
        check_data(cfg, ("train_dataloader",))
        view = TrainingView(cfg, args.work_dir, args.seed)
        samples = view.samples(rows, args.epoch)
    except (OSError, KeyError, ValueError) as error:
        raise SystemExit(f"error: {error_text(error)}") from error
    print(view.dataset.summary())
    title = f"{view.dataset.name}, epoch {args.epoch}, seed {view.seed}: {Path(args.config).stem}"
    save_dataset_sheet(samples, title, args.out)
    print(f"{len(samples)} of {len(view.dataset):,} captions: {args.out}")


if __name__ == "__main__":
    main()
