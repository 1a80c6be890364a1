"""ImageNet's vision transformers as image encoders: features are the maximum over projected tokens."""

from collections.abc import Iterable

import torch
from torch import nn

from mmreid_text.models.backbones.patch_encoder import PatchEncoder
from mmreid_text.registry import MODELS


@MODELS.register_module()
class ViTEncoder(PatchEncoder):
    """ViT or DeiT (Dosovitskiy et al., ICLR 2021; Touvron et al., ICML 2021) on mmpretrain's vision transformer.

    As in UniPT (Shao et al., ICCV 2023, section 4.1) a linear layer brings every token to the joint space, and a
    feature is the maximum over them, [CLS] included. ViT-B/16 is the default; DeiT-S has ``width=384, heads=6``.

    Args:
        width: Channels W of the tokens.
        depth: Number of blocks.
        heads: Attention heads.
        patch_size: Side of a square patch in pixels.
        embed_dim: Channels D of the joint space.
        img_size: (height, width) of the images in pixels, multiples of ``patch_size``; M patches in all.
        with_cp: Whether training keeps only the blocks' inputs and computes the rest again in the backward pass.

    Raises:
        ValueError: Width and heads, or image and patch size, do not divide.

    Config::

        image_encoder=dict(
            type='ViTEncoder', width=768, depth=12, heads=12, patch_size=16, embed_dim=768, img_size=(384, 128))
    """

    def __init__(
        self,
        width: int = 768,
        depth: int = 12,
        heads: int = 12,
        patch_size: int = 16,
        embed_dim: int = 768,
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
            bias=True,
            norm_cfg={"type": "LN", "eps": 1e-6},
        )
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.projection.weight, std=0.02)
        nn.init.zeros_(self.projection.bias)

    def encode(self, image: torch.Tensor, layers: Iterable[int] = ()) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Features and, of the same pass, hidden states.

        Args:
            image: As for :meth:`hidden_states`.
            layers: As for :meth:`hidden_states`, or none.

        Returns:
            Image features (B, D), before L2 normalisation, and tokens (B, 1 + M, W) after each of ``layers``.
        """
        *states, last = self.hidden_states(image, [*layers, self.depth])
        return self.pool(last), states

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """Image features (B, D), before L2 normalisation, of the last hidden state (B, 1 + M, W)."""
        return self.project(hidden).amax(dim=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Image features (B, D), before L2 normalisation, of normalised float pixels (B, 3, H, W)."""
        return self.encode(image)[0]
