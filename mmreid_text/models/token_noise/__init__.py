"""Estimators of how badly each word fits its image."""

from mmreid_text.models.token_noise.patch_similarity import PatchSimilarityNoise, masking_probability, real_tokens

__all__ = ["PatchSimilarityNoise", "masking_probability", "real_tokens"]
