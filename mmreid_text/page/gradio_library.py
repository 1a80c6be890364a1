"""Gradio, which comes with an extra, and which is kept from calling anybody."""

import os
from importlib import import_module
from typing import Any


def load_gradio() -> Any:
    """The module.

    Raises:
        ImportError: It is not installed; the error says how to get it.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read at import
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        return import_module("gradio")
    except ImportError as error:
        raise ImportError('The page needs Gradio: pip install "mmreid_text[search]"') from error
