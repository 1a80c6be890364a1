"""Noise-aware masking."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop, Runner

from mmreid_text.atomic_write import remove_leftovers
from mmreid_text.engine.hooks.dataset_epoch_hook import training_set
from mmreid_text.engine.hooks.masking_hook import MaskingHook
from mmreid_text.engine.hooks.resume_hook import resumed_checkpoint
from mmreid_text.engine.noise_table import NoiseTable
from mmreid_text.models.token_noise import masking_probability
from mmreid_text.registry import HOOKS


@HOOKS.register_module()
class NoiseAwareMaskingHook(MaskingHook):
    """Masks likely wrong words: noise-aware masking (NAM) of Tan et al., CVPR 2024, section 3.2.

    Before an iteration it draws ``masked_text`` from the noise that the previous epoch left for each caption (Eq. 4);
    after it, it stores the new noise that the model's ``token_noise`` estimator left in ``last_noise``. The first epoch
    is uniform. The table is written as ``noise_epoch_<n>.npz`` beside each epoch checkpoint, pruned with it, restored
    on resume and refused when it belongs to other data. Hence training must go by epochs, and checkpoints stand in the
    work dir under their default names; a ValueError says so before training.

    Args:
        p: Average share of masked tokens, in [0, 1]; the paper's is 0.15.
        force_one: Mask position 1 of a caption in which no token was drawn, as the published code (not the paper).

    Use in configs::

        model = dict(token_noise=dict(type='PatchSimilarityNoise', layer=10))
        custom_hooks = [dict(type='NoiseAwareMaskingHook', p=0.15)]
    """

    # After the iteration's optimiser step, and at an epoch's end before CheckpointHook (VERY_LOW) writes.
    priority = "NORMAL"

    def __init__(self, p: float = 0.15, force_one: bool = False) -> None:
        super().__init__(p, force_one)
        self._pending: tuple[np.ndarray, torch.Tensor, Any] | None = None
        self._resumed_epoch: int | None = None
        self._saved_epoch: int | None = None

    def before_train(self, runner: Runner) -> None:
        """Map an empty table, or the one that stands beside the resumed checkpoint."""
        _check_runner(runner)
        dataset = training_set(runner)
        self.table = NoiseTable(len(dataset), dataset.fingerprint)
        if self._resumed_epoch is not None:
            checkpoint = resumed_checkpoint(runner)
            assert checkpoint is not None
            name = f"noise_epoch_{self._resumed_epoch}.npz"
            self.table.load(checkpoint.with_name(name), self._resumed_epoch)

    def probability(self, text: torch.Tensor, caption_id: np.ndarray) -> torch.Tensor:
        """Eq. 4 of the noise that the last epoch stored."""
        return masking_probability(self.table.read(caption_id, text.shape[1]), text, self.p)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Start copying this iteration's noise off the device; store that of the iteration before."""
        assert data_batch is not None
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        noise = getattr(model, "last_noise", None)
        if noise is None:
            raise AttributeError(
                "NoiseAwareMaskingHook found no `last_noise` on the model: set "
                "model.token_noise=dict(type='PatchSimilarityNoise', layer=...)."
            )
        quantised = NoiseTable.quantise(noise)
        ready = None
        if quantised.is_cuda:
            host = torch.empty(quantised.shape, dtype=torch.uint8, pin_memory=True)
            host.copy_(quantised, non_blocking=True)
            ready = torch.cuda.Event()
            ready.record()
            quantised = host
        self._store_pending()
        self._pending = data_batch["caption_id"].numpy(), quantised, ready

    def _store_pending(self) -> None:
        if self._pending is None:
            return
        caption_id, noise, ready = self._pending
        if ready is not None:
            ready.synchronize()
        self.table.write(caption_id, noise.numpy())
        self._pending = None

    def after_train_epoch(self, runner: Runner) -> None:
        """Merge what the ranks saw; a collective, so it must not wait for rank 0's ``save_checkpoint``."""
        self._store_pending()
        self.table.merge()
        self._prune(Path(runner.work_dir))

    def after_train(self, runner: Runner) -> None:
        """Prune once more: CheckpointHook has removed older checkpoints since."""
        self._prune(Path(runner.work_dir))

    @master_only
    def _prune(self, folder: Path) -> None:
        for path in folder.glob("noise_epoch_*.npz"):
            checkpoint = path.stem.removeprefix("noise_")  # a table of another name is not ours
            if checkpoint.removeprefix("epoch_").isdecimal() and not (folder / f"{checkpoint}.pth").exists():
                path.unlink()
        remove_leftovers(folder, "noise_epoch_*.npz")

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Write the table beside the checkpoint that is about to be saved (rank 0 only)."""
        epoch = checkpoint["meta"]["epoch"]
        if epoch > 0 and epoch != self._saved_epoch:  # a best checkpoint of this epoch may follow
            self.table.save(Path(runner.work_dir) / f"noise_epoch_{epoch}.npz", epoch)
            self._saved_epoch = epoch

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Remember the epoch that training resumes at; ``load_from`` leaves the table empty."""
        if runner._resume:
            self._resumed_epoch = checkpoint["meta"]["epoch"]


def _check_runner(runner: Runner) -> None:
    """Refuse what would part tables from their epochs and checkpoints."""
    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        raise ValueError(
            f"NoiseAwareMaskingHook masks by the noise of the epoch before, but train_cfg is of type "
            f"{type(runner.train_loop).__name__}: set train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=...)."
        )
    for hook in runner.hooks:
        if not isinstance(hook, CheckpointHook):
            continue
        wanted = {"by_epoch": True, "filename_tmpl": "epoch_{}.pth", "out_dir": runner.work_dir}
        for key, value in wanted.items():
            stated = getattr(hook, key)
            if stated != value and not (key == "out_dir" and stated is None):
                raise ValueError(
                    f"NoiseAwareMaskingHook keeps noise_epoch_<n>.npz beside epoch_<n>.pth in the work dir, but "
                    f"default_hooks.checkpoint.{key} is {stated!r}: leave it out of the config"
                    + (", and name the folder by work_dir." if key == "out_dir" else ".")
                )
