"""The short way in: models and token ids without a config."""

from mmreid_text.apis.clip import build_clip, tokenize
from mmreid_text.apis.peers import load_peer

__all__ = ["build_clip", "load_peer", "tokenize"]
