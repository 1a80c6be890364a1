"""No masking, EM and NAM on procedural people, over seeds: direct transfer with spread and paired differences.

Runs that are done are not repeated, and a killed one goes on from its last epoch. ``--vary`` asks where NAM pays:

    python tools/study.py --vary noise_rate=0,0.2,0.4 --seeds 3
"""

import argparse
import json
import multiprocessing
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

# One thread per run and a run per core: more pairs per second than one run on all cores.
os.environ["OMP_NUM_THREADS"] = "1"

import torch
from mmengine.config import Config

from mmreid_text.atomic_write import write_text
from mmreid_text.engine.config import load_config
from mmreid_text.evaluation.results import format_table
from mmreid_text.procedural.experiment import last_noise_table, noise_auc, train_and_test

ROOT = Path(__file__).parents[1]
# What may vary, and where it stands in the config.
KNOBS = {
    "noise_rate": "train_dataloader.dataset.noise_rate",
    "num_ids": "train_dataloader.dataset.num_ids",
    "epochs": "train_cfg.max_epochs",
    "p": "custom_hooks.0.p",
    "layer": "model.token_noise.layer",
}
ARMS = ("none", "em", "nam")


@dataclass(frozen=True)
class Run:
    """One training run of the study."""

    arm: str
    seed: int
    knob: str | None = None
    value: float | None = None

    @property
    def setting(self) -> str:
        return "base" if self.knob is None else f"{self.knob}={self.value:g}"


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default=str(ROOT / "configs/nam/tiny_procedural.py"), help="a NAM config")
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to this less one")
    parser.add_argument("--vary", action="append", default=[], metavar="KNOB=A,B,...", help=f"of {', '.join(KNOBS)}")
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/study"))
    parser.add_argument("--jobs", type=int, default=max(1, os.cpu_count() or 1), help="runs at once, a thread each")
    args = parser.parse_args()
    for vary in args.vary:
        if vary.partition("=")[0] not in KNOBS:
            parser.error(f"--vary {vary}: knob must be one of {', '.join(KNOBS)}")
    return args


def main() -> None:
    args = parse_args()
    runs = [Run(arm, seed) for seed in range(args.seeds) for arm in ARMS] if not args.vary else []
    for vary in args.vary:
        knob, _, values = vary.partition("=")
        runs += [Run(a, s, knob, float(v)) for v in values.split(",") for s in range(args.seeds) for a in ARMS]
    print(f"{len(runs)} runs, {args.jobs} at once, in {args.work_dir}", flush=True)
    prepare(args.config, runs)

    results: dict[Run, dict[str, float]] = {}
    began = time.monotonic()
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = {pool.submit(run_apart, args.config, run, args.work_dir): run for run in runs}
        for job in as_completed(jobs):
            if job.exception() is not None:
                pool.shutdown(cancel_futures=True)
            run, metrics = jobs[job], job.result()
            results[run] = metrics
            seconds = time.monotonic() - began
            left = seconds / len(results) * (len(runs) - len(results))
            print(
                f"[{len(results)}/{len(runs)}] {run.setting} {run.arm} seed {run.seed}: "
                f"mean R1 {metrics['mean/R1']:.2f} "
                f"({len(results) / seconds * 3600:.1f} runs/h, ETA {left / 60:.0f} min)",
                flush=True,
            )
    rows = [{**asdict(run), "metrics": results[run]} for run in runs]
    name = "-".join(sorted({run.setting.partition("=")[0] for run in runs}))
    write_text(args.work_dir / f"study_{name}.json", json.dumps(rows, indent=2) + "\n")
    for setting in dict.fromkeys(run.setting for run in runs):
        report(setting, {run: m for run, m in results.items() if run.setting == setting})


def arm_config(path: str, run: Run) -> Config:
    """The NAM config with one knob turned and the arm's masking."""
    options = {"randomness.seed": run.seed, "log_level": "WARNING", "train_cfg.val_interval": 1000}
    options["default_hooks.checkpoint.save_best"] = None  # the last epoch counts: nothing is chosen
    if run.knob is not None:
        options[KNOBS[run.knob]] = int(run.value) if run.value == int(run.value) else run.value
        if run.knob == "epochs":
            options["param_scheduler.1.end"] = options[KNOBS["epochs"]]
    cfg = load_config(path, options)
    if run.arm != "nam":
        cfg.model.token_noise = None
        cfg.custom_hooks[0].type = "UniformMaskingHook"
    if run.arm == "none":
        cfg.custom_hooks = []
    return cfg


def prepare(path: str, runs: list[Run]) -> None:
    """Render every data set once, before runs ask for them at the same time."""
    from mmreid_text.registry import DATASETS

    seen = set()
    for run in runs:
        dataset = arm_config(path, run).train_dataloader.dataset
        key = (dataset.num_ids, dataset.noise_rate)
        if key not in seen:
            seen.add(key)
            DATASETS.build(dataset)


def run_apart(path: str, run: Run, folder: Path) -> dict[str, float]:
    """Train and test one run in a process of its own, for threads and loggers belong to a process."""
    work_dir = folder / run.setting / f"{run.arm}_{run.seed}"
    process = multiprocessing.get_context("spawn").Process(target=execute, args=(path, run, work_dir))
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(
            f"{run.setting} {run.arm} seed {run.seed} ended with exit code {process.exitcode}; its error stands above "
            f"and its log in {work_dir}. The same command goes on from what is done."
        )
    return json.loads((work_dir / "results.json").read_text())


def execute(path: str, run: Run, work_dir: Path) -> None:
    """Train and test one run; NAM also says how well its table finds wrong words."""
    torch.set_num_threads(1)
    cfg = arm_config(path, run)
    metrics = train_and_test(cfg, work_dir)
    if run.arm == "nam" and cfg.train_dataloader.dataset.noise_rate > 0:
        metrics |= {f"noise/{key}": value for key, value in noise_auc(cfg, last_noise_table(work_dir)).items()}
    write_text(work_dir / "results.json", json.dumps(metrics, indent=2) + "\n")


def report(setting: str, results: dict[Run, dict[str, float]]) -> None:
    """Print means and standard deviations over seeds, and paired differences of the arms."""
    seeds = sorted({run.seed for run in results})
    by_arm = {arm: [results[r] for s in seeds for r in results if (r.arm, r.seed) == (arm, s)] for arm in ARMS}
    datasets = [key.removesuffix("/R1") for key in by_arm["nam"][0] if key.endswith("/R1")]
    print(f"\n### {setting}, {len(seeds)} seeds: R1, mean over seeds\n")
    table = {f"{arm}/{d}": statistics.mean(m[f"{d}/R1"] for m in by_arm[arm]) for arm in ARMS for d in datasets}
    for arm in ARMS:
        table[f"{arm}/sd of mean"] = spread([m["mean/R1"] for m in by_arm[arm]])
    print(format_table(table, head="masking"))
    for a, b in (("em", "none"), ("nam", "none"), ("nam", "em")):
        differences = [x["mean/R1"] - y["mean/R1"] for x, y in zip(by_arm[a], by_arm[b])]
        print(
            f"{a} - {b}: {statistics.mean(differences):+.2f} (sd {spread(differences):.2f}, "
            f"above 0 in {sum(d > 0 for d in differences)} of {len(differences)})"
        )
    aucs = [m for m in by_arm["nam"] if "noise/noise_auc" in m]
    for key, label in (("noise_auc", "all words"), ("noise_auc_attributes", "attribute words")):
        if aucs:
            values = [m[f"noise/{key}"] for m in aucs]
            print(f"ROC AUC of the noise table, {label}: {statistics.mean(values):.2f} (sd {spread(values):.2f})")


def spread(values: list[float]) -> float:
    """Sample standard deviation, 0 for one value."""
    return statistics.stdev(values) if len(values) > 1 else 0.0


if __name__ == "__main__":
    main()
