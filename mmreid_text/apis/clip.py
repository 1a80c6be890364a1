"""CLIP with weights, and its token ids."""

from collections.abc import Sequence

import torch

from mmreid_text.datasets.transforms.tokenizer import get_tokenizer
from mmreid_text.models.checkpoints import load_clip, load_into
from mmreid_text.models.retrievers.dual_encoder import DualEncoder


def build_clip(checkpoint: str, img_size: tuple[int, int] = (384, 128)) -> DualEncoder:
    """Build the dual encoder that a checkpoint states, with its weights, in evaluation mode, on the CPU.

    Args:
        checkpoint: A file or folder, or a Hugging Face name; see :func:`mmreid_text.models.checkpoints.load_clip`.
        img_size: (height, width) in pixels, multiples of the patch size; the position grid is resized to it.

    Raises:
        FileNotFoundError: There is no such file, or the hub cannot be reached.
        ValueError: The file holds no CLIP vision transformer.

    >>> model = build_clip('openai/clip-vit-base-patch16')  # doctest: +SKIP
    >>> model.encode_text(tokenize(['A woman in a red coat.'])).shape  # doctest: +SKIP
    torch.Size([1, 512])
    """
    weights = load_clip(checkpoint, img_size)
    arch = weights.arch
    model = DualEncoder(
        image_encoder=dict(type="mmreid_text.CLIPVisionEncoder", img_size=tuple(img_size), **arch.image_encoder()),
        text_encoder=dict(type="mmreid_text.CLIPTextEncoder", **arch.text_encoder()),
    )
    load_into(model, weights)
    model.is_init = True  # a runner that trains it keeps these weights
    model.eval()
    return model


def tokenize(sentences: Sequence[str]) -> torch.Tensor:
    """CLIP token ids int64 (B, 77) of B sentences: SOT 49406, tokens, EOT 49407, zeros.

    >>> tokenize(['a red coat'])[0, :6].tolist()
    [49406, 320, 736, 7356, 49407, 0]
    """
    return torch.from_numpy(get_tokenizer()(sentences))
