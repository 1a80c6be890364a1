"""CLIP's text encoder on transformers' CLIP text model."""

from collections.abc import Iterable
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from mmreid_text.datasets.transforms.tokenizer import EOT, SOT, VOCAB
from mmreid_text.models.backbones.hidden_states import run_blocks
from mmreid_text.models.backbones.quick_gelu import QuickGELU
from mmreid_text.registry import MODELS


@MODELS.register_module()
class CLIPTextEncoder(BaseModule):
    """CLIP's causal text transformer (Radford et al., ICML 2021, section 2.4) with its projection to the joint space.

    A caption's feature is read at EOT. Attention looks back only, so what follows EOT changes nothing and batches may
    be trimmed to their longest caption.

    Args:
        width: Channels W of the tokens.
        depth: Number of blocks.
        heads: Attention heads; CLIP has one per 64 channels.
        embed_dim: Channels D of the joint space.
        context_length: Longest caption in tokens, SOT and EOT included.

    Raises:
        ValueError: Width and heads do not divide.

    Config::

        text_encoder=dict(type='CLIPTextEncoder', width=512, depth=12, heads=8, embed_dim=512)
    """

    layout: torch.Tensor

    def __init__(self, width: int, depth: int, heads: int, embed_dim: int, context_length: int = 77) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"CLIPTextEncoder: width={width} does not divide into heads={heads}.")
        config = CLIPTextConfig(
            vocab_size=VOCAB,
            hidden_size=width,
            intermediate_size=4 * width,
            num_hidden_layers=depth,
            num_attention_heads=heads,
            max_position_embeddings=context_length,
            hidden_act="quick_gelu",
            layer_norm_eps=1e-5,
            bos_token_id=SOT,
            eos_token_id=EOT,
        )
        config._attn_implementation = "sdpa"
        # Only the parts are kept: names of parameters then do not change with transformers' versions, and mmengine,
        # which calls every child's init_weights, does not find transformers' own.
        model = CLIPTextModel(config)
        model = getattr(model, "text_model", model)  # earlier releases of 5 wrap it once more
        self.embeddings = model.embeddings
        self.layers = model.encoder.layers
        for layer in self.layers:
            mlp: Any = layer.mlp
            mlp.activation_fn = QuickGELU()
        self.final_norm = model.final_layer_norm
        self.projection = nn.Linear(width, embed_dim, bias=False)
        nn.init.normal_(self.projection.weight, std=width**-0.5)
        self.depth = depth
        self.embed_dim = embed_dim
        self.context_length = context_length
        # What the shapes of the weights do not tell, kept in checkpoints: heads.
        self.register_buffer("layout", torch.tensor([heads]))

    def hidden_states(self, text: torch.Tensor, layers: Iterable[int]) -> list[torch.Tensor]:
        """Tokens after the given numbers of blocks, each (B, N, W), before norm and projection.

        Args:
            text: int64 (B, N), CLIP ids with EOT, N up to ``context_length``.
            layers: Numbers of blocks in 0..depth; blocks beyond the largest are not computed.

        Raises:
            ValueError: The text is longer than ``context_length``, or a layer does not exist.
        """
        if text.shape[1] > self.context_length:
            raise ValueError(
                f"Text of {text.shape[1]} tokens given to an encoder of context_length={self.context_length}: "
                "tokenize with that max_length."
            )
        x = self.embeddings(input_ids=text)  # (B, N, W)
        return run_blocks(self.layers, x, layers, attention_mask=None, is_causal=True)

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """Bring hidden states (..., W) of any layer to the joint space (..., D): final norm, then projection."""
        return self.projection(self.final_norm(hidden))

    def pool(self, hidden: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Text features (B, D), before L2 normalisation, of the last hidden state (B, N, W) of ``text`` (B, N)."""
        eot = text.argmax(dim=1)  # EOT is the largest id
        return self.project(hidden[torch.arange(len(text), device=text.device), eot])

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Text features (B, D), before L2 normalisation, of int64 ids (B, N)."""
        return self.pool(self.hidden_states(text, [self.depth])[0], text)
