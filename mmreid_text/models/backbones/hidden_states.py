"""Running a transformer's blocks no deeper than asked."""

from collections.abc import Iterable
from itertools import islice

import torch
from torch import nn


def run_blocks(blocks: nn.ModuleList, x: torch.Tensor, layers: Iterable[int], **kwargs: object) -> list[torch.Tensor]:
    """Hidden states after the given numbers of blocks, in the order asked; 0 is the blocks' input.

    Blocks beyond the deepest layer asked are not computed. ``kwargs`` go to every block.

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
        x = block(x, **kwargs)
        if depth in layers:
            states[depth] = x
    return [states[layer] for layer in layers]
