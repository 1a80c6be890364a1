"""Attention maps: which patches an image encoder's [CLS] token looks at."""

from typing import Any

import torch
from torch import nn


@torch.no_grad()
def attention_maps(encoder: nn.Module, image: torch.Tensor, layer: int | None = None) -> torch.Tensor:
    """Attention of [CLS] to the patches in one block, mean over heads.

    The encoder's own pass never holds attention weights; here the block's input is computed as ever, and the weights of
    [CLS] from its queries and keys.

    Args:
        encoder: A vision transformer such as ``CLIPVisionEncoder``, whose blocks are mmpretrain's.
        image: float32 (B, 3, H, W), normalised pixels of the encoder's ``img_size``.
        layer: Block, from 1; None takes the last.

    Returns:
        float32 (B, rows, columns), at least 0. A map's sum is 1 less what [CLS] gives to itself.

    Raises:
        TypeError: The encoder has no such blocks.
        ValueError: There is no block of that number.
    """
    blocks = getattr(encoder, "layers", None)
    if not isinstance(blocks, nn.ModuleList) or not all(hasattr(block, "attn") for block in blocks):
        raise TypeError(f"attention maps need a vision transformer, and {type(encoder).__name__} is none")
    vision: Any = encoder
    layer = len(blocks) if layer is None else layer
    if not 1 <= layer <= len(blocks):
        raise ValueError(f"layer {layer} of an encoder of {len(blocks)} blocks asked: give 1..{len(blocks)}")
    block: Any = blocks[layer - 1]
    (hidden,) = vision.hidden_states(image, [layer - 1])
    qkv = block.attn.qkv(block.ln1(hidden)).float().unflatten(-1, (3, block.attn.num_heads, -1))
    query, key, _ = qkv.unbind(2)  # each (B, 1 + M, heads, d)
    scores = torch.einsum("bhd,bnhd->bhn", query[:, 0], key) / query.shape[-1] ** 0.5
    weights = scores.softmax(dim=-1).mean(dim=1)  # (B, 1 + M)
    return weights[:, 1:].unflatten(-1, vision.grid)
