"""Draw training curves from the logs of one or more runs.

    python tools/curves.py work_dirs/demo/nam
    python tools/curves.py NAM=work_dirs/nam EM=work_dirs/em --scalars loss loss_sdm mean/R1 --out curves.png

Losses, learning rate and so on stand over iterations, validation metrics (with a slash in their name) over epochs.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmreid_text.visualization.curves import plot_curves, read_scalars


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="[LABEL=]RUN", help="work dirs; labelled by folder unless told")
    parser.add_argument("--scalars", nargs="+", default=["loss", "lr", "mean/R1"], help="(default: loss lr mean/R1)")
    parser.add_argument("--out", type=Path, help="the picture; curves.png in the first run's folder unless told")
    parser.add_argument("--list", action="store_true", help="print the scalars that the runs have, and draw nothing")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    runs: dict[str, Path] = {}
    for run in args.runs:
        label, found, path = run.partition("=")
        if not found or Path(run).exists():
            label, path = Path(run).name, run
        if label in runs:
            raise SystemExit(f"error: two runs are called {label!r}: label them, as in NAM={path}")
        runs[label] = Path(path)
    first = next(iter(runs.values()))
    out = args.out or (first if first.is_dir() else first.parent) / "curves.png"
    try:
        if args.list:
            for label, path in runs.items():
                print(f"{label}: {' '.join(sorted(read_scalars(path)))}")
            return
        plot_curves(runs, out, args.scalars)
    except (OSError, ValueError) as error:
        raise SystemExit(f"error: {error}") from error
    print(f"Picture: {out}")


if __name__ == "__main__":
    main()
