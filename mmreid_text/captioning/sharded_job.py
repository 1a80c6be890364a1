"""What jobs that write captions shard by shard share: a config that is checked, and a folder that is one job's."""

import difflib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmreid_text.atomic_write import write_text
from mmreid_text.captioning.image_sources import ImageSource
from mmreid_text.captioning.shards import JobFolder
from mmreid_text.file_lock import alone
from mmreid_text.registry import IMAGE_SOURCES

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class ShardedJob(ABC):
    """Base of the jobs.

    Attributes:
        name: Name of the resulting dataset.
        images: Config of the image source.
        shard_size: Images that a process claims at a time.
        stale_after: Seconds without a sign of life after which a process of another machine counts as dead.
    """

    name: str
    images: dict[str, Any]
    shard_size: int
    stale_after: float

    @property
    @abstractmethod
    def source_names(self) -> list[str]:
        """Names of the caption sources."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What the captions depend on; where and how fast they are made is left out."""

    def build_images(self) -> ImageSource:
        return build_part(IMAGE_SOURCES, self.images, "images")

    def stamp(self) -> dict[str, Any]:
        """:meth:`facts` in JSON types."""
        return json.loads(json.dumps(self.facts(), default=str))

    def open(self, out: Path) -> JobFolder:
        """The job's folder, which other processes may work in; it is refused if it is another job's.

        Raises:
            ValueError: The folder belongs to a job whose :meth:`facts` differ.
        """
        facts = self.stamp()
        folder = JobFolder(out, self.shard_size, self.stale_after)
        stamp = out / "job.json"
        with alone(out / "job.json.lock"):
            if stamp.exists():
                known = json.loads(stamp.read_text())
                for key, value in facts.items():
                    if known.get(key) != value:
                        raise ValueError(
                            f"{out} belongs to a job with other `{key}` ({_first_difference(known.get(key), value)}). "
                            "Take another --out, or delete that folder."
                        )
            else:
                write_text(stamp, json.dumps(facts, indent=1, ensure_ascii=False))
        return folder


def build_part(registry: Any, cfg: Mapping[str, Any], where: str) -> Any:
    """Build an image source or back end; errors name ``where`` in the config it stands."""
    cfg = dict(cfg)
    kind = cfg.get("type")
    registry.import_from_location()
    if not isinstance(kind, str) or registry.get(kind) is None:
        raise ValueError(f"{where}.type={kind!r} is unknown; choose one of {', '.join(sorted(registry.module_dict))}.")
    if "api_key" in cfg:
        raise ValueError(
            f"{where} holds an api_key: put it into an environment variable and name that, api_key_env=..."
        )
    try:
        return registry.build(cfg)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from error


def check_keys(
    where: str,
    cfg: Mapping[str, Any],
    known: Iterable[str],
    needed: Iterable[str] = (),
    page: str = "docs/captioning.md",
) -> None:
    """Refuse unknown and missing keys of a part of a config, with the nearest known name and the page that helps."""
    known = tuple(known)
    for key in cfg:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}."
            raise ValueError(f"the key {f'{where}.{key}'.lstrip('.')!r} is unknown; {hint}")
    for key in needed:
        if key not in cfg:
            raise ValueError(f"the key {f'{where}.{key}'.lstrip('.')!r} is missing ({page}).")


def check_whole(cfg: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Refuse values of these keys that are no whole numbers."""
    for key in keys:
        value = cfg.get(key, 0)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{key}={value!r} must be a whole number.")


def check_name(name: str) -> None:
    """Refuse a name that files cannot be called by."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"name={name!r} must be letters, digits, '.', '_' and '-': files are called by it.")


def _first_difference(known: Any, value: Any) -> str:
    if isinstance(known, dict) and isinstance(value, dict):
        for key in [*known, *value]:
            if known.get(key) != value.get(key):
                return f"{key}: {_first_difference(known.get(key), value.get(key))}"
    if isinstance(known, list) and isinstance(value, list):
        if len(known) != len(value):
            return f"{len(known)} of them, not {len(value)}"
        return next((_first_difference(a, b) for a, b in zip(known, value) if a != b), "")
    return f"{str(known)[:80]!r}, not {str(value)[:80]!r}"
