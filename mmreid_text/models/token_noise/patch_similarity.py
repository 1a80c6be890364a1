"""Noise of a token as its distance from the nearest image patch."""

import torch
import torch.nn.functional as F
from torch import nn

from mmreid_text.registry import MODELS


@MODELS.register_module()
class PatchSimilarityNoise(nn.Module):
    r"""Noise level of every text token, Eq. 1 and 2 of Tan et al., CVPR 2024.

    :math:`r_i = 1 - \max_j s_{ij}` with *s* the cosine similarity between text token *i* and image patch *j*, both
    taken after ``layer`` and brought to the joint space. The [CLS] token is no patch and does not count.

    Args:
        layer: Blocks passed before the tokens are compared, from 1 to the encoders' depth.

    Use in configs::

        model = dict(token_noise=dict(type='PatchSimilarityNoise', layer=10))
    """

    def __init__(self, layer: int = 10) -> None:
        super().__init__()
        if layer < 1:
            raise ValueError(f"PatchSimilarityNoise: layer must be at least 1, got {layer}")
        self.layer = layer

    @torch.no_grad()
    def forward(self, text_tokens: torch.Tensor, image_tokens: torch.Tensor) -> torch.Tensor:
        """Noise r float32 (B, N) in [0, 2] of text_tokens (B, N, D) against image_tokens (B, 1 + M, D)."""
        with torch.autocast(text_tokens.device.type, enabled=False):
            text = F.normalize(text_tokens.float(), dim=-1)
            patches = F.normalize(image_tokens[:, 1:].float(), dim=-1)  # (B, M, D)
            return 1 - (text @ patches.transpose(1, 2)).amax(dim=-1)


def real_tokens(text: torch.Tensor) -> torch.Tensor:
    """Bool (B, N): the tokens strictly between SOT and EOT of text int64 (B, N).

    By position, because a ``!`` inside a word has the id of padding, 0.
    """
    position = torch.arange(text.shape[1], device=text.device)
    return (position > 0) & (position < text.argmax(dim=1, keepdim=True))  # EOT is the largest id


def masking_probability(r: torch.Tensor, text: torch.Tensor, p: float) -> torch.Tensor:
    """Probability of masking each token, Eq. 3 and 4 of Tan et al., CVPR 2024, clipped to [0, 1].

    The noise of a caption is shifted so that its mean over the real tokens is ``p``.

    Args:
        r: Noise, float (B, N).
        text: int64 (B, N), 0-padded CLIP ids with SOT and EOT.
        p: Average share of masked tokens, in [0, 1].

    Returns:
        float (B, N), 0 at SOT, EOT and padding; a caption without real tokens is all 0.
    """
    real = real_tokens(text)
    total = torch.where(real, r, r.new_zeros(())).sum(dim=1, keepdim=True)
    mean = total / real.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.where(real, (r - mean + p).clamp(0, 1), r.new_zeros(()))
