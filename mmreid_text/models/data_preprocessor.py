"""From collated batches to what the model reads."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor

from mmreid_text.registry import MODELS

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_MEAN_255 = tuple(255 * value for value in CLIP_MEAN)
_STD_255 = tuple(255 * value for value in CLIP_STD)


@MODELS.register_module()
class ReIDDataPreprocessor(BaseDataPreprocessor):
    """Trim the text, move the batch to the device, normalise the images and erase in them.

    A training batch is a dict of tensors (``image`` uint8 (B, 3, H, W), ``text`` int64 (B, N), optionally
    ``masked_text`` (B, N) and ``erase_box`` int64 (B, 4), and ids (B,)). A test batch is a dict of lists (``image`` of
    (3, H, W), ``text`` of (n, N) with all captions of the image, ids, ``dataset`` names).

    The result is the same dict for both, without ``erase_box``: ``image`` float32 (B, 3, H, W); ``text`` and
    ``masked_text`` cut to the longest caption of the batch, its EOT included; ids int64 (B,). For a test batch ``text``
    is (sum of n, N), and ``num_captions`` lists each image's n.

    ``erase_box`` (top, left, height, width; zeros for none) is filled with the *mean* colour in units of [0, 1] after
    normalisation, not with the zeros that the mean normalises to: so IRRA and the NAM authors trained.

    Args:
        mean: Of red, green and blue, in units of 0..255. Default: CLIP's.
        std: Of red, green and blue, in units of 0..255. Default: CLIP's.
        trim_text: Whether to cut texts to the batch's longest. CLIP's features do not change by it.

    Raises:
        ValueError: Images of a batch differ in size.

    Config::

        data_preprocessor=dict(type='ReIDDataPreprocessor')
    """

    mean: torch.Tensor
    std: torch.Tensor
    erase_value: torch.Tensor

    def __init__(
        self,
        mean: Sequence[float] = _MEAN_255,
        std: Sequence[float] = _STD_255,
        trim_text: bool = True,
    ) -> None:
        super().__init__(non_blocking=True)
        self.trim_text = trim_text
        for name, values in (("mean", mean), ("std", std), ("erase_value", [value / 255 for value in mean])):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(3, 1, 1), persistent=False)

    def forward(self, data: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        batch = dict(data) if isinstance(data["image"], torch.Tensor) else _join(data)
        if self.trim_text:
            # Masking leaves EOT in its place, so both texts are equally long.
            length = int(batch["text"].argmax(dim=1).max()) + 1  # EOT is the largest id
            for key in ("text", "masked_text"):
                if batch.get(key) is not None:
                    batch[key] = batch[key][:, :length]
        batch = self.cast_data(batch)
        image = batch["image"].to(torch.float32).sub_(self.mean).div_(self.std)
        box = batch.pop("erase_box", None)
        batch["image"] = image if box is None else torch.where(_inside(box, image), self.erase_value, image)
        return batch


def _join(data: Mapping[str, Any]) -> dict[str, Any]:
    """Join a test batch: every list of tensors or numbers becomes one tensor, names stay."""
    batch = dict(data)
    sizes = {tuple(image.shape) for image in data["image"]}
    if len(sizes) > 1:
        raise ValueError(f"Images of one batch differ in shape: {sorted(sizes)}. Put a Resize into the test pipeline.")
    batch["image"] = torch.stack(data["image"])
    batch["text"] = torch.cat(data["text"])
    batch["num_captions"] = [len(captions) for captions in data["text"]]
    for key in ("pid", "image_id", "caption_id"):
        if key in batch:
            batch[key] = torch.as_tensor([int(value) for value in batch[key]])
    return batch


def _inside(box: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    """Bool (B, 1, H, W): the pixels in each image's box, int64 (B, 4) of top, left, height, width."""
    top, left, height, width = (side[:, None] for side in box.unbind(dim=1))
    y = torch.arange(image.shape[2], device=image.device)
    x = torch.arange(image.shape[3], device=image.device)
    rows = (y >= top) & (y < top + height)  # (B, H)
    columns = (x >= left) & (x < left + width)  # (B, W)
    return (rows[:, :, None] & columns[:, None, :])[:, None]
