"""The last transform: from a sample to tensors."""

from typing import Any

import cv2
import numpy as np
import torch
from mmcv.transforms import BaseTransform

from mmreid_text.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PackSample(BaseTransform):
    """Pack a sample into tensors that ``default_collate`` (training) or ``pseudo_collate`` (testing) joins.

    **Required keys:** ``img`` uint8 (H, W, 3), ``text`` int64 (N,) or (n, N), ``pid``, ``image_id``, ``caption_id``.
    Optional: ``erase_box`` (training), ``dataset`` (testing).

    **Returned keys:** ``image`` uint8 (3, H, W), ``text``, ``pid``, ``image_id`` and ``caption_id`` as int64 scalars,
    ``erase_box`` int64 (4,) and ``dataset`` str where given. All else is left behind.

    Raises:
        KeyError: A required key is missing.
        ValueError: ``img`` is not uint8 (H, W, 3).

    Config::

        dict(type='PackSample')
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        missing = [key for key in ("img", "text", "pid", "image_id", "caption_id") if key not in results]
        if missing:
            raise KeyError(f"PackSample needs {missing}; put LoadImage and Tokenize before it in the pipeline.")
        image = results["img"]
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(
                f"PackSample needs `img` as uint8 (H, W, 3), but it is {image.dtype} {image.shape}. Images stay uint8 "
                "until the data preprocessor normalises them on the device."
            )
        planes = np.empty((3, *image.shape[:2]), dtype=np.uint8)
        cv2.split(image, list(planes))  # vectorised, as numpy's transposed copy is not
        packed: dict[str, Any] = {"image": torch.from_numpy(planes), "text": torch.from_numpy(results["text"])}
        for key in ("pid", "image_id", "caption_id"):
            packed[key] = torch.from_numpy(np.array(results[key], dtype=np.int64))  # a third of torch.tensor's time
        if "erase_box" in results:
            packed["erase_box"] = torch.from_numpy(results["erase_box"])
        if "dataset" in results:
            packed["dataset"] = results["dataset"]
        return packed
