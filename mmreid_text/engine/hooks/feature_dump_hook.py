"""Keeps what a test run computed."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from mmreid_text.datasets import ConcatDataset, TextReIDDataset
from mmreid_text.engine.hooks.rank_strip_hook import reid_metric
from mmreid_text.evaluation.feature_dumps import DumpNotes, write_dump
from mmreid_text.registry import HOOKS


@HOOKS.register_module()
class FeatureDumpHook(Hook):
    """After testing, writes the features of every test set to ``<out_dir>/<dataset>.npz``.

    ``tools/transfer_matrix.py`` evaluates such files without a model. See
    :mod:`mmreid_text.evaluation.feature_dumps` for the format. Each states the fingerprints of its data set and of the
    model's tensors, and the protocol that selected the checkpoint.

    Args:
        out_dir: Folder of the dumps.

    Raises:
        ValueError: The test evaluator has no ``ReIDMetric``.

    Config::

        custom_hooks = [dict(type='FeatureDumpHook', out_dir='work_dirs/clip_b16_luperson/features')]
    """

    priority = "LOW"

    def __init__(self, out_dir: str | Path) -> None:
        self.out_dir = Path(out_dir)

    def before_test_epoch(self, runner: Runner) -> None:
        """Ask the metric for its features."""
        reid_metric(runner).keep_features = True

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Write them on the main process."""
        if not is_main_process():
            return
        fingerprints = dict(_members(runner.test_dataloader.dataset))
        weights = weights_fingerprint(runner.model.module if is_model_wrapper(runner.model) else runner.model)
        metric = reid_metric(runner)
        for name, features in metric.features.items():
            path = self.out_dir / f"{name}.npz"
            notes = DumpNotes(
                data=fingerprints.get(name, ""),
                weights=weights,
                checkpoint=str(runner._load_from or ""),
                protocol=metric.protocol or "",
            )
            write_dump(path, features, notes)
            print_log(f"features: {path}", logger="current")


def weights_fingerprint(model: nn.Module) -> str:
    """sha256 over the names, dtypes, shapes and bytes of a model's tensors, in the order of names."""
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _members(dataset: Dataset) -> Iterator[tuple[str, str]]:
    """Names and fingerprints of the data sets in a join."""
    if isinstance(dataset, ConcatDataset):
        for member in dataset.datasets:
            yield from _members(member)
    elif isinstance(dataset, TextReIDDataset):
        yield dataset.name, dataset.fingerprint
