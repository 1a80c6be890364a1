"""Captions of different lengths without their padding."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Packing:
    """Where the tokens of captions, up to EOT, stand among all their tokens: T of B * N.

    Attributes:
        rows: int64 (T,), places in the flattened (B * N), in order; None where padding is kept, too, and T is B * N.
        eot: int64 (B,), places of each caption's EOT among the T.
        visible: bool (B, N), true up to EOT.
    """

    rows: torch.Tensor | None
    eot: torch.Tensor
    visible: torch.Tensor

    @classmethod
    def of(cls, text: torch.Tensor, lengths: Sequence[int] | None = None) -> "Packing":
        """Packing of int64 ids (B, N).

        Args:
            text: Ids.
            lengths: Tokens of each caption, EOT included. Where they are not given, the host waits for a GPU to say.
        """
        count = text.argmax(dim=1) + 1  # EOT is the largest id
        total = int(count.sum()) if lengths is None else sum(lengths)
        end = count.cumsum(dim=0)  # (B,)
        first = torch.arange(len(text), device=text.device) * text.shape[1]
        shift = (first - (end - count)).repeat_interleave(count, output_size=total)  # (T,)
        rows = torch.arange(total, device=text.device) + shift
        position = torch.arange(text.shape[1], device=text.device)
        return cls(rows, end - 1, position < count[:, None])

    @classmethod
    def whole(cls, text: torch.Tensor) -> "Packing":
        """Packing of int64 ids (B, N) that keeps their padding, for what reads beyond EOT."""
        last = text.argmax(dim=1)  # EOT is the largest id
        first = torch.arange(len(text), device=text.device) * text.shape[1]
        position = torch.arange(text.shape[1], device=text.device)
        return cls(None, first + last, position <= last[:, None])

    def pack(self, x: torch.Tensor) -> torch.Tensor:
        """(T, W) of (B, N, W)."""
        x = x.flatten(0, 1)
        return x if self.rows is None else x.index_select(0, self.rows)

    def unpack(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, W) of (T, W), zero where a caption's padding was not kept."""
        shape = self.visible.shape
        if self.rows is None:
            return x.unflatten(0, shape)
        return x.new_zeros(shape.numel(), x.shape[-1]).index_copy(0, self.rows, x).unflatten(0, shape)
