"""Back ends: what answers a captioning request."""

from mmreid_text.captioning.backends.base import (
    BackendError,
    CaptionAnswer,
    CaptionBackend,
    CaptionRequest,
    UnreadableImage,
)
from mmreid_text.captioning.backends.openai_server import OpenAIServer
from mmreid_text.captioning.backends.procedural import Procedural
from mmreid_text.captioning.backends.transformers_local import TransformersLocal

__all__ = [
    "BackendError",
    "CaptionAnswer",
    "CaptionBackend",
    "CaptionRequest",
    "OpenAIServer",
    "Procedural",
    "TransformersLocal",
    "UnreadableImage",
]
