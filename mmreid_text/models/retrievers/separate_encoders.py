"""Encoders pre-trained apart: what unified pre-training is compared with."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mmreid_text.models.losses.similarity import at_least_float32
from mmreid_text.models.retrievers.dual_encoder import Losses
from mmreid_text.models.retrievers.unipt import UniPT
from mmreid_text.registry import MODELS


@MODELS.register_module()
class SeparateEncoders(UniPT):
    """Two single modalities in one run: images learn to be classified, captions to fill in their masked words.

    As ImageNet's vision transformer and BERT, but for data that have neither. No loss sees both modalities, and
    encoders share no weights, so the run is two runs; gradients must not be clipped by their common norm.

    Args:
        num_ids: Classes of the training images, whose ``label`` ``IdentityLabelHook`` writes; ``tools/train.py`` fills
            it in. None: no classifier, for testing.
        kwargs: As :class:`~mmreid_text.models.retrievers.unipt.UniPT` takes them; there are no pair losses.

    Raises:
        ValueError: As ``UniPT``.

    Config::

        model = dict(
            type='SeparateEncoders',
            image_encoder=dict(type='ViTEncoder', embed_dim=768, img_size=(384, 128)),
            text_encoder=dict(type='BertTextEncoder', embed_dim=768))
        custom_hooks = [
            dict(type='IdentityLabelHook'),
            dict(type='WholeWordMaskingHook', tokenizer=dict(type='WordPieceTokenizer', vocab='vocab.txt'))]
    """

    def __init__(self, num_ids: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.text_encoder.projection.requires_grad_(False)  # no loss reads it, which several ranks would not forgive
        self.num_ids = num_ids
        self.classifier = None if num_ids is None else nn.Linear(self.image_encoder.embed_dim, num_ids)

    def loss(  # type: ignore[override]
        self,
        image: torch.Tensor,
        text: torch.Tensor,
        label: torch.Tensor | None = None,
        masked_text: torch.Tensor | None = None,
        mlm_labels: torch.Tensor | None = None,
        mlm_positions: torch.Tensor | None = None,
        **_: Any,
    ) -> Losses:
        """``loss_id`` of images and ``loss_mlm`` of captions, as ``UniPT`` takes its batch.

        Args:
            image: float32 (B, 3, H, W), normalised pixels.
            text: int64 (B, N), the captions as written; not read.
            label: int64 (B,), classes of the images, 0..num_ids-1.
            masked_text: int64 (B, N), the captions with masked words.
            mlm_labels: int64 (B, N), the ids of masked words, 0 elsewhere.
            mlm_positions: int64 (T,), where ``mlm_labels``, flattened, is not 0.

        Raises:
            ValueError: The batch lacks what a loss needs; names the hook that writes it.
        """
        if label is None or self.classifier is None:
            raise ValueError("SeparateEncoders needs `label` and num_ids: add dict(type='IdentityLabelHook').")
        logits = self.classifier(self.encode_image(image))
        loss = F.cross_entropy(at_least_float32(logits, logits), label)
        return {"loss_id": loss} | self._masked_words(masked_text, mlm_labels, mlm_positions)
