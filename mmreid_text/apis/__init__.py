"""The short way in: models and token ids without a config."""

from mmreid_text.apis.clip import build_clip, tokenize

__all__ = ["build_clip", "tokenize"]
