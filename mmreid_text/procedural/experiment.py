"""Experiments on procedural people, where every wrong word and every attribute is known."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from mmengine.config import Config, ConfigDict
from mmengine.hooks import Hook
from mmengine.runner import Runner, find_latest_checkpoint

from mmreid_text.atomic_write import write_text
from mmreid_text.datasets import ProceduralPedestrians
from mmreid_text.engine.noise_table import load_noise_table
from mmreid_text.evaluation.noise_report import roc_auc
from mmreid_text.evaluation.ranking import rank
from mmreid_text.evaluation.results import MEAN
from mmreid_text.registry import DATASETS


def train_and_test(cfg: Config, work_dir: Path, hooks: Sequence[Hook] = ()) -> dict[str, float]:
    """Train a config and test its best epoch; a second call returns what the first measured.

    A run that was killed goes on from its last epoch. Results of another config in the same place are not used: the
    run starts over.

    Args:
        cfg: Config with train, validation and test parts; not changed.
        work_dir: Folder of logs, checkpoints and results.
        hooks: Further hooks of the training.

    Returns:
        Metrics of the test sets in percent, by ``<dataset>/<metric>``.
    """
    stamp = hashlib.sha256(cfg.pretty_text.encode()).hexdigest()
    done = work_dir / "finished.json"
    if done.exists() and (finished := json.loads(done.read_text()))["config"] == stamp:
        return finished["metrics"]
    work_dir.mkdir(parents=True, exist_ok=True)
    started = work_dir / "config.sha256"
    cfg = cfg.copy()
    cfg.work_dir = str(work_dir)
    cfg.resume = started.exists() and started.read_text() == stamp and (work_dir / "last_checkpoint").exists()
    if not cfg.resume:
        (work_dir / "last_checkpoint").unlink(missing_ok=True)
        for stale in (*work_dir.glob("*.pth"), *work_dir.glob("noise_epoch_*.npz")):
            stale.unlink()
        write_text(started, stamp)
    cfg.experiment_name = f"{work_dir}_train"
    runner = Runner.from_cfg(cfg)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    metrics = run_test(cfg, work_dir, checkpoint=best_checkpoint(work_dir))
    write_text(done, json.dumps({"config": stamp, "metrics": metrics}, indent=2))
    return metrics


def run_test(cfg: Config, work_dir: Path, checkpoint: Path | None, hooks: Sequence[dict] = ()) -> dict[str, float]:
    """Test a checkpoint, or the config's pretrained weights where it is None.

    Args:
        cfg: Config with a test part; not changed.
        work_dir: Folder of logs.
        checkpoint: Checkpoint file.
        hooks: Configs of further hooks, such as ``dict(type='RankStripHook')``.

    Returns:
        Metrics in percent, by ``<dataset>/<metric>``.
    """
    cfg = cfg.copy()
    for key in [k for k in cfg if k.startswith(("train_", "val_")) or k in ("optim_wrapper", "param_scheduler")]:
        cfg.pop(key)
    cfg.merge_from_dict(
        dict(
            work_dir=str(work_dir),
            experiment_name=f"{work_dir}_test",
            load_from=None if checkpoint is None else str(checkpoint),
            resume=False,
        )
    )
    cfg.custom_hooks = list(hooks)
    return dict(Runner.from_cfg(cfg).test())


def best_checkpoint(work_dir: Path) -> Path:
    """The epoch that validation chose, or the last one where nothing was validated."""
    best = sorted(work_dir.glob("best_*.pth"), key=lambda path: path.stat().st_mtime)
    return best[-1] if best else Path(find_latest_checkpoint(str(work_dir)))


def last_noise_table(work_dir: Path) -> Path:
    """The noise table of the last epoch that was saved."""
    tables = sorted(work_dir.glob("noise_epoch_*.npz"), key=lambda path: int(path.stem.rpartition("_")[2]))
    if not tables:
        raise FileNotFoundError(f"{work_dir} holds no noise_epoch_*.npz: was it trained with NoiseAwareMaskingHook?")
    return tables[-1]


def ceilings(cfg: Config) -> dict[str, float]:
    """Metrics of ranking every test set by the true attributes that its captions state, in percent."""
    metrics: dict[str, float] = {}
    members = _members(cfg.test_dataloader.dataset)
    for member in members:
        dataset = DATASETS.build(member)
        for key, value in rank(*dataset.oracle_features()).items():
            metrics[f"{dataset.name}/{key}"] = value
    for key in ("R1", "R5", "R10", "mAP", "mINP"):
        metrics[f"{MEAN}/{key}"] = float(np.mean([v for k, v in metrics.items() if k.endswith(f"/{key}")]))
    return metrics


def noise_auc(cfg: Config, table: Path) -> dict[str, float]:
    """How well a saved noise table finds the words that are known to be wrong.

    Returns:
        Areas under the ROC curve in percent (50 is chance): ``noise_auc`` over all tokens between SOT and EOT, and
        ``noise_auc_attributes`` over the tokens of attribute words alone, which is harder: nouns and colours that are
        right have a patch to agree with, function words have none either way.
    """
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert isinstance(dataset, ProceduralPedestrians)
    noise, stamp = load_noise_table(table)
    if stamp["fingerprint"] != dataset.fingerprint:
        raise ValueError(f"{table} is the noise of other captions than the config's training set has")
    wrong, attribute, real = dataset.token_truth()
    r = noise[:, 1 : 1 + real.shape[1]]  # without SOT
    real &= r > 0  # tokens that the pipeline cut off have no noise
    return {
        "noise_auc": 100 * roc_auc(r[real], wrong[real]),
        "noise_auc_attributes": 100 * roc_auc(r[real & attribute], wrong[real & attribute]),
    }


def _members(dataset: ConfigDict) -> Sequence[ConfigDict]:
    return dataset.get("datasets", [dataset])
