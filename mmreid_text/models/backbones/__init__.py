"""Encoders of images and captions."""

from mmreid_text.models.backbones.bert_text_encoder import BertTextEncoder
from mmreid_text.models.backbones.bilstm_text_encoder import BiLSTMTextEncoder
from mmreid_text.models.backbones.clip_text_encoder import CLIPTextEncoder
from mmreid_text.models.backbones.clip_vision_encoder import CLIPVisionEncoder
from mmreid_text.models.backbones.resnet_encoder import ResNetEncoder
from mmreid_text.models.backbones.vit_encoder import ViTEncoder

__all__ = [
    "BertTextEncoder",
    "BiLSTMTextEncoder",
    "CLIPTextEncoder",
    "CLIPVisionEncoder",
    "ResNetEncoder",
    "ViTEncoder",
]
