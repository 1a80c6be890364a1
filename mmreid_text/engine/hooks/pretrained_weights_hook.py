"""Pretrained weights without training, and checkpoints that are not this model's refused."""

from mmengine.hooks import Hook
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.base_loop import BaseLoop

from mmreid_text.registry import HOOKS


@HOOKS.register_module()
class PretrainedWeightsHook(Hook):
    """Loads ``model.init_cfg`` weights when a runner validates or tests: mmengine does so only when it trains.

    Runs before a checkpoint is loaded, so a given checkpoint wins. One that shares no tensor with the model is refused:
    mmengine would log its keys and go on with random weights.

    Use in configs::

        default_hooks = dict(pretrained_weights=dict(type='PretrainedWeightsHook'))
    """

    def before_run(self, runner: Runner) -> None:
        """Initialise the model unless training will."""
        if isinstance(runner._train_loop, BaseLoop) or runner._load_from is not None:
            return
        _unwrapped(runner).init_weights()

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Refuse a checkpoint that holds nothing of the model.

        Raises:
            ValueError: None of the model's keys are in it.
        """
        state = checkpoint.get("state_dict", checkpoint)
        if _unwrapped(runner).state_dict().keys().isdisjoint(key.removeprefix("module.") for key in state):
            raise ValueError(
                f"{runner._load_from or 'the checkpoint'} is not a checkpoint of this project's model: none of the "
                f"model's tensors is in it (its first is {next(iter(state), None)!r}). For weights of CLIP or IRRA use "
                "--cfg-options model.init_cfg.checkpoint=..."
            )


def _unwrapped(runner: Runner) -> BaseModel:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model
