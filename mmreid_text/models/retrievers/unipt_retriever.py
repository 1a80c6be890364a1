"""UniPT's fine-tuning: identities and ranking, of whole images and captions and of their parts."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from mmreid_text.models.losses import IdentityLoss
from mmreid_text.models.retrievers.dual_encoder import DualEncoder, Losses
from mmreid_text.registry import MODELS

RANKING = ({"type": "mmreid_text.RankingLoss", "margin": 0.2},)


@MODELS.register_module()
class UniPTRetriever(DualEncoder):
    """The model that UniPT fine-tunes on labelled pairs (Shao et al., ICCV 2023, section 4.2).

    The pair losses of ``losses``, a ranking loss there, and ``loss_id``, one classifier of images and captions, read
    the encoders' features. ``loss_pgu``, weighted by ``gamma``, is both of them for the parts that a ``PGU`` finds in
    the tokens: each part has a classifier of its own, whose losses are averaged, and the pair losses read all parts
    joined.

    With a PGU a retrieval feature is the encoder's feature and the joined parts, each L2-normalised, one behind the
    other: its cosine is the mean of both cosines.

    Args:
        image_encoder: Config of the image encoder; the PGU reads its tokens but [CLS].
        text_encoder: Config of the text encoder; the PGU reads its tokens where ids are not 0.
        num_ids: Identities of the training set; ``tools/train.py`` fills it in where ``IdentityLabelHook`` is used.
            None: no classifiers.
        losses: Configs of pair losses, as ``DualEncoder`` takes them.
        pgu: Config of the ``PGU``; its width is the encoders' ``embed_dim`` unless stated. None: no parts.
        gamma: Weight of ``loss_pgu``.
        micro_batch: As ``DualEncoder`` takes it.
        data_preprocessor: Config. Default: ``ReIDDataPreprocessor`` with ``eot=None``.
        init_cfg: As ``DualEncoder`` takes it.

    Raises:
        ValueError: ``num_ids`` is below 1, or as ``DualEncoder``.

    Config::

        model = dict(
            type='UniPTRetriever',
            image_encoder=dict(type='ViTEncoder', embed_dim=768, img_size=(384, 128)),
            text_encoder=dict(type='BertTextEncoder', embed_dim=768),
            pgu=dict(type='PGU', queries=6),
            init_cfg=dict(type='EncoderWeights', checkpoint='work_dirs/vit_b16_luperson-t/epoch_15.pth'))
        custom_hooks = [dict(type='IdentityLabelHook')]
    """

    def __init__(
        self,
        image_encoder: dict[str, Any],
        text_encoder: dict[str, Any],
        num_ids: int | None = None,
        losses: Sequence[dict[str, Any]] = RANKING,
        pgu: dict[str, Any] | None = None,
        gamma: float = 1.0,
        micro_batch: int | None = None,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            image_encoder,
            text_encoder,
            losses,
            micro_batch=micro_batch,
            data_preprocessor=data_preprocessor or {"type": "mmreid_text.ReIDDataPreprocessor", "eot": None},
            init_cfg=init_cfg,
        )
        if num_ids is not None and num_ids < 1:
            raise ValueError(f"UniPTRetriever: num_ids must be at least 1, or None for no classifier, got {num_ids}.")
        width = self.image_encoder.embed_dim
        self.num_ids = num_ids
        self.gamma = gamma
        self.pgu = None if pgu is None else MODELS.build({"width": width, **pgu})
        self.classifier = None if num_ids is None else _classifier(width, num_ids)
        self.part_classifiers = None
        if self.pgu is not None and num_ids is not None:
            self.part_classifiers = nn.ModuleList(
                _classifier(self.pgu.embed_dim, num_ids) for _ in range(self.pgu.num_queries)
            )
        self.identity_loss = IdentityLoss()

    def encode_image(self, image: torch.Tensor) -> torch.Tensor:
        """Retrieval features (B, D), with a PGU (B, D + Q * E), of normalised float pixels (B, 3, H, W)."""
        return _join(*self._see(image))

    def encode_text(self, text: torch.Tensor, lengths: Sequence[int] | None = None) -> torch.Tensor:
        """Retrieval features (B, D), with a PGU (B, D + Q * E), of int64 ids (B, N)."""
        return _join(*self._read(text, lengths))

    def _see(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Image features (B, D) and parts (B, Q, E), None without a PGU."""
        if self.pgu is None:
            return self.image_encoder(image), None
        feats, (hidden,) = self.image_encoder.encode(image, [self.image_encoder.depth])
        return feats, self.pgu(self.image_encoder.project(hidden[:, 1:]))

    def _read(self, text: torch.Tensor, lengths: Sequence[int] | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Text features (B, D) and parts (B, Q, E), None without a PGU."""
        if self.pgu is None:
            return self.text_encoder.encode(text, lengths=lengths)[0], None
        feats, (hidden,) = self.text_encoder.encode(text, [self.text_encoder.depth], lengths)
        return feats, self.pgu(self.text_encoder.project(hidden), text != 0)

    def loss(
        self,
        image: torch.Tensor,
        text: torch.Tensor,
        pid: torch.Tensor,
        masked_text: torch.Tensor | None = None,
        lengths: Sequence[int] | None = None,
        label: torch.Tensor | None = None,
        **_: Any,
    ) -> Losses:
        """The pair losses, ``loss_id`` and ``loss_pgu`` of a batch of pairs.

        Args:
            image: float32 (B, 3, H, W), normalised pixels.
            text: int64 (B, N), the captions as written.
            pid: int64 (B,), identities.
            masked_text: Not read.
            lengths: Tokens of each caption.
            label: int64 (B,), classes of the identities, 0..num_ids-1.

        Raises:
            ValueError: The batch lacks the labels; names the hook that writes them.
        """
        if self.classifier is not None and label is None:
            raise ValueError(
                "UniPTRetriever's losses need `label` in the batch: add dict(type='IdentityLabelHook') to custom_hooks."
            )
        pairs = self._encode_batch(image, text, text, lengths)
        losses = self._pair_losses(pairs, pid, text)
        if self.classifier is not None and label is not None:
            losses["loss_id"] = self._identities([self.classifier], pairs["image_feats"], pairs["text_feats"], label)
        if self.pgu is not None:
            losses["loss_pgu"] = self.gamma * self._part_loss(pairs["image_parts"], pairs["text_parts"], pid, label)
        return losses

    def _encode_pairs(
        self, image: torch.Tensor, read: torch.Tensor, text: torch.Tensor, lengths: Sequence[int] | None
    ) -> dict[str, torch.Tensor]:
        """Features of ``image`` and ``read`` and, with a PGU, their parts (B, Q, E)."""
        image_feats, image_parts = self._cached(self._see, image)
        text_feats, text_parts = self._cached(self._read, read, lengths)
        pairs = {"image_feats": image_feats, "text_feats": text_feats}
        return pairs if self.pgu is None else pairs | {"image_parts": image_parts, "text_parts": text_parts}

    def _part_loss(
        self, image_parts: torch.Tensor, text_parts: torch.Tensor, pid: torch.Tensor, label: torch.Tensor | None
    ) -> torch.Tensor:
        image, text = image_parts.flatten(1), text_parts.flatten(1)  # (B, Q * E)
        total = sum(self.loss_weights.get(name, 1.0) * loss(image, text, pid) for name, loss in self.losses.items())
        if self.part_classifiers is not None and label is not None:
            total = total + self._identities(self.part_classifiers, image_parts, text_parts, label)
        assert isinstance(total, torch.Tensor)
        return total

    def _identities(
        self,
        classifiers: Iterable[Any],
        image: torch.Tensor,
        text: torch.Tensor,
        label: torch.Tensor,
    ) -> torch.Tensor:
        """Mean identity loss of features (B, D) by one classifier, or of parts (B, Q, E) by one each."""
        columns = ([x] if x.ndim == 2 else x.unbind(dim=1) for x in (image, text))
        losses = []
        with torch.autocast(image.device.type, enabled=False):  # costs nothing, and half a logit's precision
            for classify, *feats in zip(classifiers, *columns, strict=True):
                image_logits, text_logits = (classify(x.to(classify.weight.dtype)) for x in feats)
                losses.append(self.identity_loss(image_logits, text_logits, label))
        return torch.stack(losses).mean()


def _classifier(width: int, num_ids: int) -> nn.Linear:
    classifier = nn.Linear(width, num_ids)
    nn.init.normal_(classifier.weight, std=0.001)
    nn.init.zeros_(classifier.bias)
    return classifier


def _join(feats: torch.Tensor, parts: torch.Tensor | None) -> torch.Tensor:
    """One retrieval feature of features (B, D) and parts (B, Q, E)."""
    if parts is None:
        return feats
    return torch.cat([F.normalize(feats, dim=1), F.normalize(parts.flatten(1), dim=1)], dim=1)
