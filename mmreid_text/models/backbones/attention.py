"""Attention of both encoders' blocks."""

import torch
import torch.nn.functional as F


def attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    heads: int,
    visible: torch.Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Scaled dot-product attention in the kernel that the device has for it; weights are never held whole.

    Args:
        query: float (B, Q, W).
        key: float (B, N, W).
        value: float (B, N, W).
        heads: Number of heads, which divides W.
        visible: bool (B, N), keys that the queries may see; default all.
        causal: Whether query *i* sees keys 0..i only; Q is N then.
        dropout: Share of attention weights that are dropped.

    Returns:
        (B, Q, W).
    """
    query, key, value = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (query, key, value))  # (B, heads, N, d)
    mask = None if visible is None else visible[:, None, None]
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=causal)
    return out.transpose(1, 2).flatten(2)
