"""Captions of the same people compared by what they are worth: static and dynamic ones of an MLLM, and UniPT's.

    OMP_NUM_THREADS=1 python tools/compare_captions.py --seeds 3

Draws 2,000 people below $PEOPLE_ROOT or data/people unless pictures are there, captions them (configs/captioning/
procedural_folder.py, configs/unipt/pseudo_text_procedural.py), trains every row of the matrix on its captions, tests it
on other people, and sets the captions' diversity beside. What is done is not repeated; stopped at any moment, the same
command goes on. Captions that have changed since are trained on anew.

Writes captions.md and captions.json to the folder of results.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import caption
import pseudo_text
import transfer_matrix

from mmreid_text.atomic_write import write_text
from mmreid_text.datasets import TextReIDDataset
from mmreid_text.engine.config import error_text
from mmreid_text.engine.matrix_runs import PlannedRow, plan_matrix
from mmreid_text.engine.run_pool import default_jobs
from mmreid_text.evaluation.caption_comparison import check_captions, compare
from mmreid_text.evaluation.feature_dumps import QueryScores, score_queries
from mmreid_text.procedural.export import export
from mmreid_text.registry import DATASETS

CONFIGS = Path(__file__).parents[1] / "configs"
PEOPLE = 2000


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    people = Path(os.environ.get("PEOPLE_ROOT", "data/people"))
    try:
        write_captions(people, args.work_dir)
        planned = plan_matrix(args.matrix, args.seeds, args.work_dir)
        datasets = training_data(planned)
        runs = args.work_dir / f"runs-{check_captions(datasets)[:12]}"
        options = [args.matrix, "--seeds", str(args.seeds), "--jobs", str(args.jobs), "--work-dir", str(runs)]
        transfer_matrix.main(options)
        planned = plan_matrix(args.matrix, args.seeds, runs)
        text, plain = compare([own.row for own in planned], read_scores(planned), datasets)
    except (FileNotFoundError, KeyError, ValueError) as error:
        raise SystemExit(f"error: {error_text(error)}") from error
    write_text(args.work_dir / "captions.md", text)
    write_text(args.work_dir / "captions.json", json.dumps(plain, indent=1, ensure_ascii=False) + "\n")
    print("\n" + text)
    print(f"Results: {args.work_dir / 'captions.md'} and captions.json; by cell, with all tests: {runs / 'matrix.md'}")


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--matrix",
        default=str(CONFIGS / "unipt/matrix_captions.py"),
        help="what to train on the captions, as of tools/transfer_matrix.py",
    )
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/compare_captions"), help="folder of results")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds 0 to this less one")
    parser.add_argument("--jobs", type=int, default=default_jobs(1), help="runs at a time")
    args = parser.parse_args(argv)
    for name in ("seeds", "jobs"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(args, name)}")
    return args


def write_captions(people: Path, work_dir: Path) -> None:
    """Draw and caption the people, as far as that is not done."""
    mllm, pseudo = people / "LUPerson-MLLM", people / "LUPerson-T"
    if not (mllm / "captions").is_dir():  # which the export writes last
        export("luperson_mllm", people, "source", {"train": PEOPLE}, size=(128, 64))
    jobs = (
        (caption, "captioning/procedural_folder.py", "mllm", mllm),
        (pseudo_text, "unipt/pseudo_text_procedural.py", "unipt", pseudo),
    )
    for tool, config, name, published in jobs:
        if tool.main([str(CONFIGS / config), "--out", str(work_dir / name), "--publish", str(published)]):
            sys.exit(2)


def training_data(planned: Sequence[PlannedRow]) -> dict[str, TextReIDDataset]:
    """What each row trains on, by its name; rows that are tested only are left out."""
    names = [own.row.name for own in planned]
    if len(set(names)) < len(names):
        raise ValueError(f"the matrix's rows must have different names, but are called {', '.join(names)}")
    firsts = {own.row.name: next(iter(own.runs.values())) for own in planned if own.runs}
    trained = {name: run for name, run in firsts.items() if run.checkpoint is None}
    if not trained:
        raise ValueError("the matrix trains no row on captions: name a config without `checkpoint` or `features`")
    return {name: DATASETS.build(run.cfg.train_dataloader.dataset) for name, run in trained.items()}


def read_scores(planned: Sequence[PlannedRow]) -> dict[tuple[int, str], dict[int, QueryScores]]:
    """Scores of every dump, by row number and target, then by seed."""
    return {
        (i, target): {seed: score_queries(folder / f"{target}.npz") for seed, folder in own.dumps.items()}
        for i, own in enumerate(planned)
        for target in own.targets
    }


if __name__ == "__main__":
    main()
