"""Losses: each a pure function and a thin module."""

from mmreid_text.models.losses.identity_loss import IdentityLoss, identity_loss
from mmreid_text.models.losses.itc_loss import ITCLoss, itc_loss
from mmreid_text.models.losses.masked_language_loss import MaskedLanguageLoss, masked_language_loss, masked_positions
from mmreid_text.models.losses.sdm_loss import SDMLoss, sdm_loss
from mmreid_text.models.losses.tal_loss import TALLoss, tal_loss
from mmreid_text.models.losses.token_patch_loss import TokenPatchLoss, token_patch_similarity

__all__ = [
    "ITCLoss",
    "IdentityLoss",
    "MaskedLanguageLoss",
    "SDMLoss",
    "TALLoss",
    "TokenPatchLoss",
    "identity_loss",
    "itc_loss",
    "masked_language_loss",
    "masked_positions",
    "sdm_loss",
    "tal_loss",
    "token_patch_similarity",
]
