"""Experiments on procedural people, where every wrong word and every attribute is known."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from mmengine.config import Config

from mmreid_text.datasets import ProceduralPedestrians
from mmreid_text.engine.config import dataset_configs
from mmreid_text.engine.noise_table import load_noise_table
from mmreid_text.evaluation.noise_report import roc_auc
from mmreid_text.evaluation.ranking import rank
from mmreid_text.evaluation.results import MEAN
from mmreid_text.registry import DATASETS


def draw_datasets(cfgs: Iterable[Config]) -> None:
    """Draw all procedural people that configs name, each data set once, before runs ask for them at the same time."""
    drawn: list[dict] = []
    for cfg in cfgs:
        for key in ("train_dataloader", "val_dataloader", "test_dataloader"):
            for member in dataset_configs(cfg.get(key)):
                people = {k: v for k, v in member.items() if k not in ("pipeline", "test_mode", "seed", "sources")}
                if member.get("type") == "ProceduralPedestrians" and people not in drawn:
                    drawn.append(people)
                    DATASETS.build(people)


def last_noise_table(work_dir: Path) -> Path:
    """The noise table of the last epoch that was saved."""
    tables = sorted(work_dir.glob("noise_epoch_*.npz"), key=lambda path: int(path.stem.rpartition("_")[2]))
    if not tables:
        raise FileNotFoundError(f"{work_dir} holds no noise_epoch_*.npz: was it trained with NoiseAwareMaskingHook?")
    return tables[-1]


def ceilings(cfg: Config) -> dict[str, float]:
    """Metrics of ranking every test set by the true attributes that its captions state, in percent."""
    metrics: dict[str, float] = {}
    for member in dataset_configs(cfg.test_dataloader):
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
