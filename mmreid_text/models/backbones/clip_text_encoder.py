"""CLIP's text encoder on transformers' CLIP text model."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel
from transformers.models.clip.modeling_clip import CLIPEncoderLayer

from mmreid_text.datasets.transforms.tokenizer import EOT, SOT, VOCAB
from mmreid_text.models.backbones.attention import attend
from mmreid_text.models.backbones.hidden_states import run_block, run_blocks
from mmreid_text.models.backbones.packing import Packing
from mmreid_text.models.backbones.quick_gelu import QuickGELU, quick_gelu_mlp
from mmreid_text.registry import MODELS


class TextBlock(CLIPEncoderLayer):
    """transformers' block with its parameters under their names, over packed captions; without dropout."""

    def forward(  # type: ignore[override]
        self, x: torch.Tensor, packing: Packing, eot_only: bool = False
    ) -> torch.Tensor:
        """Tokens (T, W) of tokens (T, W); with ``eot_only`` those of each caption's EOT, (B, W)."""
        attn = self.self_attn
        y = self.layer_norm1(x)
        key, value = packing.unpack(attn.k_proj(y)), packing.unpack(attn.v_proj(y))  # (B, N, W)
        if eot_only:
            query = attn.q_proj(y.index_select(0, packing.eot))[:, None]
            x = x.index_select(0, packing.eot)
            attended = attend(query, key, value, attn.num_heads, visible=packing.visible)[:, 0]
        else:
            # What stands beyond a caption's EOT is zero, and seen by nothing before it.
            query = packing.unpack(attn.q_proj(y))
            attended = packing.pack(attend(query, key, value, attn.num_heads, causal=True))
        x = x + attn.out_proj(attended)
        return x + quick_gelu_mlp(self.layer_norm2(x), self.mlp.fc1, self.mlp.fc2)


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
        with_cp: Whether training keeps only the blocks' inputs and computes the rest again in the backward pass.

    Raises:
        ValueError: Width and heads do not divide.

    Config::

        text_encoder=dict(type='CLIPTextEncoder', width=512, depth=12, heads=8, embed_dim=512)
    """

    layout: torch.Tensor

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        embed_dim: int,
        context_length: int = 77,
        with_cp: bool = False,
    ) -> None:
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
            layer.__class__ = TextBlock  # as built and initialised by transformers; only the forward pass is ours
        self.with_cp = with_cp
        self.final_norm = model.final_layer_norm
        self.projection = nn.Linear(width, embed_dim, bias=False)
        nn.init.normal_(self.projection.weight, std=width**-0.5)
        self.depth = depth
        self.embed_dim = embed_dim
        self.context_length = context_length
        # What the shapes of the weights do not tell, kept in checkpoints: heads.
        self.register_buffer("layout", torch.tensor([heads]))

    def hidden_states(
        self, text: torch.Tensor, layers: Iterable[int], lengths: Sequence[int] | None = None, padded: bool = False
    ) -> list[torch.Tensor]:
        """Tokens after the given numbers of blocks, each (B, N, W), before norm and projection, zero beyond EOT.

        Args:
            text: int64 (B, N), CLIP ids with EOT, N up to ``context_length``.
            layers: Numbers of blocks in 0..depth; blocks beyond the largest are not computed.
            lengths: Tokens of each caption, EOT included. Only they are computed; where they are not given, the
                host waits for a GPU to say.
            padded: Whether padding is encoded like words, as CLIP does, for what reads tokens beyond EOT.

        Raises:
            ValueError: The text is longer than ``context_length``, or a layer does not exist.
        """
        x, packing = self._embed(text, lengths, padded)
        return [packing.unpack(state) for state in run_blocks(self.layers, x, layers, self.with_cp, packing)]

    def encode(
        self,
        text: torch.Tensor,
        layers: Iterable[int] = (),
        lengths: Sequence[int] | None = None,
        padded: bool = False,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Features and, of the same pass, hidden states.

        The last block is computed for EOT alone unless ``layers`` has it: nothing else is read.

        Args:
            text: As for :meth:`hidden_states`.
            layers: As for :meth:`hidden_states`, or none.
            lengths: As for :meth:`hidden_states`.
            padded: As for :meth:`hidden_states`; features do not change by it.

        Returns:
            Text features (B, D), before L2 normalisation, and tokens (B, N, W) after each of ``layers``.
        """
        layers = list(layers)
        x, packing = self._embed(text, lengths, padded)
        if self.depth in layers:
            *states, x = run_blocks(self.layers, x, [*layers, self.depth], self.with_cp, packing)
            last = x.index_select(0, packing.eot)
        else:
            *states, x = run_blocks(self.layers, x, [*layers, self.depth - 1], self.with_cp, packing)
            last = run_block(self.layers[-1], self.with_cp, x, packing, True)
        return self.project(last), [packing.unpack(state) for state in states]

    def _embed(self, text: torch.Tensor, lengths: Sequence[int] | None, padded: bool) -> tuple[torch.Tensor, Packing]:
        if text.shape[1] > self.context_length:
            raise ValueError(
                f"Text of {text.shape[1]} tokens given to an encoder of context_length={self.context_length}: "
                "tokenize with that max_length."
            )
        packing = Packing.whole(text) if padded else Packing.of(text, lengths)
        return packing.pack(self.embeddings(input_ids=text)), packing

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """Bring hidden states (..., W) of any layer to the joint space (..., D): final norm, then projection."""
        return self.projection(self.final_norm(hidden))

    def pool(self, hidden: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Text features (B, D), before L2 normalisation, of the last hidden state (B, N, W) of ``text`` (B, N)."""
        eot = text.argmax(dim=1)  # EOT is the largest id
        return self.project(hidden[torch.arange(len(text), device=text.device), eot])

    def forward(self, text: torch.Tensor) -> torch.Tensor:
        """Text features (B, D), before L2 normalisation, of int64 ids (B, N)."""
        return self.encode(text)[0]
