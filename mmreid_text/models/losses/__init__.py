"""Losses over pairs of image and text features: each a pure function and a thin module."""

from mmreid_text.models.losses.itc_loss import ITCLoss, itc_loss
from mmreid_text.models.losses.sdm_loss import SDMLoss, sdm_loss
from mmreid_text.models.losses.token_patch_loss import TokenPatchLoss, token_patch_similarity

__all__ = ["ITCLoss", "SDMLoss", "TokenPatchLoss", "itc_loss", "sdm_loss", "token_patch_similarity"]
