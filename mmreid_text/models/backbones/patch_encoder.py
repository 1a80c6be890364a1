"""mmpretrain's vision transformer over images of any aspect, as an image encoder with a joint space."""

from collections.abc import Iterable
from typing import Any

import mmpretrain.utils.dependency as mmpretrain_dependency
import torch
from torch import nn

from mmreid_text.models.backbones.hidden_states import run_blocks

# With transformers 5 and pycocotools installed, mmpretrain's multimodal models fail at import; none is used here.
mmpretrain_dependency.WITH_MULTIMODAL = False
from mmpretrain.models import VisionTransformer  # noqa: E402
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer  # noqa: E402
from mmpretrain.models.utils import resize_pos_embed  # noqa: E402

__all__ = ["PatchEncoder", "TransformerEncoderLayer", "resize_positions"]


class PatchEncoder(VisionTransformer):
    """What the vision transformers here share: sizes, hidden states, and a checkpoint's positions on another grid.

    Args:
        width: Channels W of the tokens.
        depth: Number of blocks.
        heads: Attention heads.
        patch_size: Side of a square patch in pixels.
        embed_dim: Channels D of the joint space.
        img_size: (height, width) of the images in pixels, multiples of ``patch_size``; M patches in all.
        with_cp: Whether training keeps only the blocks' inputs and computes the rest again in the backward pass:
            a fraction of the memory for a third more time, with the same gradients.
        bias: Whether the projection to the joint space has one.
        options: Of mmpretrain's ``VisionTransformer``.

    Raises:
        ValueError: Width and heads, or image and patch size, do not divide.
    """

    layout: torch.Tensor

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        patch_size: int,
        embed_dim: int,
        img_size: tuple[int, int],
        with_cp: bool,
        bias: bool,
        **options: Any,
    ) -> None:
        height, breadth = img_size
        if height % patch_size or breadth % patch_size or min(height, breadth) < patch_size:
            raise ValueError(f"img_size={tuple(img_size)} is no multiple of patch_size={patch_size} on both sides.")
        if width % heads:
            raise ValueError(f"{type(self).__name__}: width={width} does not divide into heads={heads}.")
        super().__init__(
            arch={"embed_dims": width, "num_layers": depth, "num_heads": heads, "feedforward_channels": 4 * width},
            img_size=(height, breadth),
            patch_size=patch_size,
            out_type="raw",
            interpolate_mode="bilinear",
            **options,
        )
        self.with_cp = with_cp
        self.depth = depth
        self.embed_dim = embed_dim
        self.patch_size = patch_size
        self.projection = nn.Linear(width, embed_dim, bias=bias)
        # What the shapes of the weights do not tell, kept in checkpoints: rows and columns of patches, and heads.
        self.register_buffer("layout", torch.tensor([*self.patch_resolution, heads]))

    @property
    def grid(self) -> tuple[int, int]:
        """(rows, columns) of patches."""
        return tuple(self.patch_resolution)

    def hidden_states(self, image: torch.Tensor, layers: Iterable[int]) -> list[torch.Tensor]:
        """Tokens after the given numbers of blocks, each (B, 1 + M, W), [CLS] first, before norm and projection.

        Args:
            image: float (B, 3, H, W), normalised pixels of ``img_size``.
            layers: Numbers of blocks in 0..depth; blocks beyond the largest are not computed.

        Raises:
            ValueError: The image has another size than ``img_size``, or a layer does not exist.
        """
        if image.shape[-2:] != self.img_size:
            raise ValueError(
                f"Image of {tuple(image.shape[-2:])} given to an encoder of img_size={tuple(self.img_size)}: "
                "resize the images or build the encoder with their size."
            )
        x, _ = self.patch_embed(image)  # (B, M, W)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1) + self.pos_embed
        return run_blocks(self.layers, self.pre_norm(x), layers, self.with_cp)

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """Bring hidden states (..., W) of any layer to the joint space (..., D): final norm, then projection."""
        return self.projection(self.ln1(hidden))

    def _prepare_pos_embed(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        # The parent takes every other grid for a square one; a checkpoint of this class states its grid.
        name = prefix + "pos_embed"
        if name not in state_dict or prefix + "layout" not in state_dict:
            return
        layout = state_dict[prefix + "layout"]
        state_dict[name] = resize_positions(state_dict[name], tuple(layout[:2].tolist()), self.grid)
        if state_dict[name].shape == self.pos_embed.shape:
            state_dict[prefix + "layout"] = torch.cat((self.layout[:2].to(layout), layout[2:]))


def resize_positions(positions: torch.Tensor, source: tuple[int, int], target: tuple[int, int]) -> torch.Tensor:
    """Resize position embeddings (1, 1 + M, W) from a (rows, columns) grid to another, [CLS] kept.

    Bilinear with half-pixel centres and without antialiasing, as IRRA (CVPR 2023) resizes CLIP's 14x14 grid to 24x8.
    """
    if source == target:
        return positions
    return resize_pos_embed(positions, source, target, mode="bilinear", num_extra_tokens=1)
