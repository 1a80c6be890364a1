"""Pipeline steps: decode and augment images, tokenize captions, pack tensors."""

from mmreid_text.datasets.transforms.formatting import PackSample
from mmreid_text.datasets.transforms.identities import HideIdentity
from mmreid_text.datasets.transforms.image import LoadImage, PadCrop, RandomErasing, RandomFlip, Resize
from mmreid_text.datasets.transforms.text import Tokenize
from mmreid_text.datasets.transforms.wordpiece import WordPieceTokenizer
from mmreid_text.datasets.transforms.words import WordTokenizer

__all__ = [
    "HideIdentity",
    "LoadImage",
    "PackSample",
    "PadCrop",
    "RandomErasing",
    "RandomFlip",
    "Resize",
    "Tokenize",
    "WordPieceTokenizer",
    "WordTokenizer",
]
