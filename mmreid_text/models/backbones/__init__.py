"""Encoders of images and captions."""

from mmreid_text.models.backbones.clip_text_encoder import CLIPTextEncoder
from mmreid_text.models.backbones.clip_vision_encoder import CLIPVisionEncoder

__all__ = ["CLIPTextEncoder", "CLIPVisionEncoder"]
