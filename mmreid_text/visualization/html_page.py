"""Static HTML pages that stand alone: pictures inside, nothing fetched, no script."""

import base64
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from mmreid_text.atomic_write import write_text

_STYLE = """
body{font:14px/1.4 "DejaVu Sans",sans-serif;color:#191c21;margin:22px;max-width:1200px}
h1{font-size:20px;margin:0 0 4px}
p.about{color:#696e76;margin:0 0 14px}
section{display:flex;gap:14px;border-top:1px solid #dee0e4;padding:12px 0}
section>img{flex:none;image-rendering:auto}
section>div{flex:1;min-width:0}
h2{font-size:13px;color:#696e76;margin:0 0 6px;font-weight:400}
"""
# The page may show what it holds and nothing else, whatever a caption or a name says.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def save_page(path: Path, title: str, about: str, sections: Sequence[str], style: str = "") -> None:
    """Write a page, whole or not at all; its folder is made where there is none.

    Args:
        path: The ``.html`` file.
        title: Heading, plain text.
        about: A line below it, HTML.
        sections: Contents of the ``<section>`` elements, HTML.
        style: Further CSS.
    """
    body = "\n".join(f"<section>{section}</section>" for section in sections)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(
        path,
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style></head>\n"
        f'<body><h1>{escape(title)}</h1><p class="about">{about}</p>\n{body}\n</body></html>\n',
    )


def image_tag(image: np.ndarray, height: int, alt: str) -> str:
    """An ``<img>`` that carries its pixels, uint8 (H, W, 3) RGB, as PNG, shown ``height`` pixels high."""
    data = BytesIO()
    Image.fromarray(image).save(data, format="PNG")
    encoded = base64.b64encode(data.getvalue()).decode("ascii")
    return f'<img src="data:image/png;base64,{encoded}" height="{height}" alt="{escape(alt)}">'
