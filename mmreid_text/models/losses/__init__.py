"""Losses: each a pure function and a thin module."""

from mmreid_text.models.losses.cluster_memory import ClusterMemory, cluster_loss, moved_centroids
from mmreid_text.models.losses.cmpc_loss import CMPCLoss, cmpc_loss
from mmreid_text.models.losses.cmpm_loss import CMPMLoss, TextIoUCMPMLoss, cmpm_loss
from mmreid_text.models.losses.hard_mining_loss import HardMiningLoss, hard_mining_loss
from mmreid_text.models.losses.identity_loss import IdentityLoss, identity_loss
from mmreid_text.models.losses.itc_loss import ITCLoss, itc_loss
from mmreid_text.models.losses.masked_language_loss import MaskedLanguageLoss, masked_language_loss, masked_positions
from mmreid_text.models.losses.ranking_loss import RankingLoss, ranking_loss
from mmreid_text.models.losses.sdm_loss import SDMLoss, sdm_loss
from mmreid_text.models.losses.tal_loss import TALLoss, tal_loss
from mmreid_text.models.losses.token_patch_loss import TokenPatchLoss, token_patch_similarity

__all__ = [
    "CMPCLoss",
    "CMPMLoss",
    "ClusterMemory",
    "HardMiningLoss",
    "ITCLoss",
    "IdentityLoss",
    "MaskedLanguageLoss",
    "RankingLoss",
    "SDMLoss",
    "TALLoss",
    "TextIoUCMPMLoss",
    "TokenPatchLoss",
    "cluster_loss",
    "cmpc_loss",
    "cmpm_loss",
    "hard_mining_loss",
    "identity_loss",
    "itc_loss",
    "masked_language_loss",
    "masked_positions",
    "moved_centroids",
    "ranking_loss",
    "sdm_loss",
    "tal_loss",
    "token_patch_similarity",
]
