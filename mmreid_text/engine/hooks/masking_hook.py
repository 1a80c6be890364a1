"""Hooks that mask words of the collated batch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmreid_text.datasets.transforms.masking import draw_masked_text, draw_masked_words
from mmreid_text.models.token_noise.patch_similarity import real_tokens
from mmreid_text.registry import HOOKS, TRANSFORMS


class MaskingHook(Hook):
    """Draws ``masked_text`` and ``mlm_labels`` before every iteration; how probable each token is, a child says.

    Args:
        p: Average share of masked tokens, in [0, 1].
        force_one: See :func:`~mmreid_text.datasets.transforms.masking.draw_masked_text`.
    """

    priority = "NORMAL"

    def __init__(self, p: float = 0.15, force_one: bool = False) -> None:
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: p must lie in [0, 1], got {p}")
        self.p = p
        self.force_one = force_one

    def probability(self, text: torch.Tensor, caption_id: np.ndarray) -> torch.Tensor:
        """Masking probability float (B, N) of text int64 (B, N)."""
        raise NotImplementedError

    def draw(self, text: torch.Tensor, caption_id: np.ndarray, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Masked text and labels of text, all int64 (B, N)."""
        probability = self.probability(text, caption_id).numpy()
        return draw_masked_text(text.numpy(), probability, caption_id, seed, epoch, self.force_one)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Add to the batch ``masked_text`` and ``mlm_labels``, the drawn tokens' ids and 0 elsewhere: int64 (B, N) in
        memory of their own."""
        assert data_batch is not None
        text = data_batch["text"]
        caption_id = data_batch["caption_id"].numpy()
        drawn = self.draw(text, caption_id, runner.seed, runner.epoch)
        for key, values in zip(("masked_text", "mlm_labels"), drawn, strict=True):
            tensor = torch.from_numpy(values)
            data_batch[key] = tensor.pin_memory() if text.is_pinned() else tensor


@HOOKS.register_module()
class UniformMaskingHook(MaskingHook):
    """Masks every real token with the same probability: the EM baseline of Tan et al., CVPR 2024, Table 2 and Fig. 4.

    With ``force_one`` it is IRRA's masking (Jiang and Ye, CVPR 2023, section 3.2).

    Args:
        p: Probability of each token between SOT and EOT, in [0, 1].
        force_one: Mask position 1 of a caption in which no token was drawn.

    Use in configs::

        custom_hooks = [dict(type='UniformMaskingHook', p=0.15)]
    """

    def probability(self, text: torch.Tensor, caption_id: np.ndarray) -> torch.Tensor:
        """``p`` at real tokens, else 0."""
        return real_tokens(text) * self.p


@HOOKS.register_module()
class WholeWordMaskingHook(MaskingHook):
    """Masks whole words of BERT's pieces (Devlin et al., NAACL 2019), as UniPT pre-trains (ICCV 2023, section 4.1).

    Args:
        tokenizer: Config of the ``WordPieceTokenizer`` that makes the captions' ids.
        p: Probability of each word, in [0, 1].

    Use in configs::

        custom_hooks = [dict(
            type='WholeWordMaskingHook', p=0.15,
            tokenizer=dict(type='WordPieceTokenizer', vocab='google-bert/bert-base-uncased'))]
    """

    def __init__(self, tokenizer: Mapping[str, Any], p: float = 0.15) -> None:
        super().__init__(p)
        self.tokenizer = TRANSFORMS.build(tokenizer)

    def draw(self, text: torch.Tensor, caption_id: np.ndarray, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Masked text and labels of text, all int64 (B, N)."""
        return draw_masked_words(text.numpy(), self.tokenizer, self.p, caption_id, seed, epoch)
