"""Heads over the encoders' tokens."""

from mmreid_text.models.heads.pgu import PGU
from mmreid_text.models.heads.relation import CrossModalRelation, MaskedLanguageHead

__all__ = ["PGU", "CrossModalRelation", "MaskedLanguageHead"]
