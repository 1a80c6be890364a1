"""Labels that clustering gives where identities are unknown."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast, is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmreid_text.atomic_write import write_text
from mmreid_text.clustering import (
    PairFeatures,
    agreement,
    centroids,
    cluster,
    count_clusters,
    extract_features,
    label_counts,
    refine,
    rows_config,
    rows_loader,
)
from mmreid_text.clustering.examples import example_rows
from mmreid_text.clustering.extras import check_clustering
from mmreid_text.engine.hooks.dataset_epoch_hook import training_set
from mmreid_text.registry import DATASETS, HOOKS
from mmreid_text.visualization.cluster_sheet import save_cluster_sheet

SIDES = ("image", "text")
STATE = "pseudo_labels"
"""Key of a checkpoint, and stem of the file of diagnostics in the work dir."""
Labels = dict[str, np.ndarray]


@HOOKS.register_module()
class PseudoLabelHook(Hook):
    """Clusters images and captions of the training set and hands the labels to the model, epoch by epoch.

    As in CMMT (Zhao et al., ICCV 2021): features of all images and captions by the weights that an epoch starts from,
    DBSCAN by k-reciprocal Jaccard distance for each modality
    (:func:`~mmreid_text.clustering.clusters.cluster`), and mutual refinement of the two
    (:func:`~mmreid_text.clustering.refinement.refine`). The model gets them by ``set_pseudo_labels(image_labels int64
    (I,), text_labels int64 (T,), image_centroids float32 (Ci, D), text_centroids float32 (Ct, D))``, by ``image_id``
    and ``caption_id`` of the batches, -1 for outliers; centroids are the normalised means of the refined clusters'
    normalised features. Ranks share the extraction, rank 0 clusters, and all get the same. Nothing of it depends on the
    number of data workers.

    Labels are a function of the weights, so a resumed run computes the ones that it was killed with. With
    ``interval`` > 1 checkpoints hold them, and the centroids as training has moved them: the model's
    ``cluster_centroids() -> (image, text)``.

    The log and ``<work_dir>/pseudo_labels.jsonl``, a line per epoch that got labels, state clusters, outliers before
    refinement, what was rescued, and seconds. Where identities are known they also state how far labels agree with
    them, before and after refinement; identities serve nothing else and reach no model. ``<work_dir>/clusters`` gets
    a picture of some clusters.

    Args:
        pipeline: Transforms or their configs that images and captions are encoded through, without chance. None takes
            the config's ``test_pipeline``.
        k1: Neighbours for reciprocal sets.
        k2: Neighbours over which reciprocal vectors are averaged.
        eps: Largest Jaccard distance of neighbours, in (0, 1).
        min_samples: Neighbours, itself included, that make an item a core of a cluster.
        refine: Whether outliers are taken into clusters by their partners (MPLR).
        start: First epoch that gets labels, counted from 0; training goes without until then.
        interval: Epochs that labels hold.
        diagnose: Whether to compare labels with identities, where several images show the same one.
        draw_interval: Epochs from one picture to the next; None draws the last labels alone.
        batch_size: Images that are encoded at a time on each rank, with all their captions.
        num_workers: Workers of the extraction; None takes as many as the training loader has.

    Raises:
        ImportError: scikit-learn or scipy is missing.
        TypeError: The model takes no pseudo labels.
        ValueError: An argument is out of range, training does not go by epochs, no pipeline is named, a resumed
            checkpoint's labels are of other data, or a feature is not finite.

    Use in configs::

        custom_hooks = [dict(type='PseudoLabelHook', start=5)]
    """

    # After the hooks that tell data their epoch, and before the timer, whose first iteration is not to hold all this.
    priority = "HIGH"

    def __init__(
        self,
        pipeline: Sequence[Any] | None = None,
        k1: int = 30,
        k2: int = 6,
        eps: float = 0.6,
        min_samples: int = 4,
        refine: bool = True,
        start: int = 0,
        interval: int = 1,
        diagnose: bool = True,
        draw_interval: int | None = None,
        batch_size: int = 128,
        num_workers: int | None = None,
    ) -> None:
        if min(k1, k2, min_samples, interval, batch_size) < 1 or (draw_interval is not None and draw_interval < 1):
            raise ValueError(
                f"PseudoLabelHook: k1={k1}, k2={k2}, min_samples={min_samples}, interval={interval}, "
                f"draw_interval={draw_interval} and batch_size={batch_size} must be at least 1."
            )
        if not 0 < eps < 1:
            raise ValueError(f"PseudoLabelHook: eps={eps} must lie in (0, 1): unrelated items are at distance 1.")
        if start < 0:
            raise ValueError(f"PseudoLabelHook: start={start} must not be negative.")
        self.pipeline = pipeline
        self.settings: dict[str, Any] = {"k1": k1, "k2": k2, "eps": eps, "min_samples": min_samples}
        self.refine = refine
        self.start = start
        self.interval = interval
        self.diagnose = diagnose
        self.draw_interval = draw_interval
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.labels: Labels | None = None
        self._resumed: Mapping[str, Any] | None = None

    def before_train(self, runner: Runner) -> None:
        """Check what training needs, and open the training set by images."""
        check_clustering()
        _labelled_model(runner)
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            raise ValueError("PseudoLabelHook labels epochs: set train_cfg=dict(type='EpochBasedTrainLoop', ...).")
        pipeline = runner.cfg.get("test_pipeline") if self.pipeline is None else self.pipeline
        if not pipeline:
            raise ValueError(
                "PseudoLabelHook knows no pipeline to encode images by: define test_pipeline in the config, or give "
                "the hook its own, dict(type='PseudoLabelHook', pipeline=[...])."
            )
        trained = training_set(runner)
        self.rows = DATASETS.build(rows_config(runner.cfg.train_dataloader.dataset, pipeline))
        if self.rows.fingerprint != trained.fingerprint:
            raise ValueError(
                f"PseudoLabelHook: the rows of {trained.name!r} in test mode are not those that it is trained by."
            )
        workers = runner.train_dataloader.num_workers if self.num_workers is None else self.num_workers
        self.loader = rows_loader(self.rows, self.batch_size, workers)
        if is_main_process():
            _write_records(runner, _records_before(runner))
        self.labels = None
        if self._resumed is not None:
            if self._resumed["fingerprint"] != trained.fingerprint:
                raise ValueError(
                    f"The resumed checkpoint's pseudo labels are of other data than {trained.name!r}: resume with the "
                    "data that the run began with, or start anew from its weights by load_from."
                )
            # mmengine reads checkpoints that are resumed onto the GPU.
            self.labels = {side: self._resumed[side].cpu().numpy().astype(np.int64) for side in SIDES}

    def before_train_epoch(self, runner: Runner) -> None:
        """Label the training set where the epoch is due, and hand over labels and centroids."""
        epoch, resumed = runner.epoch, self._resumed
        self._resumed = None
        model, trained = _labelled_model(runner), training_set(runner)
        if epoch >= self.start and (self.labels is None or (epoch - self.start) % self.interval == 0):
            begin = time.perf_counter()
            features = extract_features(
                model, self.loader, trained.num_images, trained.num_captions, f"features for epoch {epoch + 1}"
            )
            _check_finite(features, epoch)
            labels = self.labels = self._label(runner, features, time.perf_counter() - begin)
            feats = {"image": features.image, "text": features.text}
            centers = [_centroids(feats[side], labels[side]) for side in SIDES]
        elif resumed is not None and self.labels is not None:
            labels, centers = self.labels, list(resumed["centroids"])
        else:
            return
        model.set_pseudo_labels(*(torch.from_numpy(labels[side].copy()) for side in SIDES), *centers)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep labels and centroids where later epochs go on with them; rank 0 only."""
        if self.labels is not None and self.interval > 1:
            checkpoint[STATE] = {
                **{side: torch.from_numpy(self.labels[side].astype(np.int32)) for side in SIDES},
                "centroids": [centers.cpu() for centers in _labelled_model(runner).cluster_centroids()],
                "fingerprint": training_set(runner).fingerprint,
            }

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the labels of a run that is resumed; ``load_from`` takes none."""
        if runner._resume:
            self._resumed = checkpoint.get(STATE)

    def _label(self, runner: Runner, features: PairFeatures, extraction: float) -> Labels:
        """New labels on all ranks; rank 0 makes and describes them. The extraction took so many seconds."""
        sizes = [len(features.image), len(features.text)]
        joined = torch.zeros(sum(sizes), dtype=torch.int64)
        if is_main_process():
            begin = time.perf_counter()
            found = {
                "image": cluster(features.image, **self.settings, label="images"),
                "text": cluster(features.text, **self.settings, label="captions"),
            }
            before = labels = {side: found[side].labels for side in SIDES}
            image_of_text = features.image_of_text.numpy()
            if self.refine:
                refined = refine(features.image, features.text, before["image"], before["text"], image_of_text)
                labels = dict(zip(SIDES, refined))
            seconds = {"features": extraction, "labels": time.perf_counter() - begin}
            self._describe(runner, before, labels, image_of_text, seconds)
            _warn(runner, before, found["image"].twins)
            joined = torch.from_numpy(np.concatenate(list(labels.values())))
        broadcast(joined)
        return dict(zip(SIDES, (part.numpy() for part in joined.split(sizes))))

    def _describe(
        self, runner: Runner, before: Labels, after: Labels, image_of_text: np.ndarray, seconds: dict[str, float]
    ) -> None:
        """Log, write and draw what was found."""
        identities = self._identities(runner, image_of_text)
        record: dict[str, Any] = {"epoch": runner.epoch + 1, "seconds": {k: round(v, 3) for k, v in seconds.items()}}
        for side in SIDES:
            record[side] = label_counts(before[side])
            record[side]["rescued"] = int((after[side] != before[side]).sum())
            if identities is not None:
                record[side]["before"] = agreement(before[side], identities[side])
                record[side]["after"] = agreement(after[side], identities[side])
        runner.logger.info(_summary(record))
        _write_records(runner, [*_records_before(runner), json.dumps(record)])
        last = runner.epoch + self.interval >= runner.max_epochs
        if last or (self.draw_interval and (runner.epoch - self.start) % self.draw_interval == 0):
            rows = example_rows(self.rows, after, before, image_of_text, identities, seed=runner.epoch)
            if rows:
                path = Path(runner.work_dir) / "clusters" / f"epoch_{runner.epoch + 1}.png"
                save_cluster_sheet(rows, f"clusters of epoch {runner.epoch + 1}", path)
                runner.logger.info(f"clusters: {path}")

    def _identities(self, runner: Runner, image_of_text: np.ndarray) -> Labels | None:
        """Identities of images and captions, for the diagnostics alone; None where every image has its own."""
        trained = training_set(runner)
        if not self.diagnose or not 1 < trained.num_ids < trained.num_images:
            return None
        text = trained.caption_pids()
        image = np.zeros(trained.num_images, dtype=np.int64)
        image[image_of_text] = text
        return {"image": image, "text": text}


def _labelled_model(runner: Runner) -> Any:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    needed = ("encode_image", "encode_text", "set_pseudo_labels", "cluster_centroids")
    missing = [name for name in needed if not hasattr(model, name)]
    if missing:
        raise TypeError(
            f"PseudoLabelHook: the model is {type(model).__name__}, which has no `{'`, `'.join(missing)}`: use CMMT, "
            "or take the hook out."
        )
    return model


def _centroids(features: torch.Tensor, labels: np.ndarray) -> torch.Tensor:
    """Centroids float32 (C, D) as rank 0 computes them."""
    if is_main_process():
        made = torch.from_numpy(centroids(features, labels))
    else:
        made = torch.zeros(count_clusters(labels), features.shape[1])
    if len(made):
        broadcast(made)
    return made


def _warn(runner: Runner, labels: Labels, twins: int) -> None:
    """Say what makes labels useless, though training goes on."""
    for side in SIDES:
        counts, size = label_counts(labels[side]), len(labels[side])
        if not counts["clusters"]:
            runner.logger.warning(
                f"pseudo labels: no cluster was found, all {size:,} {side} features are outliers: this epoch goes "
                "without. A larger eps, fewer min_samples or a later start may help."
            )
        elif 2 * counts["largest"] > size:
            runner.logger.warning(
                f"pseudo labels: one cluster holds {counts['largest']:,} of {size:,} {side} features, and tells "
                "little. A smaller eps may help, unless the features have collapsed."
            )
    if twins:
        runner.logger.warning(
            f"pseudo labels: {twins:,} of {len(labels['image']):,} images have the features of another image: there "
            "are copies among them (tools/check_leakage.py finds such files), or the features have collapsed."
        )


def _summary(record: Mapping[str, Any]) -> str:
    """A record in one line for each modality."""
    lines = [f"pseudo labels of epoch {record['epoch']}: {sum(record['seconds'].values()):.1f} s"]
    for side in SIDES:
        facts = record[side]
        line = f"  {side:<5} {facts['clusters']:,} clusters, the largest of {facts['largest']:,}; "
        line += f"{facts['outliers']:,} outliers, {facts['rescued']:,} rescued"
        if "after" in facts:
            line += "; " + ", ".join(
                f"{name} {facts['before'][name]:.3f} -> {facts['after'][name]:.3f}" for name in facts["after"]
            )
        lines.append(line)
    return "\n".join(lines)


def _check_finite(features: PairFeatures, epoch: int) -> None:
    """Stop all ranks, which have the same features."""
    for side, feats in (("image", features.image), ("text", features.text)):
        lost = int((~feats.isfinite().all(dim=1)).sum())
        if lost:
            raise ValueError(
                f"PseudoLabelHook: {lost:,} of {len(feats):,} {side} features are not finite before epoch {epoch + 1}: "
                "training has diverged. Start from an earlier checkpoint, with a lower learning rate or clip_grad."
            )


def _records_path(runner: Runner) -> Path:
    return Path(runner.work_dir) / f"{STATE}.jsonl"


def _records_before(runner: Runner) -> list[str]:
    """Lines of the epochs before this one; a run that was killed, or an earlier run, may have left others."""
    path = _records_path(runner)
    known = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [line for line in known if json.loads(line)["epoch"] <= runner.epoch]


def _write_records(runner: Runner, records: Sequence[str]) -> None:
    write_text(_records_path(runner), "".join(f"{record}\n" for record in records))
