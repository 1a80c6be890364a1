"""The last transform: from a sample to tensors."""

from typing import Any

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

    Config::

        dict(type='PackSample')
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        missing = [key for key in ("img", "text", "pid", "image_id", "caption_id") if key not in results]
        if missing:
            raise KeyError(f"PackSample needs {missing}; put LoadImage and Tokenize before it in the pipeline.")
        image = np.ascontiguousarray(results["img"].transpose(2, 0, 1))
        packed: dict[str, Any] = {"image": torch.from_numpy(image), "text": torch.from_numpy(results["text"])}
        for key in ("pid", "image_id", "caption_id"):
            packed[key] = torch.tensor(results[key], dtype=torch.int64)
        if "erase_box" in results:
            packed["erase_box"] = torch.from_numpy(results["erase_box"])
        if "dataset" in results:
            packed["dataset"] = results["dataset"]
        return packed
