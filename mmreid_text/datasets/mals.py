"""MALS (Yang et al., Towards Unified Text-based Person Retrieval, ACM MM 2023)."""

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from mmreid_text.datasets.captioned_images import CaptionedImages
from mmreid_text.datasets.json_entries import read_entries
from mmreid_text.datasets.json_pairs import Pair
from mmreid_text.registry import DATASETS


@DATASETS.register_module()
class MALS(CaptionedImages):
    """MALS: 1.5 M generated images of people, each with one caption by BLIP.

    Reads the lists ``g_*_attrs.json`` of ``{image, caption, image_id, label}`` in ``gene_attrs/`` (or in ``data_root``
    itself), and the images that they name, ``gene_crop/*/*.jpg``, in ``data_root`` (or in ``images/`` there). ``pid``
    is the image's row. The 27 attribute labels are not used.

    There is one split, 'train', under every protocol. Arguments and errors are those of
    :class:`~mmreid_text.datasets.published.PublishedDataset`.

    Config::

        dict(type='MALS', data_root='data/MALS', pipeline=train_pipeline)
    """

    name = "mals"
    TITLE = "MALS"
    PUBLISHED: ClassVar = {"train": (1_510_330, 1_510_330, 1_510_330)}
    NESTED = True

    @classmethod
    def find_images(cls, root: Path) -> Path:
        return root / "images" if (root / "images").is_dir() else root

    @classmethod
    def caption_files(cls, root: Path) -> dict[str, list[Path]]:
        cls.check_root(root)
        for folder in (root / "gene_attrs", root):
            if files := sorted(folder.glob("g_*_attrs.json")):
                return {"train": files}
        raise FileNotFoundError(
            f"{cls.TITLE}: no caption file (g_4x_attrs.json and 90 others) lies in {root / 'gene_attrs'} or {root}. "
            "docs/data.md says how to get them."
        )

    @classmethod
    def read_captions(cls, path: Path, offset: int) -> Iterator[Pair]:
        for entry, start, end in read_entries(path, offset):
            image, caption = entry.get("image"), entry.get("caption")
            if not isinstance(image, str) or not isinstance(caption, str):
                raise ValueError(
                    f"{path}, entry at byte {start:,}: image is {image!r:.80} and caption {caption!r:.80}, but both "
                    "must be strings. docs/data.md shows the format."
                )
            yield Pair(image, caption, end)
