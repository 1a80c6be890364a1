"""What a pseudo-text job is: images, a scorer, a vocabulary; read from a config and checked before work begins."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmreid_text.captioning.sharded_job import ShardedJob, check_keys, check_name, check_whole
from mmreid_text.datasets.worker_pool import worker_pool
from mmreid_text.pseudo_text.composer import Composer
from mmreid_text.pseudo_text.scoring import check_scorer, load_encoder
from mmreid_text.pseudo_text.vocabulary import Vocabulary, load_vocabulary

_PAGE = "docs/pseudo_text.md"


@dataclass(frozen=True)
class PseudoTextJob(ShardedJob):
    """Captions composed of attributes that a dual encoder sees in images.

    Attributes:
        images: Config of the image source.
        scorer: What :func:`~mmreid_text.pseudo_text.scoring.load_encoder` takes; the small CLIP in the package by
            default.
        vocabulary: File of attributes and phrases; None for the package's.
        name: Name of the resulting dataset.
        source: Of the captions; several per image are called ``<source>-1``, ``<source>-2``, ...
        captions_per_image: Captions of each image, of other patterns and words.
        templates: Sentence patterns to choose from.
        scale: Factor on cosines before the soft-max within an attribute.
        threshold: Probability above which an optional attribute is told.
        seed: Decides patterns and words.
        batch_size: Images that are scored at a time.
        device: Such as 'cuda:1'; 'auto' takes the GPU if there is one.
        shard_size: Images that a process claims at a time.
        stale_after: Seconds without a sign of life after which a process of another machine counts as dead.
    """

    images: dict[str, Any]
    scorer: dict[str, Any] = field(default_factory=dict)
    vocabulary: str | os.PathLike[str] | None = None
    name: str = "pseudo_texts"
    source: str = "UniPT"
    captions_per_image: int = 1
    templates: int = 456
    scale: float = 100.0
    threshold: float = 0.9
    seed: int = 0
    batch_size: int = 256
    device: str = "auto"
    shard_size: int = 1024
    stale_after: float = 120.0

    @classmethod
    def from_file(cls, path: str | Path) -> "PseudoTextJob":
        """Read a config file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: A key or value is unknown, missing or out of range; the error names file and key.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"The config {path} does not exist.")
        try:
            return cls.from_dict(Config.fromfile(path).to_dict())
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, cfg: Mapping[str, Any]) -> "PseudoTextJob":
        """The same from a config's top-level keys; names that begin with ``_`` are helpers of the file."""
        cfg = {key: value for key, value in cfg.items() if not key.startswith("_")}
        check_keys("", cfg, [each.name for each in fields(cls)], ("images",), _PAGE)
        check_whole(cfg, ("captions_per_image", "templates", "seed", "batch_size", "shard_size"))
        job = cls(**cfg)
        job.check()
        return job

    def check(self) -> None:
        """Raise ValueError where a value is out of range."""
        for name in (self.name, self.source):
            check_name(name)
        check_scorer(self.scorer)
        for key, least, most in (
            ("captions_per_image", 1, 20),
            ("templates", 1, 20_000),
            ("batch_size", 1, 65_536),
            ("shard_size", 1, 65_536),
            ("scale", 1e-3, 1e4),
            ("threshold", 0.0, 1.0),
            ("stale_after", 10, 1e6),
        ):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
                raise ValueError(f"{key}={value!r} must be a number from {least:,} to {most:,}.")

    @property
    def source_names(self) -> list[str]:
        if self.captions_per_image == 1:
            return [self.source]
        return [f"{self.source}-{number + 1}" for number in range(self.captions_per_image)]

    def build_vocabulary(self) -> Vocabulary:
        return load_vocabulary(self.vocabulary)

    def build_composer(self) -> Composer:
        return Composer(self.build_vocabulary(), self.templates, self.seed)

    def facts(self) -> dict[str, Any]:
        composer = self.build_composer()
        return {
            "name": self.name,
            "images": self.images,
            "sources": self.source_names,
            "scorer": _fingerprint(json.dumps(self.scorer, default=str)),
            "vocabulary": composer.vocabulary.fingerprint,
            "scale": self.scale,
            "threshold": self.threshold,
            "seed": self.seed,
            "shard_size": self.shard_size,
            "templates": [str(pattern) for pattern in composer.patterns],
        }


@lru_cache(maxsize=4)
def _fingerprint(scorer: str) -> str:
    # In a process of its own: one that has used torch's threads must not be forked, and workers are.
    with worker_pool(1, "loading the scorer") as pool:
        return pool.submit(_load_fingerprint, scorer).result()


def _load_fingerprint(scorer: str) -> str:
    return load_encoder(json.loads(scorer)).fingerprint
