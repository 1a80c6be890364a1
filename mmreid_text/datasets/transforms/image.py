"""Transforms of images: uint8 (H, W, 3) RGB throughout. Normalising and erasing wait for the device."""

import math
import re
import struct
from io import BytesIO
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import BaseTransform
from PIL import Image

from mmreid_text.randomness import uniform_row
from mmreid_text.registry import TRANSFORMS

_SEGMENTS = frozenset({0xC0, 0xC1, 0xC4, 0xDA, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE})  # of an ordinary header
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")  # in pixel data: a zero follows 0xFF that is none, D0 to D7 are restarts


class RandomTransform(BaseTransform):
    """Base of the random transforms: draws are a function of the sample's ``draw_key`` (seed, epoch, caption_id)."""

    def draw(self, results: dict[str, Any], n: int) -> list[float]:
        """``n`` numbers, uniform in [0, 1), from a stream of this class's own.

        Raises:
            KeyError: The sample has no ``draw_key``, as in test mode.
        """
        if "draw_key" not in results:
            raise KeyError(
                f"{type(self).__name__} is random, but the sample has no 'draw_key': it comes from a dataset in test "
                "mode. Take the transform out of the test pipeline."
            )
        seed, epoch, caption_id = results["draw_key"]
        return uniform_row(seed, epoch, caption_id, type(self).__name__, n)


@TRANSFORMS.register_module()
class LoadImage(BaseTransform):
    """Decode an image file into ``img`` as RGB; a sample that brings ``img`` along keeps it.

    The pixels are those of Pillow's ``convert('RGB')``: EXIF orientation is not applied, grey becomes RGB, alpha is
    dropped. Common JPEGs go through OpenCV, whose decoder gives the same pixels in half the time.

    **Required keys:** ``img``, or ``img_path`` and, where the file lies in an image store, its content ``img_bytes``.
    **Added keys:** ``img`` uint8 (H, W, 3). **Removed keys:** ``img_bytes``.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: The file is no image or is cut short.

    Config::

        dict(type='LoadImage')
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        if "img" in results:
            return results
        data = results.pop("img_bytes", None)
        path = results["img_path"]
        results["img"] = read_image(path) if data is None else decode_image(data, path)
        return results


def read_image(path: str) -> np.ndarray:
    """Decode an image file as uint8 (H, W, 3) RGB; errors as :class:`LoadImage` states."""
    return decode_image(read_file(path), path)


def read_file(path: str) -> bytes:
    """Content of an image file.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be read.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"Image {path} does not exist. Check the data root; docs/data.md shows the folder layout."
        ) from error
    except OSError as error:
        raise OSError(f"Image {path} cannot be read ({error}). Check its permissions and the disk.") from error


def decode_image(data: bytes, path: str) -> np.ndarray:
    """Decode the content of an image file as uint8 (H, W, 3) RGB.

    Raises:
        OSError: It is no image or is cut short; the message names ``path``.
    """
    if _is_plain_jpeg(data):
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
        if image is not None:
            return image
    try:
        with Image.open(BytesIO(data)) as picture:
            return np.array(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(
            f"Image {path} cannot be decoded ({error}). Copy it again from the dataset's source; "
            "`python tools/prepare_data.py ... --check-images` lists all such files."
        ) from error


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether OpenCV decodes the file as Pillow does: an intact sequential JPEG in grey or three colours.

    Where a file is cut short or a stray marker ends its decoding, OpenCV returns what it has, the rest grey, without an
    error. Pixel data has no markers but those of restarts, so a file that ends with the end-of-image marker and has no
    other in its pixel data is whole. Pillow judges all others.
    """
    if data[:3] != b"\xff\xd8\xff" or data[-2:] != b"\xff\xd9":
        return False
    at, fits = 2, False
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker, start = data[at + 1], at + 4
        if marker not in _SEGMENTS:
            return False
        at += 2 + int.from_bytes(data[at + 2 : start], "big")
        if marker in (0xC0, 0xC1):  # frame of a sequential JPEG: precision, height, width, number of colours
            height, width = struct.unpack_from(">HH", data, start + 1)
            too_large = Image.MAX_IMAGE_PIXELS is not None and height * width > Image.MAX_IMAGE_PIXELS
            fits = data[start] == 8 and data[start + 5] in (1, 3) and not too_large
        elif marker == 0xDA:  # the pixel data follow
            return fits and not _MARKER.search(data, at, len(data) - 2)
    return False


@TRANSFORMS.register_module()
class Resize(BaseTransform):
    """Scale ``img`` to a fixed size, whatever its aspect.

    **Modified keys:** ``img`` uint8 (height, width, 3).

    Args:
        size: Height and width in pixels.
        backend: Whose pixels. 'pillow' is Pillow's antialiased bilinear, width before height, which the published
            results use; torch's vectorised form of it computes them, at most 1 of 255 away and nearly everywhere equal.
            (Pillow 13 takes the height of some tall images first, which rounds a quarter of their values by 1
            differently.) 'cv2' is plain bilinear: half the time, 0.7 of 255 away on average.

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
                image = _resize_antialiased(image, self.size)
            results["img"] = image
        return results

    def __repr__(self) -> str:
        return f"Resize(size={self.size}, backend={self.backend!r})"


def _resize_antialiased(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    # Batched before it is permuted, torch knows the layout as channels last, and keeps it: the fastest of its ways.
    batch = torch.from_numpy(np.require(image, requirements=["C", "W"]))[None].permute(0, 3, 1, 2)
    resized = F.interpolate(batch, size, mode="bilinear", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


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
        span = 2 * self.padding + 1
        top, left = (int(draw * span) - self.padding for draw in self.draw(results, 2))
        part = image[max(top, 0) : height + min(top, 0), max(left, 0) : width + min(left, 0)]
        border = (max(-top, 0), max(top, 0), max(-left, 0), max(left, 0))
        results["img"] = cv2.copyMakeBorder(part, *border, cv2.BORDER_CONSTANT, value=0)
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
        box = self._box(results, height, width) if self.draw(results, 1)[0] < self.prob else (0, 0, 0, 0)
        results["erase_box"] = np.array(box, dtype=np.int64)
        return results

    def _box(self, results: dict[str, Any], height: int, width: int) -> tuple[int, int, int, int]:
        low, high = math.log(self.aspect[0]), math.log(self.aspect[1])
        for count in range(1, self.tries + 1):
            u_area, u_aspect, u_top, u_left = self.draw(results, 1 + 4 * count)[-4:]
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
