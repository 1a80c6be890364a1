"""From collated batches to what the model reads."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor

from mmreid_text.datasets.transforms.tokenizer import EOT
from mmreid_text.models.losses.masked_language_loss import masked_positions
from mmreid_text.registry import MODELS

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
_MEAN_255 = tuple(255 * value for value in CLIP_MEAN)
_STD_255 = tuple(255 * value for value in CLIP_STD)


@MODELS.register_module()
class ReIDDataPreprocessor(BaseDataPreprocessor):
    """Trim the text, move the batch to the device, normalise the images and erase in them.

    A training batch is a dict of tensors (``image`` uint8 (B, 3, H, W), ``text`` int64 (B, N), optionally
    ``masked_text`` and ``mlm_labels`` (B, N), ``erase_box`` int64 (B, 4), and ids (B,)). A test batch is a dict of
    lists (``image`` of (3, H, W), ``text`` of (n, N) with all captions of the image, ids, ``dataset`` names).

    The result is the same dict for both, without ``erase_box``: ``image`` float32 (B, 3, H, W); ``text``,
    ``masked_text`` and ``mlm_labels`` cut to the longest caption of the batch, its end token included; ``lengths``, the
    tokens of each caption, a list of int on the host; ``mlm_positions`` int64 (T,), where ``mlm_labels``, cut and
    flattened, are not 0, so that no one need ask the device; ids int64 (B,). For a test batch ``text`` is
    (sum of n, N), and ``num_captions`` lists each image's n.

    ``erase_box`` (top, left, height, width; zeros for none) is filled with the *mean* colour in units of [0, 1] after
    normalisation, not with the zeros that the mean normalises to: so IRRA and the NAM authors trained.

    Args:
        mean: Of red, green and blue, in units of 0..255. Default: CLIP's.
        std: Of red, green and blue, in units of 0..255. Default: CLIP's.
        trim_text: Whether to cut texts to the batch's longest. CLIP's features do not change by it; IRRA's relation
            head, which reads padding, wants False.
        eot: Id of the token that ends a caption and stands in it once. None where ids other than CLIP's are padded
            with 0, which stands for nothing else: a caption then ends with its last id that is not 0.

    Raises:
        ValueError: Images of a batch differ in size, or a caption does not end with ``eot``.

    Config::

        data_preprocessor=dict(type='ReIDDataPreprocessor')
    """

    scale: torch.Tensor
    shift: torch.Tensor
    erase_value: torch.Tensor

    def __init__(
        self,
        mean: Sequence[float] = _MEAN_255,
        std: Sequence[float] = _STD_255,
        trim_text: bool = True,
        eot: int | None = EOT,
    ) -> None:
        super().__init__(non_blocking=True)
        self.trim_text = trim_text
        self.eot = eot
        buffers = {
            "scale": [1 / s for s in std],
            "shift": [-m / s for m, s in zip(mean, std)],
            "erase_value": [m / 255 for m in mean],
        }
        for name, values in buffers.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(3, 1, 1), persistent=False)

    def forward(self, data: Mapping[str, Any], training: bool = False) -> dict[str, Any]:
        batch = dict(data) if isinstance(data["image"], torch.Tensor) else _join(data)
        # Masking leaves EOT in its place, so both texts are equally long.
        batch["lengths"] = self._lengths(batch["text"])
        width = max(batch["lengths"]) if self.trim_text else batch["text"].shape[1]
        if batch.get("mlm_labels") is not None:
            positions = masked_positions(batch["mlm_labels"][:, :width])
            batch["mlm_positions"] = positions.pin_memory() if batch["mlm_labels"].is_pinned() else positions
        box = batch.pop("erase_box", None)
        batch = self.cast_data(batch)
        for key in ("text", "masked_text", "mlm_labels"):
            if batch.get(key) is not None:  # on the device: a cut is not contiguous, and the host would wait for a copy
                batch[key] = batch[key][:, :width]
        image = batch["image"] = batch["image"].to(torch.float32, copy=True).mul_(self.scale).add_(self.shift)
        if box is not None and image.is_cpu:
            _erase_boxes(image, box, self.erase_value)
        elif box is not None:
            _erase_masked(image, self.cast_data(box), self.erase_value)
        return batch

    def _lengths(self, text: torch.Tensor) -> list[int]:
        if self.eot is None:
            return text.count_nonzero(dim=1).tolist()
        ends = text == self.eot
        if not ends.any(dim=1).all():
            raise ValueError(
                f"A caption lacks the id {self.eot}, which ends CLIP's. For captions of another tokenizer set "
                "model.data_preprocessor.eot=None."
            )
        return (ends.to(torch.int8).argmax(dim=1) + 1).tolist()


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


def _erase_boxes(image: torch.Tensor, box: torch.Tensor, value: torch.Tensor) -> None:
    """Write ``value`` (3, 1, 1) into the box of each image that has one, in place: touches nothing but the boxes."""
    for pixels, (top, left, height, width) in zip(image, box.tolist()):
        if height:
            pixels[:, top : top + height, left : left + width] = value


def _erase_masked(image: torch.Tensor, box: torch.Tensor, value: torch.Tensor) -> None:
    """The same in a few kernels whatever the batch size, and without reading ``box`` (B, 4) on the host."""
    top, left, height, width = (side[:, None] for side in box.unbind(dim=1))
    y = torch.arange(image.shape[2], device=image.device)
    x = torch.arange(image.shape[3], device=image.device)
    rows = (y >= top) & (y < top + height)  # (B, H)
    columns = (x >= left) & (x < left + width)  # (B, W)
    torch.where((rows[:, :, None] & columns[:, None, :])[:, None], value, image, out=image)
