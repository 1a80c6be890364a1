"""The metric of test and validation loops: one result per image, its captions inside."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from tqdm import tqdm

from mmreid_text.evaluation.features import DatasetFeatures
from mmreid_text.evaluation.ranking import rank, rank_scores
from mmreid_text.evaluation.rerank import Reranker
from mmreid_text.evaluation.results import MEAN, format_table, write_results
from mmreid_text.registry import METRICS


@METRICS.register_module()
class ReIDMetric(BaseMetric):
    """Rank-1, 5, 10, mAP and mINP of text-to-image and image-to-text retrieval, for each dataset of the run.

    Takes one prediction per image: ``dict(dataset=str, image_feat (D,), text_feats (n, D), pid, image_id)``. Positives
    of a caption are the images with its pid in its own dataset, and the other way round. Keys are ``<dataset>/R1``,
    ``R5``, ``R10``, ``mAP``, ``mINP`` and the same with ``i2t_`` for image-to-text, ``mean/...`` over datasets,
    all in percent. As keys already begin with a dataset's name, there is no ``prefix``. With a re-ranker the
    text-to-image figures of its ranking stand beside them, under the same names with ``rerank_``.

    Images that a distributed sampler repeats to fill the last batch are left out. See
    :func:`~mmreid_text.evaluation.ranking.rank` for definitions and ties.

    Args:
        out_dir: Folder for ``results.json`` and ``results.md``, written after every evaluation; None writes none.
        rerank: Re-ranker (:mod:`~mmreid_text.evaluation.rerank`) or its config; None ranks by cosine similarity alone.
        collect_device: Where ranks gather results: ``'cpu'`` (through files) or ``'gpu'``.
        collect_dir: Folder for those files, shared by all ranks; None is ``.dist_test`` in the current one.

    Raises:
        ValueError: A caption or image without a positive, or a dataset of the name ``mean``.

    Config::

        test_evaluator = dict(type='ReIDMetric', out_dir='work_dirs/nam/results')
    """

    default_prefix = ""

    def __init__(
        self,
        out_dir: str | Path | None = None,
        rerank: Reranker | Mapping[str, Any] | None = None,
        collect_device: str = "cpu",
        collect_dir: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, collect_dir=collect_dir)
        self.out_dir = None if out_dir is None else Path(out_dir)
        self.rerank: Reranker | None = METRICS.build(rerank) if isinstance(rerank, Mapping) else rerank
        self.protocol: str | None = None
        """By which the evaluated weights were chosen, as ``ProtocolHook`` finds out; None where that is not known."""
        self.keep_features = False
        self.features: dict[str, DatasetFeatures] = {}
        """The last evaluation's features by dataset, on the main process; only kept if ``keep_features`` is set."""

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        for sample in data_samples:
            self.results.append(
                {
                    "dataset": sample["dataset"],
                    # Arrays pickle in half the time of tensors, and never drag a whole batch's storage along.
                    "image": np.array(sample["image_feat"].cpu(), dtype=np.float32),
                    "text": np.array(sample["text_feats"].cpu(), dtype=np.float32),
                    "pid": int(sample["pid"]),
                    "image_id": int(sample["image_id"]),
                }
            )

    def compute_metrics(self, results: list[dict[str, Any]]) -> dict[str, float]:
        features = _by_dataset(results)
        metrics: dict[str, float] = {}
        for dataset, f in features.items():
            try:
                forth = rank(f.text, f.image, f.text_pid, f.image_pid)
                back = rank(f.image, f.text, f.image_pid, f.text_pid)
                again = {} if self.rerank is None else _reranked(self.rerank, dataset, f)
            except ValueError as error:
                raise ValueError(f"dataset {dataset!r}: {error}") from error
            metrics |= {f"{dataset}/{key}": value for key, value in forth.items()}
            metrics |= {f"{dataset}/i2t_{key}": value for key, value in back.items()}
            metrics |= {f"{dataset}/rerank_{key}": value for key, value in again.items()}
        names = [key.rpartition("/")[2] for key in metrics][: len(metrics) // len(features)]
        metrics |= {f"{MEAN}/{n}": float(np.mean([metrics[f"{d}/{n}"] for d in features])) for n in names}
        self.features = features if self.keep_features else {}
        print_log("\n" + format_table(metrics, protocol=self.protocol), logger="current")
        if self.out_dir is not None:
            write_results(metrics, self.out_dir / "results.json", self.protocol)
        return metrics


def _reranked(reranker: Reranker, dataset: str, features: DatasetFeatures) -> dict[str, float]:
    """Measures of the re-ranker's text-to-image ranking; shows progress."""
    title = f"{dataset}: {type(reranker).__name__}"

    def blocks() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        with tqdm(total=len(features.text), desc=title, unit=" captions", delay=2) as bar:
            for rows, scores in reranker.scores(features):
                yield rows, scores
                bar.update(len(rows))

    return rank_scores(blocks(), features.text_pid, features.image_pid)


def _by_dataset(results: list[dict[str, Any]]) -> dict[str, DatasetFeatures]:
    """Join the images' results, which come in the order of the test dataset."""
    rows: dict[str, list[int]] = {}
    for row, result in enumerate(results):
        rows.setdefault(result["dataset"], []).append(row)
    if not rows:
        raise ValueError("there is no result to evaluate: the test dataset is empty")
    if MEAN in rows:
        raise ValueError(f"a dataset must not be named {MEAN!r}, the row of the average: set its `name`")
    features = {}
    for dataset, own in rows.items():
        members = [results[row] for row in own]
        pid = np.array([m["pid"] for m in members], dtype=np.int64)
        text_image = np.repeat(np.arange(len(members)), [len(m["text"]) for m in members])
        features[dataset] = DatasetFeatures(
            image=np.stack([m["image"] for m in members]),
            text=np.concatenate([m["text"] for m in members]),
            image_pid=pid,
            text_pid=pid[text_image],
            text_image=text_image,
            row=np.array(own, dtype=np.int64),
            image_id=np.array([m["image_id"] for m in members], dtype=np.int64),
        )
    return features
