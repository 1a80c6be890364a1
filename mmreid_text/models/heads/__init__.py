"""Heads over the encoders' tokens."""

from mmreid_text.models.heads.relation import CrossModalRelation, MaskedLanguageHead

__all__ = ["CrossModalRelation", "MaskedLanguageHead"]
