"""Draws what a tested model retrieves."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner
from torch.utils.data import Dataset

from mmreid_text.evaluation.metrics import DatasetFeatures, ReIDMetric
from mmreid_text.evaluation.noise_report import read_caption
from mmreid_text.evaluation.ranking import rank_queries, top_k
from mmreid_text.evaluation.results import row_label
from mmreid_text.registry import HOOKS
from mmreid_text.visualization.rank_strips import RankStrip, save_rank_strips


@HOOKS.register_module()
class RankStripHook(Hook):
    """After testing, draws the best ranks of some captions to ``<work_dir>/rank_strips/<dataset>.png``.

    Of the captions, half are found at rank 1 and half are not, as far as there are such; the same ones in each run.
    Features come from the run's :class:`~mmreid_text.evaluation.metrics.ReIDMetric`, images (as the model saw them)
    and captions from the test dataset.

    Args:
        num_queries: Captions per dataset.
        top: Images per caption.
        seed: Seed of the choice of captions.

    Raises:
        ValueError: The test evaluator has no ``ReIDMetric``, or the test sampler shuffles.

    Config::

        custom_hooks = [dict(type='RankStripHook')]
    """

    priority = "LOW"

    def __init__(self, num_queries: int = 6, top: int = 10, seed: int = 0) -> None:
        if num_queries < 1 or top < 1:
            raise ValueError(f"RankStripHook needs num_queries and top of at least 1, got {num_queries} and {top}")
        self.num_queries = num_queries
        self.top = top
        self.seed = seed

    def before_test_epoch(self, runner: Runner) -> None:
        """Ask the metric for its features."""
        reid_metric(runner).keep_features = True

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draw on the main process."""
        if not is_main_process():
            return
        metric = reid_metric(runner)
        for name, features in metric.features.items():
            first_rank = rank_queries(features.text, features.image, features.text_pid, features.image_pid)[
                "first_rank"
            ]
            queries = self._choose(first_rank)
            strips = self._strips(runner.test_dataloader.dataset, features, queries, first_rank[queries])
            path = Path(runner.work_dir) / "rank_strips" / f"{name}.png"
            r1 = 100.0 * float((first_rank <= 1).mean())
            title = f"{row_label(name, metric.protocol)}: {len(first_rank):,} captions, rank-1 {r1:.2f}%"
            save_rank_strips(strips, title, path)
            print_log(f"rank strips: {path}", logger="current")

    def _choose(self, first_rank: np.ndarray) -> np.ndarray:
        generator = np.random.default_rng(self.seed)
        right, wrong = (generator.permutation(np.flatnonzero(s)) for s in (first_rank == 1, first_rank > 1))
        num_wrong = min(len(wrong), max(self.num_queries // 2, self.num_queries - len(right)))
        return np.concatenate([right[: self.num_queries - num_wrong], wrong[:num_wrong]])

    def _strips(
        self, dataset: Dataset, features: DatasetFeatures, queries: np.ndarray, first_rank: np.ndarray
    ) -> Sequence[RankStrip]:
        best, scores = top_k(features.text[queries], features.image, self.top)
        strips = []
        for query, rows, values, first in zip(queries, best, scores, first_rank):
            target = int(features.text_image[query])
            item = _item(dataset, features, target)
            number = int(query - np.searchsorted(features.text_image, target))  # of the image's captions
            strips.append(
                RankStrip(
                    caption=read_caption(item["text"][number].numpy()),
                    images=[_picture(_item(dataset, features, int(row))) for row in rows],
                    right=(features.image_pid[rows] == features.text_pid[query]).tolist(),
                    scores=values.tolist(),
                    first_right=int(first),
                    gallery_size=len(features.image),
                    target=_picture(item),
                )
            )
        return strips


def reid_metric(runner: Runner) -> ReIDMetric:
    """The metric of a test run.

    Raises:
        ValueError: There is none.
    """
    for metric in runner.test_evaluator.metrics:
        if isinstance(metric, ReIDMetric):
            return metric
    raise ValueError(
        "rank strips and feature dumps take what ReIDMetric gathered: give `test_evaluator` a dict(type='ReIDMetric')"
    )


def _item(dataset: Dataset, features: DatasetFeatures, gallery_row: int) -> dict[str, Any]:
    item = dataset[int(features.row[gallery_row])]
    if int(item["image_id"]) != features.image_id[gallery_row]:
        raise ValueError(
            f"row {features.row[gallery_row]} of the test dataset is image {int(item['image_id'])}, but its result is "
            f"of image {features.image_id[gallery_row]}: the test sampler must keep the order (shuffle=False)"
        )
    return item


def _picture(item: dict[str, Any]) -> np.ndarray:
    return np.ascontiguousarray(item["image"].numpy().transpose(1, 2, 0))
