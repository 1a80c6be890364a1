"""Tells the model what the training captions speak of."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from tqdm import tqdm

from mmreid_text.engine.hooks.dataset_epoch_hook import training_set
from mmreid_text.registry import HOOKS, TRANSFORMS
from mmreid_text.text_iou.phrases import PhraseTable


@HOOKS.register_module()
class TextIoUHook(Hook):
    """Reads the phrases of all training captions once, and hands them and each epoch's number to the model.

    The model, such as ``CMMT``, has ``set_phrases(indptr, indices)`` and ``set_epoch(epoch)``. Every rank reads the
    captions itself; a caption costs some 30 microseconds with the lexicon.

    Args:
        extractor: Config of what reads a caption: ``LexiconPhrases`` or ``SpacyPhrases``.

    Raises:
        TypeError: The model takes no phrases.

    Use in configs::

        custom_hooks = [dict(type='TextIoUHook', extractor=dict(type='LexiconPhrases'))]
    """

    priority = "NORMAL"

    def __init__(self, extractor: Mapping[str, Any] | None = None) -> None:
        self.extractor = TRANSFORMS.build(dict(extractor or {"type": "mmreid_text.LexiconPhrases"}))

    def before_train(self, runner: Runner) -> None:
        """Read the captions; logs what was found, and a warning where captions share nothing with any other."""
        model = _model_of(runner)
        dataset = training_set(runner)
        captions = (dataset.caption(row) for row in range(dataset.num_captions))
        progress = tqdm(
            captions,
            total=dataset.num_captions,
            desc="phrases of captions",
            unit="caption",
            delay=2,
            disable=not is_main_process(),
        )
        table = PhraseTable.collect(progress, self.extractor)
        runner.logger.info(f"Text-IoU: {table.summary()}.")
        silent = np.flatnonzero(np.diff(table.indptr) == 0)
        if len(silent):
            runner.logger.warning(
                f"Text-IoU: {len(silent):,} captions name nothing that {type(self.extractor).__name__} knows, such as "
                f"{dataset.caption(int(silent[0]))!r}. Matching takes them to share nothing with captions of other "
                "images, and mining leaves them out; a lexicon with their words would help."
            )
        model.set_phrases(torch.from_numpy(table.indptr), torch.from_numpy(table.indices))

    def before_train_epoch(self, runner: Runner) -> None:
        """Hand over the epoch, which is right after a resume as well."""
        _model_of(runner).set_epoch(runner.epoch)


def _model_of(runner: Runner) -> Any:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    missing = [name for name in ("set_phrases", "set_epoch") if not hasattr(model, name)]
    if missing:
        raise TypeError(
            f"TextIoUHook: the model is {type(model).__name__}, which has no `{'`, `'.join(missing)}`: use CMMT, or "
            "take the hook out."
        )
    return model
