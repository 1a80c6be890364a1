"""Pipeline steps: decode and augment images, tokenize captions, pack tensors."""

from mmreid_text.datasets.transforms.formatting import PackSample
from mmreid_text.datasets.transforms.image import LoadImage, PadCrop, RandomErasing, RandomFlip, Resize
from mmreid_text.datasets.transforms.text import Tokenize

__all__ = ["LoadImage", "PackSample", "PadCrop", "RandomErasing", "RandomFlip", "Resize", "Tokenize"]
