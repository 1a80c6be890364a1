"""Running a transformer's blocks no deeper than asked."""

from collections.abc import Iterable
from itertools import islice
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def run_blocks(
    blocks: nn.ModuleList, x: torch.Tensor, layers: Iterable[int], with_cp: bool, *args: Any
) -> list[torch.Tensor]:
    """Hidden states after the given numbers of blocks, in the order asked; 0 is the blocks' input.

    Blocks beyond the deepest layer asked are not computed. ``args`` go to every block.

    Raises:
        ValueError: A layer is outside 0..depth, or none is given.
    """
    layers = list(layers)
    wrong = [layer for layer in layers if not 0 <= layer <= len(blocks)]
    if wrong or not layers:
        raise ValueError(
            f"Layers {wrong or layers} asked of an encoder of {len(blocks)} blocks: give 0..{len(blocks)}."
        )
    states = {0: x}
    for depth, block in enumerate(islice(blocks, max(layers)), start=1):
        x = run_block(block, with_cp, x, *args)
        if depth in layers:
            states[depth] = x
    return [states[layer] for layer in layers]


def run_block(block: nn.Module, with_cp: bool, *args: Any) -> torch.Tensor:
    """A block's output; ``with_cp`` keeps its inputs only and computes the rest again in the backward pass."""
    if with_cp and torch.is_grad_enabled():
        return checkpoint(block, *args, use_reentrant=False)
    return block(*args)
