"""No masking, EM and NAM on procedural people, over seeds: direct transfer with spread and paired differences.

Runs that are done are not repeated, and a killed one goes on from its last epoch. ``--vary`` asks where NAM pays:

    python tools/study.py --vary noise_rate=0,0.2,0.4 --seeds 3
"""

import argparse
import json
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path

from mmengine.config import Config

from mmreid_text.atomic_write import write_text
from mmreid_text.engine.config import error_text, load_config
from mmreid_text.engine.run_pool import Run, RunFailed, default_jobs, execute
from mmreid_text.evaluation.results import format_table
from mmreid_text.file_lock import alone
from mmreid_text.procedural.experiment import draw_datasets, last_noise_table, noise_auc

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
class Trial:
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
    parser.add_argument("--jobs", type=int, default=default_jobs(1), help="runs at once")
    args = parser.parse_args()
    for vary in args.vary:
        if vary.partition("=")[0] not in KNOBS:
            parser.error(f"--vary {vary}: knob must be one of {', '.join(KNOBS)}")
    for name in ("seeds", "jobs"):
        if getattr(args, name) < 1:
            parser.error(f"--{name} must be at least 1, got {getattr(args, name)}")
    return args


def main() -> None:
    args = parse_args()
    try:
        with alone(args.work_dir / "in_use.lock", f"another tools/study.py works in {args.work_dir}"):
            study(args)
    except (FileNotFoundError, KeyError, ValueError, RunFailed) as error:
        raise SystemExit(f"error: {error_text(error)}") from error
    except KeyboardInterrupt:
        raise SystemExit("Stopped; the same command goes on from what is done.") from None


def study(args: argparse.Namespace) -> None:
    """Bring all trials to their end, write what they measured and print the comparison."""
    trials = [Trial(arm, seed) for seed in range(args.seeds) for arm in ARMS] if not args.vary else []
    for vary in args.vary:
        knob, _, values = vary.partition("=")
        trials += [Trial(a, s, knob, float(v)) for v in values.split(",") for s in range(args.seeds) for a in ARMS]
    print(f"{len(trials)} runs, {args.jobs} at once, in {args.work_dir}", flush=True)
    runs = {trial: as_run(args.config, trial, args.work_dir) for trial in trials}
    draw_datasets(run.cfg for run in runs.values())
    execute(list(runs.values()), args.jobs)
    results = {trial: measure(run) for trial, run in runs.items()}
    rows = [{**asdict(trial), "metrics": metrics} for trial, metrics in results.items()]
    name = "-".join(sorted({trial.setting.partition("=")[0] for trial in trials}))
    write_text(args.work_dir / f"study_{name}.json", json.dumps(rows, indent=2) + "\n")
    for setting in dict.fromkeys(trial.setting for trial in trials):
        report(setting, {trial: m for trial, m in results.items() if trial.setting == setting})


def arm_config(path: str, trial: Trial) -> Config:
    """The NAM config with one knob turned and the arm's masking."""
    options = {"randomness.seed": trial.seed, "log_level": "WARNING", "train_cfg.val_interval": 1000}
    options["default_hooks.checkpoint.save_best"] = None  # the last epoch counts: nothing is chosen
    if trial.knob is not None:
        options[KNOBS[trial.knob]] = int(trial.value) if trial.value == int(trial.value) else trial.value
        if trial.knob == "epochs":
            options["param_scheduler.1.end"] = options[KNOBS["epochs"]]
    cfg = load_config(path, options)
    if trial.arm != "nam":
        cfg.model.token_noise = None
        cfg.custom_hooks[0].type = "UniformMaskingHook"
    if trial.arm == "none":
        cfg.custom_hooks = []
    return cfg


def as_run(path: str, trial: Trial, folder: Path) -> Run:
    """The run of a trial, in a folder of its own."""
    work_dir = folder / trial.setting / f"{trial.arm}_{trial.seed}"
    return Run(f"{trial.setting} {trial.arm} seed {trial.seed}", work_dir, arm_config(path, trial))


def measure(run: Run) -> dict[str, float]:
    """What a finished run measured; NAM also says how well its table finds wrong words."""
    metrics = dict(run.metrics() or {})
    if run.cfg.model.get("token_noise") and run.cfg.train_dataloader.dataset.noise_rate > 0:
        auc = noise_auc(run.cfg, last_noise_table(run.work_dir))
        metrics |= {f"noise/{key}": value for key, value in auc.items()}
    return metrics


def report(setting: str, results: dict[Trial, dict[str, float]]) -> None:
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
