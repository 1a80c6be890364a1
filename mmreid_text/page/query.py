"""What is looked for on the page, and what was found."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmreid_text.apis.gallery import Hit

MAX_SENTENCES = 2
MAX_PICTURES = 6


@dataclass(frozen=True)
class Picture:
    """A picture in a query: its name, its feature float32 (D,), and a small copy as a ``data:`` address."""

    name: str
    feature: np.ndarray
    thumbnail: str


@dataclass(frozen=True)
class Query:
    """What a visitor looks for.

    Attributes:
        sentences: One; two to compare; none where pictures say it all.
        pictures: That those who are found should look like.
        where: Condition on the metadata; '' for none.
        page: Of the results, from 0.
    """

    sentences: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    where: str = ""
    page: int = 0


@dataclass(frozen=True)
class FoundCrop:
    """A hit with a small copy of it, '' where its file is gone or spoilt."""

    hit: Hit
    rank: int
    thumbnail: str


@dataclass(frozen=True)
class Found:
    """A page of results.

    Attributes:
        query: That was asked.
        columns: Crops, best first, for each of the sentences, or one list for pictures alone.
        matching: Images that the condition lets be found, all where there is none.
        pages: Number of pages.
        seconds: That the search took, small copies included.
        note: What visitors should know, such as that the index could not be read again; '' for nothing.
    """

    query: Query
    columns: tuple[tuple[FoundCrop, ...], ...]
    matching: int
    pages: int
    seconds: float
    note: str = ""


@dataclass(frozen=True)
class Facet:
    """A column of metadata with few values, by which visitors may narrow the search."""

    column: str
    values: tuple[str | int | float | bool, ...]


@dataclass(frozen=True)
class Upload:
    """A picture that a visitor sent: the name of its file, and its content."""

    name: str
    data: bytes

    @property
    def shown_name(self) -> str:
        return Path(self.name).name[:60] or "picture"
