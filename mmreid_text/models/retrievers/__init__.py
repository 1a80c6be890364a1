"""Retrievers: whole models that match images and captions."""

from mmreid_text.models.retrievers.dual_encoder import DualEncoder

__all__ = ["DualEncoder"]
