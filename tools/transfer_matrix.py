"""Fine-tune each source, or take checkpoints, and evaluate every target: tables, intervals, paired tests, a picture.

    python tools/transfer_matrix.py configs/irra/matrix_procedural.py --seeds 3

The matrix file says what the rows are (mmreid_text/engine/matrix_runs.py). Runs that are done are not repeated, and a
killed one goes on from its last epoch. All figures come from features that every run dumps once; --offline evaluates
the dumps that are there, without data sets and models.

Writes matrix.md, matrix.csv, matrix.json and matrix.png to the work dir.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from mmreid_text.engine.config import error_text
from mmreid_text.engine.matrix_runs import PlannedRow, all_runs, check_runs, plan_matrix
from mmreid_text.engine.run_pool import RunFailed, default_jobs, execute
from mmreid_text.evaluation.feature_dumps import QueryScores, score_queries
from mmreid_text.evaluation.transfer import build_matrix
from mmreid_text.evaluation.transfer_report import write_report
from mmreid_text.file_lock import alone
from mmreid_text.procedural.experiment import draw_datasets
from mmreid_text.visualization.heat_map import plot_heat_map


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("matrix", help="matrix file")
    parser.add_argument("--work-dir", type=Path, help="folder of runs and results; work_dirs/<matrix name> unless told")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds 0 to this less one")
    parser.add_argument("--nproc", type=int, default=1, help="processes, with a GPU each where there are GPUs, per run")
    parser.add_argument("--jobs", type=int, help="runs at a time; as many as the GPUs, or cores, suffice for")
    parser.add_argument("--amp", action="store_true", help="train in bfloat16")
    parser.add_argument("--offline", action="store_true", help="run nothing, evaluate the feature dumps that are there")
    args = parser.parse_args(argv)
    for name in ("seeds", "nproc", "jobs"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(args, name)}")
    args.work_dir = args.work_dir or Path("work_dirs") / Path(args.matrix).stem
    args.jobs = args.jobs or default_jobs(args.nproc)
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    try:
        planned = plan_matrix(args.matrix, args.seeds, args.work_dir, args.amp)
        runs = all_runs(planned)
        if not args.offline:
            check_runs(runs, args.nproc)
            with alone(args.work_dir / "in_use.lock", f"another tools/transfer_matrix.py works in {args.work_dir}"):
                print(f"{len(runs)} runs, {args.jobs} at once, in {args.work_dir}", flush=True)
                draw_datasets(run.cfg for run in runs)
                execute(runs, args.jobs, args.nproc)
        report(planned, args.work_dir)
    except (FileNotFoundError, KeyError, ValueError, RunFailed) as error:
        raise SystemExit(f"error: {error_text(error)}") from error
    except KeyboardInterrupt:
        raise SystemExit("Stopped; the same command goes on from what is done.") from None


def report(planned: list[PlannedRow], folder: Path) -> None:
    """Evaluate all dumps, write the files and print the tables."""
    notes: list[str] = []
    evaluations: list[dict[str, Any]] = []
    scores: dict[tuple[int, str], dict[int, QueryScores]] = {}
    missing: dict[tuple[int, int], list[str]] = {}
    stale: dict[tuple[int, int], list[str]] = {}
    places = [(i, seed, target) for i, own in enumerate(planned) for seed in own.dumps for target in own.targets]
    for i, seed, target in tqdm(places, "evaluating", unit="dump", delay=2):
        own = planned[i]
        path = own.dumps[seed] / f"{target}.npz"
        if not path.exists():
            missing.setdefault((i, seed), []).append(target)
            continue
        one = scores.setdefault((i, target), {})[seed] = score_queries(path)
        evaluations.append(_origin(own, seed, target, path, one))
        if seed in own.runs and own.runs[seed].metrics() is None:
            stale.setdefault((i, seed), []).append(target)
    remark = "dumps of an earlier config, or of a run that is not finished or whose start weights are not at hand"
    for kind, which in (("missing", missing), (remark, stale)):
        for (i, seed), targets in which.items():
            row, folder_of_dumps = planned[i].row, planned[i].dumps[seed]
            notes.append(f"{kind}: {row.name}, {row.source}, seed {seed} on {', '.join(targets)} ({folder_of_dumps})")
    if not scores:
        raise FileNotFoundError(
            "there is no evaluation to make a matrix of: none of the feature dumps is there, such as "
            f"{planned[0].dumps[0]}. Run the matrix without --offline, or name its folder with --work-dir."
        )
    rows = []
    for i, own in enumerate(planned):
        stated = {one.notes.protocol for (j, _), seeds in scores.items() if j == i for one in seeds.values()}
        if len(stated) > 1:
            shown = ", ".join(sorted(protocol or "not stated" for protocol in stated))
            notes.append(f"{own.row.name}, {own.row.source}: the dumps' checkpoints were chosen by {shown}")
        worst = max(stated, key=("val", "paper-val", "", "test-selected").index, default=own.row.protocol)
        rows.append(replace(own.row, protocol=worst))
    matrix = build_matrix(rows, scores)
    print("\n" + write_report(matrix, folder, notes, evaluations))
    plot_heat_map(matrix, folder / "matrix.png")
    print(f"Results: {folder / 'matrix.md'}, matrix.csv, matrix.json and matrix.png")


def _origin(own: PlannedRow, seed: int, target: str, path: Path, one: QueryScores) -> dict[str, Any]:
    """What an evaluation was made of, for the record; ``run`` is '' for a dump that the planned run did not make."""
    run = own.runs.get(seed)
    known = {"method": own.row.name, "source": own.row.source, "seed": seed, "target": target, "dump": str(path)}
    known |= {"data": one.notes.data, "weights": one.notes.weights, "checkpoint": one.notes.checkpoint}
    return known | {"protocol": one.notes.protocol, "run": run.stamp if run is not None and run.metrics() else ""}


if __name__ == "__main__":
    main()
