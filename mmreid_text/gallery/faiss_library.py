"""faiss, which comes with an extra."""

from importlib import import_module
from typing import Any


def load_faiss() -> Any:
    """The module.

    Raises:
        ImportError: It is not installed; the error says how to get it.
    """
    try:
        return import_module("faiss")
    except ImportError as error:
        raise ImportError('Searching needs faiss: pip install "mmreid_text[search]"') from error
