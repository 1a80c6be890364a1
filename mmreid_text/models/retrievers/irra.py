"""IRRA: similarity distribution matching, identities, and masked words read from the image."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.logging import print_log
from torch import nn

from mmreid_text.models.losses import IdentityLoss, MaskedLanguageLoss, masked_positions
from mmreid_text.models.retrievers.dual_encoder import DualEncoder, Losses, join_chunks
from mmreid_text.registry import MODELS


@MODELS.register_module()
class IRRA(DualEncoder):
    """Implicit relation reasoning and aligning (Jiang and Ye, CVPR 2023, section 3).

    Three losses of weight 1, as published: the pair losses of ``losses`` (SDM there); ``loss_id``, one classifier of
    images and captions, whose ``label`` ``IdentityLabelHook`` writes; ``loss_mlm``, the masked words of a caption
    guessed with its image's help, where a masking hook says which. Testing needs the two encoders alone.

    Pair losses and identities see the caption as it is written. The published code masks it for them as well, because
    its masking writes into memory that they share; ``sdm_on_masked`` does the same, for one pass of text instead of
    two. So does noise-aware masking, where pair losses must not see the words that are likely wrong.

    Relation blocks attend to padding, as published. Hence the preprocessor must not trim, or ``loss_mlm`` would depend
    on which captions share a batch; ``trim_text=False`` is the default here. The vocabulary's logits are computed at
    the masked words alone.

    Args:
        num_ids: Identities of the training set; ``tools/train.py`` fills it in where ``IdentityLabelHook`` is used.
            None: no classifier; one in a checkpoint is left out, and a log line says so.
        relation: Config of the head that guesses masked words; its width is the encoders' ``embed_dim`` unless stated.
            None: no such head, and ``masked_text`` is not read unless ``sdm_on_masked``.
        sdm_on_masked: Whether pair losses and identities read the masked caption.
        data_preprocessor: Config. Default: ``ReIDDataPreprocessor`` that trims only where there is no relation head.
        kwargs: As :class:`~mmreid_text.models.retrievers.dual_encoder.DualEncoder` takes them, and so are the encoders;
            a relation head wants a text encoder whose methods take ``padded`` as well. With it ``micro_batch`` keeps
            the words (B, N, D) of the whole batch that met their images.

    Raises:
        ValueError: ``num_ids`` is below 1, the preprocessor trims what a relation head reads, or as ``DualEncoder``.

    Config::

        model = dict(
            type='IRRA',
            image_encoder=dict(
                type='CLIPVisionEncoder', width=768, depth=12, heads=12, patch_size=16, embed_dim=512,
                img_size=(384, 128)),
            text_encoder=dict(type='CLIPTextEncoder', width=512, depth=12, heads=8, embed_dim=512),
            losses=[dict(type='SDMLoss', tau=0.02)],
            relation=dict(type='CrossModalRelation', depth=4),
            init_cfg=dict(type='CLIPPretrained', checkpoint='openai/clip-vit-base-patch16'))
        custom_hooks = [
            dict(type='UniformMaskingHook', p=0.15, force_one=True), dict(type='IdentityLabelHook')]
    """

    def __init__(
        self,
        image_encoder: dict[str, Any],
        text_encoder: dict[str, Any],
        num_ids: int | None = None,
        relation: dict[str, Any] | None = None,
        sdm_on_masked: bool = False,
        data_preprocessor: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        trims = {"type": "mmreid_text.ReIDDataPreprocessor", "trim_text": relation is None}
        super().__init__(image_encoder, text_encoder, data_preprocessor=data_preprocessor or trims, **kwargs)
        if relation is not None and getattr(self.data_preprocessor, "trim_text", False):
            raise ValueError(
                "IRRA's relation head reads padding, so a cut to the batch's longest caption would change its loss: "
                "set model.data_preprocessor.trim_text=False."
            )
        width = self.image_encoder.embed_dim
        if num_ids is not None and num_ids < 1:
            raise ValueError(f"IRRA: num_ids must be at least 1, or None for no classifier, got {num_ids}.")
        self.num_ids = num_ids
        self.sdm_on_masked = sdm_on_masked
        self.classifier = None if num_ids is None else nn.Linear(width, num_ids)
        self.relation = None if relation is None else MODELS.build({"width": width, **relation})
        self.identity_loss = IdentityLoss()
        self.masked_language_loss = MaskedLanguageLoss()
        if self.classifier is not None:
            nn.init.normal_(self.classifier.weight, std=0.001)
            nn.init.zeros_(self.classifier.bias)

    def identity_logits(self, feats: torch.Tensor) -> torch.Tensor:
        """Logits (B, C) of features (B, D) of images or captions, before L2 normalisation; float32 under autocast.

        Raises:
            ValueError: The model has no classifier.
        """
        if self.classifier is None:
            raise ValueError("This IRRA has no classifier of identities: num_ids is None.")
        with torch.autocast(feats.device.type, enabled=False):  # costs nothing, and half a logit's precision
            return self.classifier(feats.to(self.classifier.weight.dtype))

    def masked_language_logits(self, text: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, N, V) of every word of ``text``, padding included.

        Args:
            text: int64 (B, N), masked captions. N counts: padding takes part in the reasoning.
            image: float (B, 3, H, W), normalised pixels.

        Raises:
            ValueError: The model has no relation head.
        """
        if self.relation is None:
            raise ValueError("This IRRA guesses no masked words: relation is None.")
        (patches,) = self.image_encoder.hidden_states(image, [self.image_encoder.depth])
        (words,) = self.text_encoder.hidden_states(text, [self.text_encoder.depth], padded=True)
        return self.relation.mlm_head(self._relate(words, patches))

    def _relate(self, words: torch.Tensor, patches: torch.Tensor) -> torch.Tensor:
        """(B, N, D) of the last hidden states of captions (B, N, W) and images (B, 1 + M, W)."""
        assert self.relation is not None
        return self.relation(self.text_encoder.project(words), self.image_encoder.project(patches))

    def loss(
        self,
        image: torch.Tensor,
        text: torch.Tensor,
        pid: torch.Tensor,
        masked_text: torch.Tensor | None = None,
        lengths: Sequence[int] | None = None,
        label: torch.Tensor | None = None,
        mlm_labels: torch.Tensor | None = None,
        mlm_positions: torch.Tensor | None = None,
        **_: Any,
    ) -> Losses:
        """Losses of a batch of pairs: those of :class:`DualEncoder`, ``loss_id`` and ``loss_mlm``.

        Args:
            image: float32 (B, 3, H, W), normalised pixels.
            text: int64 (B, N), the captions as written.
            pid: int64 (B,), identities.
            masked_text: int64 (B, N), the captions with masked words.
            lengths: Tokens of each caption, EOT included.
            label: int64 (B,), classes of the identities, 0..num_ids-1.
            mlm_labels: int64 (B, N), the ids of masked words, 0 elsewhere.
            mlm_positions: int64 (T,), where ``mlm_labels``, flattened, is not 0.

        Raises:
            ValueError: The batch lacks what a loss needs; names the hook that writes it.
        """
        self._check_batch(masked_text, mlm_labels, label)
        read = masked_text if self.sdm_on_masked and masked_text is not None else text
        parts = []
        for rows in self._chunks(len(image)):
            own = None if lengths is None else lengths[rows]
            masked = None if masked_text is None else masked_text[rows]
            parts.append(self._encode_pairs(image[rows], read[rows], text[rows], own, masked))
        pairs = join_chunks(parts)
        losses = self._pair_losses(pairs, pid, read)
        if label is not None and self.classifier is not None:
            image_logits, text_logits = (self.identity_logits(pairs[key]) for key in ("image_feats", "text_feats"))
            losses["loss_id"] = self.identity_loss(image_logits, text_logits, label)
        if mlm_labels is not None and self.relation is not None:
            places = masked_positions(mlm_labels) if mlm_positions is None else mlm_positions
            words, labels = (x.flatten(0, 1).index_select(0, places) for x in (pairs["words"], mlm_labels))
            losses["loss_mlm"] = self.masked_language_loss(self.relation.mlm_head(words), labels)
        return losses

    def _check_batch(
        self, masked_text: torch.Tensor | None, mlm_labels: torch.Tensor | None, label: torch.Tensor | None
    ) -> None:
        relates = self.relation is not None
        masking = "UniformMaskingHook', p=0.15, force_one=True"
        for key, value, read, hook in (
            ("masked_text", masked_text, relates or self.sdm_on_masked, masking),
            ("mlm_labels", mlm_labels, relates, masking),
            ("label", label, self.classifier is not None, "IdentityLabelHook'"),
        ):
            if read and value is None:
                raise ValueError(f"IRRA's losses need `{key}` in the batch: add dict(type='{hook}) to custom_hooks.")

    def _encode_pairs(
        self,
        image: torch.Tensor,
        read: torch.Tensor,
        text: torch.Tensor,
        lengths: Sequence[int] | None,
        masked: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """As ``DualEncoder``'s, and ``words`` (B, N, D): those of ``masked`` after they met the image."""
        if self.relation is None or masked is None:
            return super()._encode_pairs(image, read, text, lengths)
        noise_layer, loss_layer = self._layers()
        last = self.text_encoder.depth

        def encode() -> tuple[Any, ...]:  # as one, so that no tokens are kept where chunks are encoded again
            layers = [*noise_layer, *loss_layer, self.image_encoder.depth]
            image_feats, (*image_states, patches) = self.image_encoder.encode(image, layers)
            if self.sdm_on_masked:
                text_feats, (*text_states, words) = self.text_encoder.encode(read, [*loss_layer, last], padded=True)
            else:
                text_feats, text_states = self.text_encoder.encode(read, loss_layer, lengths)
                (words,) = self.text_encoder.hidden_states(masked, [last], padded=True)
            return image_feats, text_feats, self._relate(words, patches), image_states, text_states

        image_feats, text_feats, words, image_states, text_states = self._cached(encode)
        pairs = {"image_feats": image_feats, "text_feats": text_feats, "words": words}
        return pairs | self._tokens_and_noise(image_states, text_states, text, lengths)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        weight = state_dict.get(f"{prefix}classifier.weight")
        if weight is not None and self.classifier is None:
            for name in ("weight", "bias"):
                state_dict.pop(f"{prefix}classifier.{name}", None)
            print_log(
                f"The checkpoint's classifier of {len(weight)} identities is left out: num_ids is None.", "current"
            )
        elif weight is not None and len(weight) != self.num_ids:
            raise ValueError(
                f"The checkpoint's classifier is one of {len(weight)} identities, the model's of num_ids="
                f"{self.num_ids}: it was trained on other data. To start from its other weights, name it in "
                "model.init_cfg=dict(type='CLIPPretrained', checkpoint=...) in place of load_from."
            )
        super()._load_from_state_dict(state_dict, prefix, *args)
