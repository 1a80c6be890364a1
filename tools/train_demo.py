"""The main job in small: train NAM on noisy captions, test on three domains never seen, draw what came out.

Everything is procedural, so nothing is downloaded, and what is wrong in a caption is known. Killed at any moment, a
second call goes on from the last finished epoch.
"""

import argparse
import os
import time
import warnings
from pathlib import Path

# The libraries below warn about what a reader of the demo cannot change.
os.environ.setdefault("PYTHONWARNINGS", "ignore")
warnings.filterwarnings("ignore")

from mmengine.hooks import Hook  # noqa: E402
from mmengine.runner import Runner  # noqa: E402
from tqdm import tqdm  # noqa: E402

from mmreid_text.engine.config import load_config  # noqa: E402
from mmreid_text.engine.noise_table import load_noise_table  # noqa: E402
from mmreid_text.engine.training_run import best_checkpoint, run_test, train_and_test  # noqa: E402
from mmreid_text.evaluation.noise_report import report_noise_table  # noqa: E402
from mmreid_text.evaluation.results import MEAN, format_table, write_results  # noqa: E402
from mmreid_text.procedural.experiment import ceilings, last_noise_table, noise_auc  # noqa: E402
from mmreid_text.registry import DATASETS  # noqa: E402
from mmreid_text.visualization import plot_curves  # noqa: E402

ROOT = Path(__file__).parents[1]


class ProgressBar(Hook):
    """One line of progress with rate and ETA, in place of mmengine's log, which goes to the file."""

    def before_train(self, runner: Runner) -> None:
        self.bar = tqdm(total=runner.max_iters, initial=runner.iter, desc="training", unit="batch", mininterval=1)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: object = None, outputs: object = None
    ) -> None:
        self.bar.update()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        self.bar.set_postfix_str(f"validation R1 {(metrics or {})['mean/R1']:.1f}")

    def after_train(self, runner: Runner) -> None:
        self.bar.close()


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default=str(ROOT / "configs/nam/tiny_procedural.py"))
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/demo"))
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    began = time.monotonic()
    cfg = load_config(args.config, {"randomness.seed": args.seed, "log_level": "ERROR"})
    out = args.work_dir

    say("1/5 Draw people and test the start, a tiny CLIP pre-trained on web-like phrases")
    start = run_test(cfg, out / "start", checkpoint=None)
    say(f"2/5 Train with noise-aware masking: {cfg.train_cfg.max_epochs} epochs, logs in {out / 'nam'}")
    results = train_and_test(cfg, out / "nam", hooks=[ProgressBar()])
    say("3/5 Rank by the true attributes: the ceiling")
    ceiling = ceilings(cfg)
    say("4/5 Compare the noise table with the words that are known to be wrong")
    table = last_noise_table(out / "nam")
    auc = noise_auc(cfg, table)
    say("5/5 Draw")
    run_test(cfg, out / "nam", best_checkpoint(out / "nam"), hooks=[dict(type="RankStripHook")])
    plot_curves({"NAM": out / "nam"}, out / "curves.png")

    metrics = dict(results)
    for dataset in [key.rpartition("/")[0] for key in results if key.endswith("/R1")]:
        metrics[f"{dataset}/start_R1"] = start[f"{dataset}/R1"]
        metrics[f"{dataset}/ceiling_R1"] = ceiling[f"{dataset}/R1"]
    metrics |= {f"procedural_source/{key}": value for key, value in auc.items()}
    write_results(metrics, out / "results.json", cfg.get("protocol"))
    noise, _ = load_noise_table(table)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    masking = report_noise_table(dataset, noise, cfg.custom_hooks[0].p)
    report(out, metrics, masking, time.monotonic() - began, cfg.get("protocol"))


def report(
    out: Path, metrics: dict[str, float], masking: dict[str, float], seconds: float, protocol: str | None
) -> None:
    """Print what a reader came for."""
    columns = {"start_R1": "start R1", "R1": "after NAM R1", "ceiling_R1": "ceiling R1", "R10": "R10", "mAP": "mAP"}
    datasets = [key.removesuffix("/R1") for key in metrics if key.endswith("/R1")]
    print("\nDirect transfer, text to image, percent (chance R1: 0.33):\n")
    rows = {f"{d}/{label}": metrics[f"{d}/{key}"] for d in datasets for key, label in columns.items()}
    print(format_table(rows, protocol=protocol))
    print("\nMasking by class of word, percent:\n")
    print(format_table(masking, head="class"))
    auc, hard = (metrics[f"procedural_source/{key}"] for key in ("noise_auc", "noise_auc_attributes"))
    print(f"\nROC AUC of the noise table for wrong words: {auc:.1f}% of all words, {hard:.1f}% of attribute words.")
    print(f"\nRank-1 {metrics[f'{MEAN}/start_R1']:.2f} -> {metrics[f'{MEAN}/R1']:.2f} on average, in {seconds:.0f} s.")
    print(f"Results:  {out / 'results.json'} and results.md")
    print(f"Pictures: {out / 'curves.png'}")
    for picture in sorted((out / "nam/rank_strips").glob("*.png")):
        print(f"          {picture}")


def say(line: str) -> None:
    print(f"\n== {line}", flush=True)


if __name__ == "__main__":
    main()
