"""The embedded default data as a dataset: drawn pedestrians, described by sentences whose wrong words are known."""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mmreid_text.datasets.caption_rows import Columns
from mmreid_text.datasets.caption_table import CaptionTable, write_caption_table
from mmreid_text.datasets.splits import PROTOCOLS
from mmreid_text.datasets.text_reid_dataset import TextReIDDataset
from mmreid_text.datasets.transforms.tokenizer import get_tokenizer
from mmreid_text.file_lock import alone
from mmreid_text.procedural.cache import cached_images, fingerprint, lock_of
from mmreid_text.procedural.domains import World
from mmreid_text.procedural.oracle import gallery_features, query_features
from mmreid_text.registry import DATASETS

#: Identities of a split, unless asked for otherwise.
NUM_IDS = {"train": 4000, "val": 100, "test": 300}
_CHUNK = 4096
# Modules that the captions depend on.
_WRITING = (
    *("attributes", "domains", "grammar", "lexicon", "sentences", "shots"),
    *("styles_source", "styles_targets", "styles_web"),
)


@DATASETS.register_module()
class ProceduralPedestrians(TextReIDDataset):
    """Drawn pedestrians with captions: a noisy source to train on, three targets to transfer to, a web to start from.

    Images are rendered once at ``size`` into ``cache_dir`` and memory-mapped; items carry them as ``img`` uint8
    (H, W, 3) RGB. The name in results is ``procedural_<domain>``. Splits hold different people. In the domains
    ``web`` and ``source`` every image is an identity of its own (``images_per_id=1``); the targets have three images
    of each.

    Args:
        domain: 'web', 'source', 'street', 'mall' or 'station'.
        split: 'train', 'val' or 'test'.
        pipeline: Transforms or their configs.
        num_ids: Identities; None takes 4000, 100 or 300 (train, val, test).
        images_per_id: Images of each identity; None takes the domain's own number.
        size: Height and width of the images, pixels.
        noise_rate: Chance in [0, 1] that a stated attribute value is wrong; in the source domain only.
        sources: Caption sources to keep ('Ts-qwen', 'Td-qwen', 'Ts-shikra', 'Td-shikra' in the source domain); None
            keeps all.
        seed: Seed of augmentation.
        world_seed: Seed of people, pictures and sentences.
        cache_dir: Folder of the rendered images and the captions.
        test_mode: Rows are images with all their captions; None means every split but 'train'.
        protocol: 'val' or 'paper-val' (split 'val' has people of its own), or 'test-selected' (split 'val' is the test
            split).

    Raises:
        ValueError: Unknown domain, split, source or protocol, or a number out of range.

    Config::

        dict(type='ProceduralPedestrians', domain='source', split='train', num_ids=8000, pipeline=train_pipeline)
    """

    def __init__(
        self,
        domain: str = "source",
        split: str = "train",
        pipeline: Sequence[Any] = (),
        num_ids: int | None = None,
        images_per_id: int | None = None,
        size: tuple[int, int] = (64, 32),
        noise_rate: float = 0.2,
        sources: Sequence[str] | None = None,
        seed: int = 0,
        world_seed: int = 0,
        cache_dir: str | os.PathLike[str] = "work_dirs/procedural",
        test_mode: bool | None = None,
        protocol: str = "val",
    ) -> None:
        if split not in NUM_IDS:
            raise ValueError(f"split={split!r} must be one of {tuple(NUM_IDS)}.")
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol={protocol!r} must be one of {PROTOCOLS}.")
        people = "test" if split == "val" and protocol == "test-selected" else split
        num_ids = NUM_IDS[people] if num_ids is None else num_ids
        height, width = size
        self.world = World(domain, num_ids, images_per_id, world_seed, noise_rate, (height, width), people)
        name = self.result_name(domain=domain)
        self.images_path = cached_images(self.world, cache_dir)
        table_path, self.words_path = cached_captions(self.world, cache_dir, name)
        self._images: np.ndarray | None = None
        table = CaptionTable.open(table_path)
        self._rows = _rows_of(self.world.domain.caption_sources, sources, len(table))
        if len(self._rows) < len(table):
            table = table.select(self._rows)
        test_mode = split != "train" if test_mode is None else test_mode
        super().__init__(table, pipeline, test_mode=test_mode, seed=seed, name=name)
        self.split = split

    @classmethod
    def result_name(cls, **cfg: Any) -> str:
        return f"procedural_{cfg.get('domain', 'source')}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_images": None}  # workers map the file themselves

    @property
    def images(self) -> np.ndarray:
        """uint8 (num_images, H, W, 3) RGB, memory-mapped."""
        if self._images is None:
            self._images = np.load(self.images_path, mmap_mode="r")
        return self._images

    def image_fields(self, row: int) -> dict[str, Any]:
        return {"img": np.array(self.images[self.table.ids(row)[1]])}

    def token_truth(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What is known of the tokens at positions 1, 2, ... (after SOT) of every caption.

        Returns:
            ``wrong``, ``attribute``, ``real``: bool (num_captions, 75). Whether the token belongs to a word that states
            what is not so; to a word that states an attribute, right or wrong; and to the caption at all.
        """
        with np.load(self.words_path) as known:
            words = known["words"]
        tokenizer = get_tokenizer()
        wrong, attribute, real = (np.zeros((len(self._rows), 75), dtype=bool) for _ in range(3))
        first = np.searchsorted(words[:, 0], self._rows)
        last = np.searchsorted(words[:, 0], self._rows, side="right")
        for row, (begin, end) in enumerate(zip(first, last)):
            # Captions are plain ASCII with single spaces, so cleaning moves no character.
            spans = np.array(tokenizer.spans(self.table.caption(row)), dtype=np.int64).reshape(-1, 2)  # (n, 2)
            _, start, stop, _, is_wrong = words[begin:end, :, None].swapaxes(0, 1)  # each (words, 1)
            inside = (spans[:, 0] < stop) & (spans[:, 1] > start)  # (words, n)
            real[row, : len(spans)] = True
            attribute[row, : len(spans)] = inside.any(0)
            wrong[row, : len(spans)] = (inside & (is_wrong > 0)).any(0)
        return wrong, attribute, real

    def oracle_features(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Features whose inner product counts the attributes that a caption states rightly of an image.

        Returns:
            ``query`` (num_captions, D) and ``gallery`` (num_images, D) float32, ``query_pid`` and ``gallery_pid``
            int64: :func:`~mmreid_text.evaluation.ranking.rank` of these is this dataset's ceiling.
        """
        with np.load(self.words_path) as known:
            mentioned = known["mentioned"][self._rows]
        codes = self.world.attributes[self.world.pid]
        return query_features(mentioned), gallery_features(codes), np.array(self.table.pid), self.world.pid


def _rows_of(known: Sequence[str], wanted: Sequence[str] | None, num_captions: int) -> np.ndarray:
    """int64: rows of the wanted caption sources; an image's captions come in the order of ``known``."""
    if wanted is None:
        return np.arange(num_captions)
    strangers = [source for source in wanted if source not in known]
    if strangers or not wanted:
        raise ValueError(f"sources={list(wanted)} must be some of {sorted(set(known))}, the domain's caption sources.")
    keep = np.array([source in wanted for source in known])
    return np.flatnonzero(np.tile(keep, num_captions // len(known)))


def cached_captions(world: World, folder: str | os.PathLike[str], name: str) -> tuple[Path, Path]:
    """A world's captions: an Arrow caption table, and an ``.npz`` file of what is known of their words.

    The latter holds ``words`` int32 (W, 5): caption row, start, end, attribute column, whether it is wrong; and
    ``mentioned`` int8 (num_captions, A), see :class:`~mmreid_text.procedural.sentences.Caption`. The file names hold a
    fingerprint of all that the captions depend on.
    """
    facts = [name, world.split, world.seed, len(world), world.images_per_id, world.noise_rate]
    stem = f"{world.domain.name}_{world.split}_{fingerprint(facts, _WRITING)}"
    table, words = Path(folder) / f"{stem}.arrow", Path(folder) / f"{stem}.npz"
    if table.exists() and words.exists():
        return table, words
    with alone(lock_of(table)):
        if not (table.exists() and words.exists()):
            _write_captions(world, table, words, name)
    return table, words


def _write_captions(world: World, table: Path, words: Path, name: str) -> None:
    spans: list[np.ndarray] = []
    mentioned: list[np.ndarray] = []
    sources = tuple(dict.fromkeys(world.domain.caption_sources))
    fresh, beside = table.with_suffix(".new"), words.with_name(words.name + ".tmp")
    try:
        write_caption_table(fresh, _caption_chunks(world, spans, mentioned), name, sources=sources)
        with open(beside, "wb") as file:
            np.savez(file, words=np.concatenate(spans), mentioned=np.concatenate(mentioned))
        os.replace(beside, words)
        os.replace(fresh, table)
    finally:
        for leftover in (fresh, beside):
            with suppress(FileNotFoundError):
                leftover.unlink()


def _caption_chunks(world: World, spans: list[np.ndarray], mentioned: list[np.ndarray]) -> Iterator[Columns]:
    """Rows of the caption table; what is known of the words is appended to ``spans`` and ``mentioned``."""
    keys, sources = ("image", "caption", "pid", "image_id", "source"), world.domain.caption_sources
    progress = tqdm(total=len(world), desc=f"captions of {world.stream}", unit="image", delay=2)
    for first in range(0, len(world), _CHUNK):
        rows: list[tuple[str, str, int, int, str]] = []
        codes: list[np.ndarray] = []
        words: list[tuple[int, int, int, int, bool]] = []
        for index in range(first, min(first + _CHUNK, len(world))):
            for source, caption in zip(sources, world.captions(index)):
                row, wrong = first * len(sources) + len(rows), set(caption.wrong)
                words.extend((row, start, end, column, (start, end) in wrong) for start, end, column in caption.words)
                codes.append(caption.mentioned)
                rows.append((f"{index:07d}.jpg", caption.text, int(world.pid[index]), index, source))
            progress.update()
        spans.append(np.array(words, dtype=np.int32))
        mentioned.append(np.stack(codes))
        yield {**dict(zip(keys, zip(*rows))), "split": world.split}
    progress.close()
