"""LUPerson-T (Shao et al., Unified Pre-training with Pseudo Texts for Text-To-Image Person ReID, ICCV 2023)."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from mmreid_text.datasets.arrow_images import arrow_images, index_images
from mmreid_text.datasets.caption_table import CaptionTable
from mmreid_text.datasets.captioned_images import CaptionedImages
from mmreid_text.datasets.json_entries import read_entries
from mmreid_text.datasets.json_pairs import Pair
from mmreid_text.datasets.published import Tree, file_state
from mmreid_text.registry import DATASETS

ANNOTATION = "LUPerson-T.json"
ARROW_FILES = {"train": ("LUPerson_train", "LUPerson_restval"), "val": ("LUPerson_val",), "test": ("LUPerson_test",)}
"""Files by split; the authors' code leaves ``restval``, 0.05% of the images, out."""


@DATASETS.register_module()
class LUPersonT(CaptionedImages):
    """LUPerson-T: 0.95 M images of LUPerson without identities, with 1.3 M captions composed of CLIP's attributes.

    Reads either layout of the authors:

    * ``LUPerson-T.json`` (or the one ``.json`` file that lies there), a list of ``{file_path, captions}``, joined by
      file name with the images in ``images/`` (or in ``data_root`` itself). All of it is the split 'train'.
    * ``LUPerson_{train,restval,val,test}.arrow`` with the columns ``image`` (file content), ``caption`` (list),
      ``image_id`` (file name) and ``split``. The first two are the split 'train'. Images are read from where they lie
      in these files: an index of them, ``image_index.arrow``, is written beside them by the first use.

    ``pid`` is the image's row. Of equal captions of one image the first is used. Arguments and errors are those of
    :class:`~mmreid_text.datasets.published.PublishedDataset`; the protocol makes no difference.

    Config::

        dict(type='LUPersonT', data_root='data/LUPerson-T', pipeline=train_pipeline)
    """

    name = "luperson_t"
    TITLE = "LUPerson-T"
    # 1.3 M pairs (UniPT, Table 1) of 0.95 M images (Tan et al., CVPR 2024, Table 3): both rounded.
    PUBLISHED: ClassVar = {"train": (950_000, 950_000, 1_300_000)}
    TOLERANCE = 0.05

    @classmethod
    def find_images(cls, root: Path) -> Path:
        return root / "images" if not _arrow_files(root) and (root / "images").is_dir() else root

    @classmethod
    def caption_files(cls, root: Path) -> dict[str, list[Path]]:
        cls.check_root(root)
        path = root / ANNOTATION
        if found := _arrow_files(root):
            if path.exists():
                raise ValueError(
                    f"{cls.TITLE}: {root} has both {ANNOTATION} and {next(iter(found.values()))[0].name}, which may "
                    "differ. Move one layout to another folder."
                )
            return found
        beside = sorted(root.glob("*.json"))
        if path.is_file() or len(beside) == 1:
            return {"train": [path if path.is_file() else beside[0]]}
        found_instead = f" Of {', '.join(p.name for p in beside[:3])} none has that name." if beside else ""
        raise FileNotFoundError(
            f"{cls.TITLE}: neither {path} nor LUPerson_train.arrow beside it is there.{found_instead} "
            "docs/data.md says where they come from."
        )

    @classmethod
    def inputs(cls, root: Path) -> dict[str, list[int]]:
        if files := _arrow_files(root):
            return {path.name: file_state(path) for paths in files.values() for path in paths}
        return super().inputs(root)

    @classmethod
    def read(cls, root: Path, work: Path | None = None) -> Tree:
        cls._index(root)
        return super().read(root, work)

    @classmethod
    def map(cls, path: str | os.PathLike[str], root: Path) -> CaptionTable:
        table = super().map(path, root)
        cls._index(root)
        return table

    @classmethod
    def read_captions(cls, path: Path, offset: int) -> Iterator[Pair]:
        read = _arrow_entries if path.suffix == ".arrow" else _json_entries
        for image, captions, start, end in read(path, offset):
            for i, caption in enumerate(captions, start=1):
                # A run that ends within an entry goes on at the entry's start: captions read twice count once.
                yield Pair(image, caption, end if i == len(captions) else start)

    @classmethod
    def _index(cls, root: Path) -> None:
        if files := _arrow_files(root):
            index_images(root, [path for paths in files.values() for path in paths])


def _arrow_files(root: Path) -> dict[str, list[Path]]:
    found = {split: [root / f"{name}.arrow" for name in names] for split, names in ARROW_FILES.items()}
    existing = {split: [path for path in paths if path.is_file()] for split, paths in found.items()}
    return {split: paths for split, paths in existing.items() if paths}


def _arrow_entries(path: Path, offset: int) -> Iterator[tuple[str, list[str], int, int]]:
    start = 0
    for image in arrow_images(path):
        end = image.offset + image.size
        if end > offset:
            yield image.name, image.captions, start, end
        start = end


def _json_entries(path: Path, offset: int) -> Iterator[tuple[str, list[str], int, int]]:
    for entry, start, end in read_entries(path, offset):
        image, captions = entry.get("file_path"), entry.get("captions")
        if not isinstance(image, str) or not image:
            raise ValueError(
                f"{path}, entry at byte {start:,}: file_path is {image!r:.80}, but must name an image file. "
                "docs/data.md shows the format."
            )
        if not isinstance(captions, list) or not all(isinstance(caption, str) for caption in captions):
            raise ValueError(
                f"{path}, entry at byte {start:,} (image {image!r}): captions are {captions!r:.80}, but must be a list "
                "of strings. docs/data.md shows the format."
            )
        yield image.replace("\\", "/").rsplit("/", 1)[-1], captions, start, end
