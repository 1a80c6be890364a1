"""Text-to-image person re-identification: find a person's photos from a sentence."""

from mmreid_text.version import __version__

__all__ = ["__version__"]
