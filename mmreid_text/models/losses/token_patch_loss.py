"""Contrast of captions and images by their tokens."""

import torch
import torch.nn.functional as F
from torch import nn

from mmreid_text.models.losses.itc_loss import itc_loss
from mmreid_text.models.token_noise import real_tokens
from mmreid_text.registry import MODELS


def token_patch_similarity(image_tokens: torch.Tensor, text_tokens: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    r"""Mean over a caption's tokens of the best cosine with any patch: FILIP's late interaction (ICLR 2022, Eq. 4).

    It is also 1 minus the mean of Eq. 2 of Tan et al., CVPR 2024, over the caption, for every image with every caption.

    Args:
        image_tokens: (B, 1 + M, D), [CLS] first, which does not count.
        text_tokens: (B, N, D).
        text: int64 (B, N), whose tokens between SOT and EOT count.

    Returns:
        float32 (B, B) in [-1, 1], images in rows; a caption without tokens has 0 with every image.
    """
    with torch.autocast(text_tokens.device.type, enabled=False):
        patches = F.normalize(image_tokens[:, 1:].float(), dim=-1)  # (B, M, D)
        tokens = F.normalize(text_tokens.float(), dim=-1)
        best = torch.einsum("ipd,tnd->itnp", patches, tokens).amax(dim=3)  # (B, B, N)
        real = real_tokens(text)  # (B, N); multiplied, because picking would make the host wait for the device
        return (best * real).sum(dim=2) / real.sum(dim=1).clamp(min=1)


@MODELS.register_module()
class TokenPatchLoss(nn.Module):
    """Image-text contrast over :func:`token_patch_similarity`, which teaches words to find their patches.

    A CLIP that was pre-trained at scale has some of this alignment, which noise-aware masking reads; a tiny one that
    is pre-trained from nothing needs to be told. Contrasts the pairs of one rank.

    Args:
        layer: Blocks after which tokens are taken, as in ``PatchSimilarityNoise``.
        tau: Temperature.
        max_pairs: Pairs of the batch that are contrasted, the first ones; bounds the memory, which grows with its
            square.

    Use in configs::

        model = dict(token_loss=dict(type='TokenPatchLoss', layer=10))
    """

    def __init__(self, layer: int = 10, tau: float = 0.05, max_pairs: int = 64) -> None:
        super().__init__()
        if layer < 1 or tau <= 0 or max_pairs < 2:
            raise ValueError(
                "TokenPatchLoss needs layer >= 1, tau > 0 and max_pairs >= 2, "
                f"got layer={layer}, tau={tau} and max_pairs={max_pairs}"
            )
        self.layer = layer
        self.tau = tau
        self.max_pairs = max_pairs

    def forward(self, image_tokens: torch.Tensor, text_tokens: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
        """Scalar loss of image_tokens (B, 1 + M, D), text_tokens (B, N, D) and text int64 (B, N)."""
        n = self.max_pairs
        return itc_loss(token_patch_similarity(image_tokens[:n], text_tokens[:n], text[:n]), self.tau)
