"""What a captioning job is: images, caption sources, cleaning; read from a config and checked before work begins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mmreid_text.captioning.backends.base import CaptionBackend
from mmreid_text.captioning.cleaning import CleaningContext
from mmreid_text.captioning.instructions import Instruction, get_instruction
from mmreid_text.captioning.sharded_job import ShardedJob, build_part, check_keys, check_name
from mmreid_text.captioning.templates import TEMPLATES, choose_template, compose, load_templates
from mmreid_text.registry import CAPTION_BACKENDS

_JOB_KEYS = ("name", "images", "sources", "seed", "shard_size", "re_asks", "cleaning", "stale_after")
_SOURCE_KEYS = ("name", "backend", "instruction", "templates")
_CLEANING = {"min_words": 3, "max_words": 120, "max_repeats": 100}
_WHOLE = ("seed", "shard_size", "re_asks", *_CLEANING)
_MOST_SOURCES = 100


@dataclass(frozen=True)
class CaptionSource:
    """One of the job's captioners with its instruction.

    Attributes:
        name: Of the caption source, such as ``Td-qwen``.
        backend: Config of the back end.
        instruction: What it is asked.
        templates: What a dynamic instruction chooses from; empty for a static one.
    """

    name: str
    backend: dict[str, Any]
    instruction: Instruction
    templates: Sequence[str] = ()

    def template_of(self, seed: int, image: str) -> int:
        """Position of an image's template, -1 under a static instruction."""
        return choose_template(self.templates, seed, image, self.name) if self.templates else -1


@dataclass(frozen=True)
class CaptionJob(ShardedJob):
    """A captioning job.

    Attributes:
        images: Config of the image source.
        sources: Each image gets one caption of every source.
        name: Name of the resulting dataset.
        seed: Decides templates and sampling.
        shard_size: Images that a process claims at a time.
        re_asks: Times that a rejected caption is asked for again.
        max_repeats: Captions of one source that may share a text, counted by each process for itself; None for any.
        min_words: Fewest words of a caption.
        max_words: Most words of a caption.
        stale_after: Seconds without a sign of life after which a process of another machine counts as dead.
    """

    images: dict[str, Any]
    sources: Sequence[CaptionSource]
    name: str = "captions"
    seed: int = 0
    shard_size: int = 256
    re_asks: int = 2
    max_repeats: int | None = 100
    min_words: int = 3
    max_words: int = 120
    stale_after: float = 120.0
    contexts: Sequence[CleaningContext] = field(init=False)

    def __post_init__(self) -> None:
        contexts = [CleaningContext(s.instruction.text, self.min_words, self.max_words) for s in self.sources]
        object.__setattr__(self, "contexts", contexts)

    @classmethod
    def from_file(cls, path: str | Path) -> "CaptionJob":
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
    def from_dict(cls, cfg: Mapping[str, Any]) -> "CaptionJob":
        """The same from a config's top-level keys; names that begin with ``_`` are helpers of the file."""
        cfg = {key: value for key, value in cfg.items() if not key.startswith("_")}
        check_keys("", cfg, _JOB_KEYS, ("images", "sources"))
        cleaning = dict(cfg.pop("cleaning", {}))
        check_keys("cleaning", cleaning, _CLEANING)
        for key, value in [*cfg.items(), *cleaning.items()]:
            whole = isinstance(value, int) and not isinstance(value, bool)
            if key in _WHOLE and not whole and (key, value) != ("max_repeats", None):
                raise ValueError(f"{key}={value!r} must be a whole number.")
        if not isinstance(cfg["sources"], (list, tuple)) or not 1 <= len(cfg["sources"]) <= _MOST_SOURCES:
            raise ValueError(f"sources must be a list of 1 to {_MOST_SOURCES} dicts.")
        seed = cfg.get("seed", 0)
        cfg["sources"] = [_source_of(i, source, seed) for i, source in enumerate(cfg["sources"])]
        job = cls(**cfg, **{**_CLEANING, **cleaning})
        job.check()
        return job

    def check(self) -> None:
        """Raise ValueError where a value is out of range."""
        for name in [*self.source_names, self.name]:
            check_name(name)
        twice = [name for name in self.source_names if self.source_names.count(name) > 1]
        if twice:
            raise ValueError(f"Two sources are called {twice[0]!r}; give each a name of its own.")
        if self.max_repeats is not None and self.max_repeats > 65_534:
            raise ValueError(f"max_repeats={self.max_repeats} must not pass 65,534; None turns the rule off.")
        for key, least in (("shard_size", 1), ("re_asks", 0), ("stale_after", 10), ("max_repeats", 1)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise ValueError(f"{key}={value} must be at least {least}.")
        if self.re_asks > 1000 or self.shard_size > 65_536:
            raise ValueError(f"re_asks={self.re_asks} and shard_size={self.shard_size} must not pass 1,000 and 65,536.")

    def build_backends(self) -> list[CaptionBackend]:
        """One back end per source; sources of the same config share theirs, its limits and its memory."""
        configs = [source.backend for source in self.sources]
        built: list[CaptionBackend] = []
        for i, config in enumerate(configs):
            first = configs.index(config)
            built.append(built[first] if first < i else build_part(CAPTION_BACKENDS, config, f"sources[{i}].backend"))
        return built

    @property
    def source_names(self) -> list[str]:
        return [source.name for source in self.sources]

    def facts(self) -> dict[str, Any]:
        sources = [
            {
                "name": source.name,
                "backend": dict(backend.facts),
                "instruction": source.instruction.text,
                "templates": list(source.templates),
            }
            for source, backend in zip(self.sources, self.build_backends())
        ]
        return {
            "name": self.name,
            "images": self.images,
            "seed": self.seed,
            "shard_size": self.shard_size,
            "sources": sources,
        }


def _source_of(number: int, cfg: Mapping[str, Any], seed: int) -> CaptionSource:
    where = f"sources[{number}]"
    check_keys(where, cfg, _SOURCE_KEYS, ("name", "backend", "instruction"))
    instruction = get_instruction(cfg["instruction"])
    wanted = cfg.get("templates")
    if instruction.dynamic != (wanted is not None):
        need = "needs templates='bank', 'grammar:<number>' or a file" if instruction.dynamic else "takes no templates"
        raise ValueError(f"{where} ({cfg['name']}): the instruction {instruction.name!r} {need}.")
    templates: Sequence[str] = ()
    if wanted == "bank":
        templates = TEMPLATES
    elif isinstance(wanted, str) and wanted.startswith("grammar:"):
        count = wanted.partition(":")[2]
        if not count.isdecimal() or int(count) < 1:
            raise ValueError(f"{where}.templates={wanted!r} must be 'grammar:' and a number, such as 'grammar:2000'.")
        templates = tuple(compose(int(count), seed))
    elif wanted is not None:
        templates = tuple(load_templates(wanted))
    return CaptionSource(cfg["name"], dict(cfg["backend"]), instruction, templates)
