"""What the readers of captioned images without identities share: captions joined with the images that are there."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmreid_text.datasets.caption_rows import Columns
from mmreid_text.datasets.caption_table import CaptionTable
from mmreid_text.datasets.image_names import image_names, name_hashes
from mmreid_text.datasets.json_pairs import Pair
from mmreid_text.datasets.luperson_join import Findings
from mmreid_text.datasets.published import PublishedDataset, Tree, file_state
from mmreid_text.datasets.sorted_runs import CaptionRuns, SortedNames
from mmreid_text.datasets.text_reid_dataset import log

CHUNK_IMAGES = 16_384


class CaptionedImages(PublishedDataset):
    """Base of the readers of images with captions and without identities.

    ``pid`` is the image's row, so an image's captions are positives of each other. Rows are ordered by the images'
    names, an image's captions as they stand in the files; of equal captions of one image the first stays, and empty
    ones are left out. Images without captions, and captions without an image, are counted and left out.
    """

    NESTED: ClassVar[bool] = False
    """Whether images lie in folders below the image folder, and are named with them."""

    def choose(self, table: CaptionTable, split: str, protocol: str) -> CaptionTable:
        return super().choose(table, split, "val")  # there are no identities to hold out

    @classmethod
    def caption_files(cls, root: Path) -> dict[str, list[Path]]:
        """Files with captions by split, in the order in which an image's captions are to stand."""
        raise NotImplementedError

    @classmethod
    def read_captions(cls, path: Path, offset: int) -> Iterator[Pair]:
        """Image names and captions of one of these files, from its start or from behind a pair."""
        raise NotImplementedError

    @classmethod
    def check_annotation(cls, root: Path) -> None:
        cls.caption_files(root)

    @classmethod
    def inputs(cls, root: Path) -> dict[str, list[int]]:
        files = chain.from_iterable(cls.caption_files(root).values())
        states = {str(path.relative_to(root)): file_state(path) for path in files}
        hashes = name_hashes(cls.find_images(root), cls.NESTED)
        # A sum modulo 2^64, as folders are listed in any order.
        return {**states, "images": [len(hashes), int(hashes.sum(dtype=np.uint64))]}

    @classmethod
    def load(cls, root: Path) -> CaptionTable:
        log(f"{cls.TITLE}: reading the published files into memory; `tools/prepare_data.py` writes a table that maps.")
        return super().load(root)

    @classmethod
    def read(cls, root: Path, work: Path | None = None) -> Tree:
        files, images = cls.caption_files(root), cls.find_images(root)
        names = SortedNames(image_names(images, cls.NESTED), CHUNK_IMAGES, work)
        if not names.count:
            raise FileNotFoundError(f"{cls.TITLE}: no image lies in {images}. docs/data.md says how to get them.")
        captions = {
            split: [CaptionRuns(path, work, cls.read_captions) for path in paths] for split, paths in files.items()
        }
        tree = Tree(iter(()), images, sum(runs.count for own in captions.values() for runs in own))
        log(f"{cls.TITLE}: {tree.captions:,} captions; {names.count:,} images")
        tree.chunks = cls._rows(names, captions, tree)
        return tree

    @classmethod
    def _rows(cls, names: SortedNames, captions: Mapping[str, Sequence[CaptionRuns]], tree: Tree) -> Iterator[Columns]:
        found = Findings()
        for split, runs in captions.items():
            yield from join_captions(names, runs, split, found)
        if not found.count("images"):
            raise FileNotFoundError(
                f"{cls.TITLE}: no caption belongs to one of the {names.count:,} images in {tree.image_root}"
                f"{_stranger(found)}. They are joined by name; were the files renamed?"
            )
        if strangers := found.count("strangers"):
            tree.warn(
                f"{cls.TITLE}: {strangers:,} of {tree.captions:,} captions belong to images that are not in "
                f"{tree.image_root}{_stranger(found)}; they are left out. Fetch the rest of the images to use them."
            )
        if (bare := names.count - found.count("images")) > 0:
            tree.notes.append(f"{bare:,} of {names.count:,} images have no caption; they are left out.")
        if blank := found.count("blank"):
            tree.warn(
                f"{cls.TITLE}: {blank:,} captions are empty (first: of {found.first('blank')!r}); they are left out. "
                "Fetch the file again if unexpected."
            )
        if repeated := found.count("repeated"):
            tree.notes.append(f"{repeated:,} captions repeat an earlier one of their image; they are left out.")


def join_captions(
    names: SortedNames, captions: Sequence[CaptionRuns], split: str, findings: Findings
) -> Iterator[Columns]:
    """Rows of the images that have captions, in the order of the names; an image's captions in that of the files.

    Args:
        names: The images.
        captions: The caption files of the split.
        split: What the rows are marked with.
        findings: Raised as the chunks go by. Kinds: ``images``, ``strangers`` (captions without an image), ``blank``
            and ``repeated``.
    """
    rows = 0
    for i, (chunk, following) in enumerate(pairwise(chain(names, [None]))):
        first = chunk[0].as_py() if i else None
        last = None if following is None else following[0].as_py()
        parts = pa.concat_tables([runs.between(first, last) for runs in captions]).combine_chunks()
        image, texts = _join_chunk(chunk, parts, findings)
        kept, image_id = np.unique(image, return_inverse=True)
        findings.add("images", len(kept))
        if len(kept):
            image_id = image_id + rows
            yield {
                "image": chunk.take(pa.array(image)),
                "caption": texts,
                "pid": image_id,
                "image_id": image_id,
                "split": split,
            }
        rows += len(kept)


def _join_chunk(names: pa.StringArray, captions: pa.Table, found: Findings) -> tuple[np.ndarray, pa.StringArray]:
    """Position among ``names``, ascending, and text of every caption that stays."""
    keys, texts = (captions.column(key).combine_chunks() for key in ("name", "caption"))
    position = pc.index_in(keys, value_set=names)
    known = position.is_valid().to_numpy(zero_copy_only=False)
    blank = known & pc.equal(pc.utf8_trim_whitespace(texts), "").to_numpy(zero_copy_only=False)
    for kind, where in (("strangers", ~known), ("blank", blank)):
        if where.any():
            found.add(kind, int(where.sum()), keys[int(np.argmax(where))].as_py())
    rows = np.flatnonzero(known & ~blank)
    image = position.fill_null(0).to_numpy()[rows].astype(np.int64)
    text = texts.take(pa.array(rows)).dictionary_encode().indices.to_numpy().astype(np.int64)
    _, first = np.unique(image * (len(rows) + 1) + text, return_index=True)
    found.add("repeated", len(rows) - len(first))
    order = first[np.lexsort((first, image[first]))]
    return image[order], texts.take(pa.array(rows[order]))


def _stranger(found: Findings) -> str:
    return f" (first: {found.first('strangers')!r})" if found.count("strangers") else ""
