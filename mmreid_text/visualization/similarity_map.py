"""Similarity maps: which patches of an image agree with a word, and heat laid over the image."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib import colormaps

COLOURS = "inferno"
_OPACITY = (0.25, 0.75)  # of the heat where it is lowest and highest: the crop stays visible below both


def similarity_maps(text_tokens: torch.Tensor, image_tokens: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Cosine similarity s of every text token and every patch, as in Eq. 1 of Tan et al., CVPR 2024.

    Args:
        text_tokens: float (N, D) in the joint space.
        image_tokens: float (1 + M, D) of one image, [CLS] first, which has no place in a map.
        grid: Rows and columns of patches, M in all.

    Returns:
        float32 (N, rows, columns) in [-1, 1].
    """
    text = F.normalize(text_tokens.float(), dim=-1)
    patches = F.normalize(image_tokens[1:].float(), dim=-1)  # (M, D)
    return (text @ patches.T).unflatten(-1, grid)


def overlay(image: np.ndarray, heat: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Lay a map over the image that it belongs to: dark where it is low, yellow where it is high.

    Args:
        image: uint8 (H, W, 3) RGB.
        heat: float (h, w), any grid that covers the image.
        limits: Values that the colours begin and end at; None takes the map's own least and largest. Maps that are
            compared need the same.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: The image is no uint8 (H, W, 3), or the map is no (h, w) of finite numbers.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"an image must be uint8 (H, W, 3) RGB, got {image.dtype} {image.shape}")
    heat = np.asarray(heat, dtype=np.float32)
    if heat.ndim != 2 or not heat.size or not np.isfinite(heat).all():
        raise ValueError(f"a map must be finite numbers (h, w), got an array {heat.shape}")
    low, high = limits or (float(heat.min()), float(heat.max()))
    level = np.clip((heat - low) / (high - low), 0, 1) if high > low else np.zeros_like(heat)
    level = np.clip(cv2.resize(level, image.shape[1::-1], interpolation=cv2.INTER_CUBIC), 0, 1)
    opacity = (_OPACITY[0] + (_OPACITY[1] - _OPACITY[0]) * level)[..., None]
    colours = 255 * colormaps[COLOURS](level)[..., :3]
    return np.rint(opacity * colours + (1 - opacity) * image).astype(np.uint8)
