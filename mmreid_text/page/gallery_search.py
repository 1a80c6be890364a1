"""What the page does, without the page: searches of visitors in an open gallery."""

import time
from base64 import b64encode
from dataclasses import replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from PIL import Image

from mmreid_text.apis.explain import Explanation, explain
from mmreid_text.apis.gallery import MAX_TOPK, Gallery
from mmreid_text.gallery.filters import mask, parse
from mmreid_text.gallery.image_files import inside
from mmreid_text.gallery.images import decode_picture, read_picture
from mmreid_text.page.query import MAX_PICTURES, MAX_SENTENCES, Facet, Found, FoundCrop, Picture, Query, Upload

PER_PAGE = 16
"""Crops on a page, shared by the sentences that are compared."""
MAX_UPLOAD = 4_000_000
"""Bytes of a picture that a visitor sends."""
_MAX_VALUES = 40  # of a column that visitors choose values of
_MAX_FACETS = 4
_THUMBNAIL = (160, 320)  # width, height; retina screens show it at half the size
_QUALITY = 85
_KEPT = 4096  # small copies in memory, some 5 kB each


class GallerySearch:
    """Searches, refinements and explanations; threads may share one.

    With pictures in a query, it is half the sentence and half the mean of the pictures, all of unit length.

    Args:
        gallery: Open; what is published in it later is seen.
    """

    def __init__(self, gallery: Gallery) -> None:
        self.gallery = gallery

    def find(self, query: Query) -> Found:
        """Search.

        Raises:
            ValueError: There is neither a sentence nor a picture, a sentence is too long, or the condition cannot be
                read.
        """
        start = time.perf_counter()
        note = self._refresh()
        features = self._features(query)
        matching = self._matching(query.where)
        shown = PER_PAGE // len(features)
        pages = max(1, -(-min(matching, MAX_TOPK) // shown))
        query = replace(query, page=min(max(query.page, 0), pages - 1))
        first = query.page * shown
        columns = []
        for hits in self.gallery.search(features, min(first + shown, MAX_TOPK), query.where):
            ranked = enumerate(hits[first:], first + 1)
            columns.append(tuple(FoundCrop(hit, rank, self._thumbnail_of(hit.path)) for rank, hit in ranked))
        return Found(query, tuple(columns), matching, pages, time.perf_counter() - start, note)

    def liked(self, path: str) -> Picture:
        """An image of the gallery as a part of a query.

        Raises:
            ValueError: The gallery has no such image any more.
        """
        try:
            feature = self.gallery.features([path])[0]
        except KeyError as error:
            raise ValueError(error.args[0]) from error
        return Picture(path, feature, self._thumbnail_of(path))

    def uploaded(self, upload: Upload) -> Picture:
        """A visitor's own picture as a part of a query.

        Raises:
            OSError: It is no picture, or cut short.
            ValueError: It is too large.
        """
        if len(upload.data) > MAX_UPLOAD:
            raise ValueError(f"The picture has more than {MAX_UPLOAD:,} bytes: cut the person out of it.")
        pixels = decode_picture(upload.data, upload.shown_name)
        return Picture(upload.shown_name, self.gallery.inferencer.encode_image([pixels])[0], _small_copy(pixels))

    def explain(self, sentence: str, path: str) -> tuple[np.ndarray, Explanation]:
        """Pixels uint8 (H, W, 3) of an image of the gallery, and why the sentence finds it.

        Raises:
            ValueError: The gallery has no such image any more, or its file is gone or spoilt.
        """
        try:
            pixels = read_picture(self.gallery.image_path(path))
        except KeyError as error:
            raise ValueError(error.args[0]) from error
        except (OSError, ValueError):  # its text names folders, which are not the visitor's business
            raise ValueError(f"The file of {path!r} is gone or spoilt since the gallery was indexed.") from None
        return pixels, explain(self.gallery.inferencer, sentence, pixels)

    def facets(self) -> list[Facet]:
        """Columns of metadata with few values."""
        found = []
        table = self.gallery.table
        for column in list(self.gallery.columns)[1:]:  # the first is the path
            values = pc.unique(table.column(column)).drop_null().to_pylist()
            if 2 <= len(values) <= _MAX_VALUES:
                found.append(Facet(column, tuple(sorted(values))))
        return found[:_MAX_FACETS]

    def _refresh(self) -> str:
        try:
            self.gallery.refresh()
        except (OSError, ValueError):
            return "The index cannot be read any more; this is what it last held."
        return ""

    def _features(self, query: Query) -> np.ndarray:
        """Features float32 (Q, D), one for each sentence, or a single one of pictures alone."""
        if len(query.sentences) > MAX_SENTENCES or len(query.pictures) > MAX_PICTURES:
            raise ValueError(f"A search has at most {MAX_SENTENCES} sentences and {MAX_PICTURES} pictures.")
        if not query.sentences and not query.pictures:
            raise ValueError("Say whom to look for, as in 'a woman in a red coat'.")
        pictures = np.zeros(self.gallery.manifest.dim, np.float32)
        if query.pictures:
            pictures = np.mean([picture.feature for picture in query.pictures], axis=0)
            pictures /= max(float(np.linalg.norm(pictures)), 1e-12)
        if not query.sentences:
            return pictures[None]
        return self.gallery.inferencer.encode_text(query.sentences) + pictures

    def _matching(self, where: str) -> int:
        if not where.strip():
            return len(self.gallery)
        return int(mask(parse(where, self.gallery.columns), self.gallery.table).sum())

    def _thumbnail_of(self, path: str) -> str:
        try:
            file = inside(self.gallery.root, path)
            return _thumbnail(file, file.stat().st_mtime_ns)
        except (OSError, ValueError):
            return ""


def condition(chosen: dict[str, list[str | int | float | bool]], more: str = "") -> str:
    """The condition that visitors' choices of values and their own condition make together.

    >>> condition({'camera': ['c1', 'c2'], 'hour': []}, 'hour > 9')
    "camera in ['c1', 'c2'] and (hour > 9)"
    """
    parts = [f"{column} in {values!r}" for column, values in chosen.items() if values]
    return " and ".join(parts + [f"({more.strip()})"] * bool(more.strip()))


@lru_cache(maxsize=_KEPT)
def _thumbnail(file: Path, mtime_ns: int) -> str:
    """The small copy of a file as it was at a time."""
    return _small_copy(read_picture(file))


def _small_copy(pixels: np.ndarray) -> str:
    picture = Image.fromarray(pixels)
    picture.thumbnail(_THUMBNAIL)
    return data_address(picture)


def data_address(picture: Image.Image) -> str:
    """A picture as a ``data:`` address, so that no file has to be served."""
    file = BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{b64encode(file.getvalue()).decode()}"
