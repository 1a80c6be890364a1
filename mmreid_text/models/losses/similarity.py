"""What the pair losses share: cosine similarities of the whole batch."""

import torch
import torch.nn.functional as F

from mmreid_text.engine.distributed import all_gather_with_grad


def global_similarity(image_feats: torch.Tensor, text_feats: torch.Tensor) -> torch.Tensor:
    """Cosine similarity of every image with every text of all ranks.

    In float64, whatever autocast says: a temperature of 0.02 magnifies what float32 loses on features that are much
    alike (measured: gradients four to seven times closer to float64 ones), and the matrix is small. What ranks exchange
    is float64 as well, or gradients of half-precision features would be summed in half precision.

    Args:
        image_feats: (B, D), any norm and precision.
        text_feats: (B, D).

    Returns:
        float64 (W * B, W * B) in [-1, 1], images in rows.
    """
    image, text = (all_gather_with_grad(x.double()) for x in (image_feats, text_feats))
    return local_similarity(image, text)


def local_similarity(image_feats: torch.Tensor, text_feats: torch.Tensor) -> torch.Tensor:
    """The same, float64 (B, B), of the pairs of this rank alone."""
    with torch.autocast(image_feats.device.type, enabled=False):
        return F.normalize(image_feats.double(), dim=1) @ F.normalize(text_feats.double(), dim=1).t()


def global_features(feats: torch.Tensor) -> torch.Tensor:
    """Features of all ranks with gradient, float64 (W * B, D) of features (B, D) of any precision."""
    return all_gather_with_grad(feats.double())


def at_least_float32(loss: torch.Tensor, feats: torch.Tensor) -> torch.Tensor:
    """The loss in the precision of the features, float32 where that is half."""
    return loss.to(torch.promote_types(feats.dtype, torch.float32))
