"""Tells the training data which epoch it is."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmreid_text.datasets.samplers import IdentitySampler
from mmreid_text.registry import HOOKS


@HOOKS.register_module()
class DatasetEpochHook(Hook):
    """Hands the runner's seed and epoch to the training set, whose augmentation is a function of both.

    Use in configs::

        default_hooks = dict(dataset_epoch=dict(type='DatasetEpochHook'))
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Runner) -> None:
        """Hand over the seed, before any worker starts, and compare the loader with what an identity sampler draws."""
        training_set(runner).set_seed(runner.seed)
        loader = runner.train_dataloader
        if isinstance(loader.sampler, IdentitySampler):
            loader.sampler.check_batch_size(loader.batch_size)

    def before_train_epoch(self, runner: Runner) -> None:
        """Hand over the epoch; persistent workers see it through shared memory."""
        training_set(runner).set_epoch(runner.epoch)


def training_set(runner: Runner) -> Any:
    """The training set, which must know seed and epoch and identify its captions.

    Raises:
        TypeError: It does not.
    """
    dataset = runner.train_dataloader.dataset
    missing = [name for name in ("set_seed", "set_epoch", "fingerprint") if not hasattr(dataset, name)]
    if missing:
        raise TypeError(
            f"train_dataloader.dataset is {type(dataset).__name__}, which has no `{'`, `'.join(missing)}`; "
            "use a TextReIDDataset, or mmreid_text's ConcatDataset of several."
        )
    return dataset
