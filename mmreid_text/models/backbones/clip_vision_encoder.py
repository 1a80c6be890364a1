"""CLIP's image encoder on mmpretrain's vision transformer."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import nn

from mmreid_text.models.backbones.attention import attend
from mmreid_text.models.backbones.hidden_states import run_block
from mmreid_text.models.backbones.patch_encoder import PatchEncoder, TransformerEncoderLayer
from mmreid_text.models.backbones.quick_gelu import QuickGELU, quick_gelu_mlp
from mmreid_text.registry import MODELS


class ImageBlock(TransformerEncoderLayer):
    """mmpretrain's block with its parameters under their names, computed with less traffic; without dropout."""

    def forward(self, x: torch.Tensor, cls_only: bool = False) -> torch.Tensor:
        """Tokens (B, N, W) of tokens (B, N, W); (B, 1, W) with ``cls_only``, [CLS] alone, which still sees them all."""
        y = self.ln1(x)
        qkv = self.attn.qkv
        if cls_only:
            width = x.shape[-1]
            weights = qkv.weight.split([width, 2 * width])
            biases = qkv.bias.split([width, 2 * width])
            query = F.linear(y[:, :1], weights[0], biases[0])
            key, value = F.linear(y, weights[1], biases[1]).chunk(2, dim=-1)
            x = x[:, :1]
        else:
            # Gradients of what unbind gives are stacked; those of indexing would be added up from zero-filled wholes.
            query, key, value = qkv(y).unflatten(-1, (3, -1)).unbind(-2)
        x = x + self.attn.proj(attend(query, key, value, self.attn.num_heads))
        return x + quick_gelu_mlp(self.ln2(x), self.ffn.layers[0][0], self.ffn.layers[1])


@MODELS.register_module()
class CLIPVisionEncoder(PatchEncoder):
    """CLIP's vision transformer (Radford et al., ICML 2021, section 2.4) with its projection to the joint space.

    Args:
        width: Channels W of the tokens.
        depth: Number of blocks.
        heads: Attention heads; CLIP has one per 64 channels.
        patch_size: Side of a square patch in pixels.
        embed_dim: Channels D of the joint space.
        img_size: (height, width) of the images in pixels, multiples of ``patch_size``; M patches in all.
        with_cp: Whether training keeps only the blocks' inputs and computes the rest again in the backward pass:
            a fraction of the memory for a third more time, with the same gradients.

    Raises:
        ValueError: Width and heads, or image and patch size, do not divide.

    Config::

        image_encoder=dict(
            type='CLIPVisionEncoder', width=768, depth=12, heads=12, patch_size=16, embed_dim=512, img_size=(384, 128))
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        patch_size: int,
        embed_dim: int,
        img_size: tuple[int, int] = (384, 128),
        with_cp: bool = False,
    ) -> None:
        super().__init__(
            width,
            depth,
            heads,
            patch_size,
            embed_dim,
            img_size,
            with_cp,
            bias=False,
            norm_cfg={"type": "LN", "eps": 1e-5},
            layer_cfgs={"act_cfg": {"type": QuickGELU}},
            pre_norm=True,
        )
        for layer in self.layers:
            layer.__class__ = ImageBlock  # as built and initialised by mmpretrain; only the forward pass is ours
        nn.init.normal_(self.projection.weight, std=width**-0.5)
        nn.init.normal_(self.cls_token, std=width**-0.5)

    def encode(self, image: torch.Tensor, layers: Iterable[int] = ()) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Features and, of the same pass, hidden states.

        The last block is computed for [CLS] alone unless ``layers`` has it: nothing else is read.

        Args:
            image: As for :meth:`hidden_states`.
            layers: As for :meth:`hidden_states`, or none.

        Returns:
            Image features (B, D), before L2 normalisation, and tokens (B, 1 + M, W) after each of ``layers``.
        """
        layers = list(layers)
        if self.depth in layers:
            *states, last = self.hidden_states(image, [*layers, self.depth])
        else:
            *states, x = self.hidden_states(image, [*layers, self.depth - 1])
            last = run_block(self.layers[-1], self.with_cp, x, True)
        return self.pool(last), states

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """Image features (B, D), before L2 normalisation, of the last hidden state (B, 1 + M, W) or its [CLS] alone."""
        return self.project(hidden[:, 0])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Image features (B, D), before L2 normalisation, of normalised float pixels (B, 3, H, W)."""
        return self.encode(image)[0]
