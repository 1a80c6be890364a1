"""Tells the training data which epoch it is."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmreid_text.registry import HOOKS


@HOOKS.register_module()
class DatasetEpochHook(Hook):
    """Hands the runner's seed and epoch to the training set, whose augmentation is a function of both.

    Use in configs::

        default_hooks = dict(dataset_epoch=dict(type='DatasetEpochHook'))
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Runner) -> None:
        """Hand over the seed, before any worker starts."""
        runner.train_dataloader.dataset.set_seed(runner.seed)

    def before_train_epoch(self, runner: Runner) -> None:
        """Hand over the epoch; persistent workers see it through shared memory."""
        runner.train_dataloader.dataset.set_epoch(runner.epoch)
