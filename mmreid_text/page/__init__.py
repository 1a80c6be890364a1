"""A web page on which people search a gallery; tools/demo.py opens it."""

from mmreid_text.page.gallery_search import GallerySearch
from mmreid_text.page.server import PageServer

__all__ = ["GallerySearch", "PageServer"]
