"""UniPT's pre-training: image-text contrast and masked words, from pseudo texts."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from transformers.models.bert.modeling_bert import BertPredictionHeadTransform

from mmreid_text.models.losses import MaskedLanguageLoss, masked_positions
from mmreid_text.models.retrievers.dual_encoder import DualEncoder, Losses
from mmreid_text.registry import MODELS


@MODELS.register_module()
class UniPT(DualEncoder):
    """Unified pre-training for text-based person re-identification (Shao et al., ICCV 2023, section 4.1).

    Eq. 3: the pair losses of ``losses``, an image-text contrast there, and ``beta`` times ``loss_mlm``, the masked
    words of a caption guessed without its image. Pair losses read the caption as written, in a pass of its own. Both
    losses are exact over ranks, which mask different numbers of words.

    The published code also has a term that the paper does not name, a masked-image reconstruction of CLIP's patch
    features; it is left out. Two other habits of that code are switches, off by default: ``ITCLoss(local=True)``
    contrasts the pairs of one GPU alone, and ``BertTextEncoder(max_over_padding=True)`` pools over padding. Eq. 1 has
    no temperature, which is ``ITCLoss(tau=1)``; the configs learn one from 0.07 on.

    Args:
        image_encoder: Config of the image encoder, such as ``ViTEncoder``.
        text_encoder: Config of ``BertTextEncoder``.
        losses: Configs of pair losses, as ``DualEncoder`` takes them.
        beta: Weight of the masked words; 0 builds no head for them.
        micro_batch: As ``DualEncoder`` takes it; the last hidden states (B, N, W) of masked captions are kept.
        data_preprocessor: Config. Default: ``ReIDDataPreprocessor`` with ``eot=None``.
        init_cfg: As ``DualEncoder`` takes it.

    Raises:
        ValueError: ``beta`` is negative, or as ``DualEncoder``.

    Config::

        model = dict(
            type='UniPT',
            image_encoder=dict(type='ViTEncoder', embed_dim=768, img_size=(384, 128)),
            text_encoder=dict(type='BertTextEncoder', embed_dim=768),
            losses=[dict(type='ITCLoss', tau=0.07, learnable=True)],
            init_cfg=dict(
                type='EncoderWeights', image='vit_base_patch16_384.pth', text='google-bert/bert-base-uncased'))
        custom_hooks = [dict(
            type='WholeWordMaskingHook', p=0.15,
            tokenizer=dict(type='WordPieceTokenizer', vocab='google-bert/bert-base-uncased'))]
    """

    def __init__(
        self,
        image_encoder: dict[str, Any],
        text_encoder: dict[str, Any],
        losses: Sequence[dict[str, Any]] = (),
        beta: float = 1.0,
        micro_batch: int | None = None,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        if beta < 0:
            raise ValueError(f"UniPT: beta must be at least 0, got {beta}.")
        super().__init__(
            image_encoder,
            text_encoder,
            losses,
            micro_batch=micro_batch,
            data_preprocessor=data_preprocessor or {"type": "mmreid_text.ReIDDataPreprocessor", "eot": None},
            init_cfg=init_cfg,
        )
        self.beta = beta
        self.mlm_head = masked_words_head(self.text_encoder) if beta else None
        self.masked_language_loss = MaskedLanguageLoss()

    def loss(
        self,
        image: torch.Tensor,
        text: torch.Tensor,
        pid: torch.Tensor,
        masked_text: torch.Tensor | None = None,
        lengths: Sequence[int] | None = None,
        mlm_labels: torch.Tensor | None = None,
        mlm_positions: torch.Tensor | None = None,
        **_: Any,
    ) -> Losses:
        """Losses of a batch of pairs: the pair losses and ``loss_mlm``, weighted.

        Args:
            image: float32 (B, 3, H, W), normalised pixels.
            text: int64 (B, N), the captions as written.
            pid: int64 (B,), identities.
            masked_text: int64 (B, N), the captions with masked words.
            lengths: Tokens of each caption.
            mlm_labels: int64 (B, N), the ids of masked words, 0 elsewhere.
            mlm_positions: int64 (T,), where ``mlm_labels``, flattened, is not 0.

        Raises:
            ValueError: The batch lacks the masked words; names the hook that writes them.
        """
        losses: Losses = {}
        if self.losses:
            losses = self._pair_losses(self._encode_batch(image, text, text, lengths), pid, text)
        return losses | self._masked_words(masked_text, mlm_labels, mlm_positions)

    def _masked_words(
        self, masked_text: torch.Tensor | None, labels: torch.Tensor | None, positions: torch.Tensor | None
    ) -> Losses:
        """``loss_mlm``, weighted, of what :meth:`loss` is given; nothing without a head."""
        if self.mlm_head is None:
            return {}
        if masked_text is None or labels is None:
            raise ValueError(
                "UniPT's masked words need `masked_text` and `mlm_labels` in the batch: add "
                "dict(type='WholeWordMaskingHook', tokenizer=...) to custom_hooks, or set model.beta=0."
            )
        places = masked_positions(labels) if positions is None else positions
        last = [self.text_encoder.depth]
        hidden = [
            self._cached(self.text_encoder.hidden_states, masked_text[rows], last)[0]
            for rows in self._chunks(len(masked_text))
        ]
        words, labels = (x.flatten(0, 1).index_select(0, places) for x in (torch.cat(hidden), labels))
        return {"loss_mlm": self.beta * self.masked_language_loss(self.mlm_head(words), labels)}


def masked_words_head(text_encoder: nn.Module) -> nn.Sequential:
    """BERT's head of masked language modelling, anew: (T, V) logits of (T, W) hidden states of a text encoder."""
    config: Any = text_encoder.config
    head = nn.Sequential(BertPredictionHeadTransform(config), nn.Linear(config.hidden_size, config.vocab_size))
    for module in head.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=config.initializer_range)
            nn.init.zeros_(module.bias)
    return head
