"""The short way in: models, features and searches without a runner."""

from mmreid_text.apis.clip import build_clip, tokenize
from mmreid_text.apis.explain import Explanation, explain
from mmreid_text.apis.gallery import Gallery, Hit
from mmreid_text.apis.inferencer import TextReIDInferencer
from mmreid_text.apis.peers import load_peer

__all__ = [
    "Explanation",
    "Gallery",
    "Hit",
    "TextReIDInferencer",
    "build_clip",
    "explain",
    "load_peer",
    "tokenize",
]
