"""Pretrained weights without training."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop

from mmreid_text.registry import HOOKS


@HOOKS.register_module()
class PretrainedWeightsHook(Hook):
    """Loads ``model.init_cfg`` weights when a runner validates or tests: mmengine does so only when it trains.

    Runs before a checkpoint is loaded, so a given checkpoint wins.

    Use in configs::

        default_hooks = dict(pretrained_weights=dict(type='PretrainedWeightsHook'))
    """

    def before_run(self, runner: Runner) -> None:
        """Initialise the model unless training will."""
        if isinstance(runner._train_loop, BaseLoop) or runner._load_from is not None:
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        model.init_weights()
