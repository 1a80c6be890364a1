"""Transforms of images: uint8 (H, W, 3) RGB throughout. Normalising and erasing wait for the device."""

import math
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from PIL import Image

from mmreid_text.randomness import uniform
from mmreid_text.registry import TRANSFORMS


class RandomTransform(BaseTransform):
    """Base of the random transforms: draws are a function of the sample's ``draw_key`` (seed, epoch, caption_id)."""

    def draw(self, results: dict[str, Any], n: int) -> np.ndarray:
        """float64 (n,) uniform in [0, 1), from a stream of this class's own.

        Raises:
            KeyError: The sample has no ``draw_key``, as in test mode.
        """
        if "draw_key" not in results:
            raise KeyError(
                f"{type(self).__name__} is random, but the sample has no 'draw_key': it comes from a dataset in test "
                "mode. Take the transform out of the test pipeline."
            )
        seed, epoch, caption_id = results["draw_key"]
        return uniform(seed, epoch, np.array([caption_id]), type(self).__name__, n)[0]


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Decode ``img_path`` into ``img`` as RGB; a sample that brings ``img`` along keeps it.

    **Required keys:** ``img_path`` or ``img``. **Added keys:** ``img`` uint8 (H, W, 3).

    Raises:
        FileNotFoundError: There is no such file.
        OSError: The file is no image or is cut short.

    Config::

        dict(type='LoadImage')
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        if "img" not in results:
            results["img"] = read_image(results["img_path"])
        return results


def read_image(path: str) -> np.ndarray:
    """Decode an image file as uint8 (H, W, 3) RGB; errors as :class:`LoadImage` states."""
    try:
        with Image.open(path) as image:
            # Pillow, as cv2 returns a truncated JPEG's missing part as grey without an error.
            return np.array(image.convert("RGB"))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"Image {path} does not exist. Check the data root; docs/data.md shows the folder layout."
        ) from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(
            f"Image {path} cannot be decoded ({error}). Copy it again from the dataset's source; "
            "`python tools/prepare_data.py ... --check-images` lists all such files."
        ) from error


@TRANSFORMS.register_module()
class Resize(BaseTransform):
    """Scale ``img`` to a fixed size, whatever its aspect.

    **Modified keys:** ``img`` uint8 (height, width, 3).

    Args:
        size: Height and width in pixels.
        backend: 'pillow' is antialiased bilinear, which the published results use; 'cv2' is plain bilinear, about
            twice as fast and 0.7 of 255 away from it on average.

    Config::

        dict(type='Resize', size=(384, 128))
    """

    def __init__(self, size: tuple[int, int] = (384, 128), backend: str = "pillow") -> None:
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"Resize(size={size!r}) must be (height, width) in pixels, as in (384, 128).")
        if backend not in ("pillow", "cv2"):
            raise ValueError(f"Resize(backend={backend!r}) must be 'pillow' or 'cv2'.")
        self.size = (int(size[0]), int(size[1]))
        self.backend = backend

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        image = results["img"]
        if image.shape[:2] != self.size:
            height, width = self.size
            if self.backend == "cv2":
                image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
            else:
                image = np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
            results["img"] = image
        return results

    def __repr__(self) -> str:
        return f"Resize(size={self.size}, backend={self.backend!r})"


@TRANSFORMS.register_module()
class RandomFlip(RandomTransform):
    """Mirror ``img`` left to right with probability ``prob``.

    **Required keys:** ``img``, ``draw_key``. **Modified keys:** ``img``.

    Config::

        dict(type='RandomFlip', prob=0.5)
    """

    def __init__(self, prob: float = 0.5) -> None:
        self.prob = _probability("RandomFlip", prob)

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        if self.draw(results, 1)[0] < self.prob:
            results["img"] = cv2.flip(results["img"], 1)
        return results

    def __repr__(self) -> str:
        return f"RandomFlip(prob={self.prob})"


@TRANSFORMS.register_module()
class PadCrop(RandomTransform):
    """Pad ``img`` with black on all sides, then crop its original size at a random place.

    **Required keys:** ``img``, ``draw_key``. **Modified keys:** ``img``.

    Args:
        padding: Black border in pixels.

    Config::

        dict(type='PadCrop', padding=10)
    """

    def __init__(self, padding: int = 10) -> None:
        if padding < 0:
            raise ValueError(f"PadCrop(padding={padding}) must not be negative.")
        self.padding = padding

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        image = results["img"]
        height, width = image.shape[:2]
        shifts = np.floor(self.draw(results, 2) * (2 * self.padding + 1)).astype(int) - self.padding
        top, left = int(shifts[0]), int(shifts[1])
        crop = np.zeros_like(image)
        crop[max(-top, 0) : height - max(top, 0), max(-left, 0) : width - max(left, 0)] = image[
            max(top, 0) : height + min(top, 0), max(left, 0) : width + min(left, 0)
        ]
        results["img"] = crop
        return results

    def __repr__(self) -> str:
        return f"PadCrop(padding={self.padding})"


@TRANSFORMS.register_module()
class RandomErasing(RandomTransform):
    """Draw the box of Random Erasing (Zhong et al., AAAI 2020, Algorithm 1); the data preprocessor fills it.

    The box's law is that of ``torchvision.transforms.RandomErasing``: area uniform, aspect log-uniform, up to ten
    tries until the box is smaller than the image in both directions.

    **Required keys:** ``img``, ``draw_key``. **Added keys:** ``erase_box`` int64 (4,): top, left, height, width in
    pixels; zeros where nothing is erased.

    Args:
        prob: Probability of erasing.
        area: Range of the box's share of the image's area.
        aspect: Range of the box's height / width.

    Config::

        dict(type='RandomErasing', prob=0.5, area=(0.02, 0.4), aspect=(0.3, 3.3))
    """

    tries = 10

    def __init__(
        self,
        prob: float = 0.5,
        area: tuple[float, float] = (0.02, 0.4),
        aspect: tuple[float, float] = (0.3, 3.3),
    ) -> None:
        self.prob = _probability("RandomErasing", prob)
        if not 0 < area[0] <= area[1] <= 1:
            raise ValueError(f"RandomErasing(area={area!r}) must ascend within (0, 1].")
        if not 0 < aspect[0] <= aspect[1]:
            raise ValueError(f"RandomErasing(aspect={aspect!r}) must ascend and be positive.")
        self.area = (float(area[0]), float(area[1]))
        self.aspect = (float(aspect[0]), float(aspect[1]))

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        height, width = results["img"].shape[:2]
        draws = self.draw(results, 1 + 4 * self.tries)
        box = self._box(draws[1:], height, width) if draws[0] < self.prob else (0, 0, 0, 0)
        results["erase_box"] = np.array(box, dtype=np.int64)
        return results

    def _box(self, draws: np.ndarray, height: int, width: int) -> tuple[int, int, int, int]:
        low, high = math.log(self.aspect[0]), math.log(self.aspect[1])
        for u_area, u_aspect, u_top, u_left in draws.reshape(self.tries, 4).tolist():
            area = height * width * (self.area[0] + u_area * (self.area[1] - self.area[0]))
            aspect = math.exp(low + u_aspect * (high - low))
            h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if h < height and w < width:
                return int(u_top * (height - h + 1)), int(u_left * (width - w + 1)), h, w
        return 0, 0, 0, 0

    def __repr__(self) -> str:
        return f"RandomErasing(prob={self.prob}, area={self.area}, aspect={self.aspect})"


def _probability(owner: str, prob: float) -> float:
    if not 0 <= prob <= 1:
        raise ValueError(f"{owner}(prob={prob}) must lie in [0, 1].")
    return float(prob)
