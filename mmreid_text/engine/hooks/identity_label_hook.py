"""Classes of identities."""

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmreid_text.engine.hooks.dataset_epoch_hook import training_set
from mmreid_text.registry import HOOKS


@HOOKS.register_module()
class IdentityLabelHook(Hook):
    """Writes ``label`` into every training batch: each pair's identity as a class, counted from 0 without gaps.

    Classes follow the sorted ids of the training set. The model's ``num_ids`` must be their number; ``tools/train.py``
    fills it in.

    Use in configs::

        custom_hooks = [dict(type='IdentityLabelHook')]
    """

    priority = "NORMAL"

    def before_train(self, runner: Runner) -> None:
        """Look up the identities once.

        Raises:
            ValueError: The model classifies another number of them, or none.
        """
        self.identities: np.ndarray = training_set(runner).identities
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        num_ids = getattr(model, "num_ids", None)
        if num_ids != len(self.identities):
            raise ValueError(
                f"IdentityLabelHook: the training set has {len(self.identities)} identities, but the model's num_ids "
                f"is {num_ids}. Set model.num_ids={len(self.identities)}, or leave it out: tools/train.py fills it in."
            )

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Add ``label`` int64 (B,) to the batch.

        Raises:
            ValueError: An identity is none of the training set's.
        """
        assert data_batch is not None
        pid = data_batch["pid"].numpy()
        label = np.searchsorted(self.identities, pid)
        known = self.identities[np.minimum(label, len(self.identities) - 1)] == pid
        if not known.all():
            raise ValueError(
                f"IdentityLabelHook: the identity {pid[~known][0]} of a batch is none of the training set's "
                f"`identities`, {self.identities[0]} to {self.identities[-1]}."
            )
        tensor = torch.from_numpy(label)
        data_batch["label"] = tensor.pin_memory() if data_batch["pid"].is_pinned() else tensor
