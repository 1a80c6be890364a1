"""Images of every kind that a caller may have, as uint8 pixels, with limits for what strangers send."""

import os
from io import BytesIO
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from mmreid_text.datasets.transforms.image import decode_image

MAX_PIXELS = 40_000_000
"""Of an image; the largest sensible crop has a hundredth of it."""
MAX_BYTES = 64_000_000
"""Of an image file."""
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")

ImageLike: TypeAlias = str | os.PathLike[str] | bytes | np.ndarray | Image.Image


def read_picture(image: ImageLike) -> np.ndarray:
    """Pixels uint8 (H, W, 3) RGB of a path, a file's content, a Pillow image or such an array.

    Files are decoded as in evaluation (:class:`~mmreid_text.datasets.transforms.image.LoadImage`): EXIF orientation is
    not applied, grey becomes RGB, alpha is dropped.

    Raises:
        FileNotFoundError: There is no such file.
        OSError: It cannot be read, is no image or is cut short.
        ValueError: It has more than :data:`MAX_PIXELS` or :data:`MAX_BYTES`, or an array of another shape or type.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"An image must be uint8 (H, W, 3) RGB, got {image.dtype} {image.shape}.")
        _check_pixels(image.shape[1], image.shape[0], "The array")
        return image
    if isinstance(image, Image.Image):
        _check_pixels(*image.size, "The picture")
        return np.array(image.convert("RGB"))
    if isinstance(image, bytes):
        return decode_picture(image, "<bytes>")
    return decode_picture(read_bytes(image), os.fspath(image))


def read_bytes(path: str | os.PathLike[str]) -> bytes:
    """Content of an image file; errors as :func:`read_picture` states."""
    path = Path(path)
    if not path.is_file():  # a pipe or a device would be read for ever
        raise FileNotFoundError(f"Image {path} does not exist or is no ordinary file.")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise OSError(f"Image {path} cannot be read ({error}).") from error
    if len(data) > MAX_BYTES:
        raise ValueError(f"Image {path} is larger than {MAX_BYTES:,} bytes: crop people from it first.")
    return data


def decode_picture(data: bytes, name: str) -> np.ndarray:
    """Pixels uint8 (H, W, 3) RGB of a file's content; errors as :func:`read_picture` states, with ``name``."""
    if len(data) > MAX_BYTES:
        raise ValueError(f"Image {name} is larger than {MAX_BYTES:,} bytes: crop people from it first.")
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as header:  # reads no pixels
            size = header.size
    except UnidentifiedImageError as error:
        raise OSError(f"Image {name} is none of {', '.join(FORMATS)}, or is damaged.") from error
    except Image.DecompressionBombError:
        raise ValueError(f"Image {name} has more than {MAX_PIXELS:,} pixels: crop people from it first.") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise OSError(f"Image {name} cannot be decoded ({error}).") from error
    _check_pixels(*size, f"Image {name}")
    return decode_image(data, name)


def _check_pixels(width: int, height: int, name: str) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{name} has {width:,} x {height:,} pixels, more than {MAX_PIXELS:,} in all: crop people from it first."
        )
