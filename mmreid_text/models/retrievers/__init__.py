"""Retrievers: whole models that match images and captions."""

from mmreid_text.models.retrievers.dual_encoder import DualEncoder
from mmreid_text.models.retrievers.irra import IRRA

__all__ = ["IRRA", "DualEncoder"]
