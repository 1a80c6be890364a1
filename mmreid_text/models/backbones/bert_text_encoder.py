"""BERT as a text encoder: features are the maximum over projected tokens."""

from collections.abc import Iterable, Sequence

import torch
from mmengine.model import BaseModule
from torch import nn
from transformers import BertConfig, BertModel
from transformers.models.bert.modeling_bert import BertLayer

from mmreid_text.models.backbones.attention import attend
from mmreid_text.models.backbones.hidden_states import run_blocks
from mmreid_text.registry import MODELS


class BertBlock(BertLayer):
    """transformers' block with its parameters under their names; padding is never looked at."""

    def forward(self, x: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:  # type: ignore[override, unused-ignore]
        """Tokens (B, N, W) of tokens (B, N, W), of which ``visible`` bool (B, N) are words."""
        attn = self.attention.self
        dropout = attn.dropout.p if self.training else 0.0
        heads = attn.num_attention_heads
        y = attend(attn.query(x), attn.key(x), attn.value(x), heads, visible=visible, dropout=dropout)
        x = self.attention.output(y, x)
        return self.output(self.intermediate(x), x)


@MODELS.register_module()
class BertTextEncoder(BaseModule):
    """BERT (Devlin et al., NAACL 2019) on transformers' ``BertModel``, with a projection to the joint space.

    As in UniPT (Shao et al., ICCV 2023, section 4.1) a linear layer brings every token to the joint space, and a
    feature is the maximum over a caption's tokens, [CLS] and [SEP] included. Padding, which has the id 0, is neither
    attended to nor pooled, so that it never changes a feature. BERT-base is the default.

    Args:
        vocab_size: Number V of word pieces.
        width: Channels W of the tokens.
        depth: Number of blocks.
        heads: Attention heads.
        embed_dim: Channels D of the joint space.
        context_length: Longest caption in tokens, [CLS] and [SEP] included.
        dropout: Share that training drops of embeddings, of attention weights and of what blocks add.
        max_over_padding: Take the maximum over all N positions, as the published code of UniPT does: features then
            depend on how far captions are padded, and the data preprocessor must not trim them.
        with_cp: Whether training keeps only the blocks' inputs and computes the rest again in the backward pass.

    Raises:
        ValueError: Width and heads do not divide.

    Config::

        text_encoder=dict(type='BertTextEncoder', embed_dim=768)
    """

    layout: torch.Tensor

    def __init__(
        self,
        vocab_size: int = 30522,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        embed_dim: int = 768,
        context_length: int = 512,
        dropout: float = 0.1,
        max_over_padding: bool = False,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"BertTextEncoder: width={width} does not divide into heads={heads}.")
        config = BertConfig(
            vocab_size=vocab_size,
            hidden_size=width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            intermediate_size=4 * width,
            max_position_embeddings=context_length,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
        # Only the parts are kept: names of parameters then do not change with transformers' versions, and mmengine,
        # which calls every child's init_weights, does not find transformers' own.
        model = BertModel(config, add_pooling_layer=False)
        self.config = config
        self.embeddings = model.embeddings
        self.layers = model.encoder.layer
        for layer in self.layers:
            layer.__class__ = BertBlock  # as built and initialised by transformers; only the forward pass is ours
        self.with_cp = with_cp
        self.projection = nn.Linear(width, embed_dim)
        nn.init.normal_(self.projection.weight, std=0.02)
        nn.init.zeros_(self.projection.bias)
        self.depth = depth
        self.embed_dim = embed_dim
        self.context_length = context_length
        self.max_over_padding = max_over_padding
        # What the shapes of the weights do not tell, kept in checkpoints: heads.
        self.register_buffer("layout", torch.tensor([heads]))

    def hidden_states(
        self, text: torch.Tensor, layers: Iterable[int], lengths: Sequence[int] | None = None, padded: bool = False
    ) -> list[torch.Tensor]:
        """Tokens after the given numbers of blocks, each (B, N, W), before the projection.

        Args:
            text: int64 (B, N), ids of word pieces, 0 behind the last; N up to ``context_length``.
            layers: Numbers of blocks in 0..depth; blocks beyond the largest are not computed.
            lengths: Not needed: ids tell what is padding.
            padded: Of no effect: padding is always encoded, as a word that no other sees.

        Raises:
            ValueError: The text is longer than ``context_length``, or a layer does not exist.
        """
        if text.shape[1] > self.context_length:
            raise ValueError(
                f"Text of {text.shape[1]} tokens given to an encoder of context_length={self.context_length}: "
                "tokenize with that max_length."
            )
        return run_blocks(self.layers, self.embeddings(input_ids=text), layers, self.with_cp, text != 0)

    def encode(
        self,
        text: torch.Tensor,
        layers: Iterable[int] = (),
        lengths: Sequence[int] | None = None,
        padded: bool = False,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Features and, of the same pass, hidden states.

        Args:
            text: As for :meth:`hidden_states`.
            layers: As for :meth:`hidden_states`, or none.
            lengths: As for :meth:`hidden_states`.
            padded: As for :meth:`hidden_states`.

        Returns:
            Text features (B, D), before L2 normalisation, and tokens (B, N, W) after each of ``layers``.
        """
        *states, last = self.hidden_states(text, [*layers, self.depth])
        return self.pool(last, text), states

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """Bring hidden states (..., W) of any layer, which blocks end with a norm, to the joint space (..., D)."""
        return self.projection(hidden)

    def pool(self, hidden: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Text features (B, D), before L2 normalisation, of the last hidden state (B, N, W) of ``text`` (B, N)."""
        return self.pool_projected(self.project(hidden), text)

    def pool_projected(self, tokens: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """The same of tokens (B, N, D) in the joint space."""
        if not self.max_over_padding:
            tokens = tokens.masked_fill((text == 0)[..., None], -torch.inf)
        return tokens.amax(dim=1)

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Text features (B, D), before L2 normalisation, of int64 ids (B, N)."""
        return self.encode(text)[0]
