"""Retrievers: whole models that match images and captions."""

from mmreid_text.models.retrievers.cmmt import CMMT
from mmreid_text.models.retrievers.dual_encoder import DualEncoder
from mmreid_text.models.retrievers.irra import IRRA
from mmreid_text.models.retrievers.separate_encoders import SeparateEncoders
from mmreid_text.models.retrievers.unipt import UniPT
from mmreid_text.models.retrievers.unipt_retriever import UniPTRetriever

__all__ = ["CMMT", "IRRA", "DualEncoder", "SeparateEncoders", "UniPT", "UniPTRetriever"]
