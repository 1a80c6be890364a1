"""CLIP's image encoder on mmpretrain's vision transformer."""

from collections.abc import Iterable
from typing import Any

import mmpretrain.utils.dependency as mmpretrain_dependency
import torch
import torch.nn.functional as F
from torch import nn

from mmreid_text.models.backbones.attention import attend
from mmreid_text.models.backbones.hidden_states import run_block, run_blocks
from mmreid_text.models.backbones.quick_gelu import QuickGELU, quick_gelu_mlp
from mmreid_text.registry import MODELS

# With transformers 5 and pycocotools installed, mmpretrain's multimodal models fail at import; none is used here.
mmpretrain_dependency.WITH_MULTIMODAL = False
from mmpretrain.models import VisionTransformer  # noqa: E402
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer  # noqa: E402
from mmpretrain.models.utils import resize_pos_embed  # noqa: E402


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
class CLIPVisionEncoder(VisionTransformer):
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

    layout: torch.Tensor

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
        height, breadth = img_size
        if height % patch_size or breadth % patch_size or min(height, breadth) < patch_size:
            raise ValueError(f"img_size={tuple(img_size)} is no multiple of patch_size={patch_size} on both sides.")
        if width % heads:
            raise ValueError(f"CLIPVisionEncoder: width={width} does not divide into heads={heads}.")
        super().__init__(
            arch={"embed_dims": width, "num_layers": depth, "num_heads": heads, "feedforward_channels": 4 * width},
            img_size=(height, breadth),
            patch_size=patch_size,
            norm_cfg={"type": "LN", "eps": 1e-5},
            layer_cfgs={"act_cfg": {"type": QuickGELU}},
            pre_norm=True,
            out_type="raw",
            interpolate_mode="bilinear",
        )
        for layer in self.layers:
            layer.__class__ = ImageBlock  # as built and initialised by mmpretrain; only the forward pass is ours
        self.with_cp = with_cp
        self.depth = depth
        self.embed_dim = embed_dim
        self.patch_size = patch_size
        self.projection = nn.Linear(width, embed_dim, bias=False)
        nn.init.normal_(self.projection.weight, std=width**-0.5)
        nn.init.normal_(self.cls_token, std=width**-0.5)
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

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """Bring hidden states (..., W) of any layer to the joint space (..., D): final norm, then projection."""
        return self.projection(self.ln1(hidden))

    def pool(self, hidden: torch.Tensor) -> torch.Tensor:
        """Image features (B, D), before L2 normalisation, of the last hidden state (B, 1 + M, W) or its [CLS] alone."""
        return self.project(hidden[:, 0])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Image features (B, D), before L2 normalisation, of normalised float pixels (B, 3, H, W)."""
        return self.encode(image)[0]

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
