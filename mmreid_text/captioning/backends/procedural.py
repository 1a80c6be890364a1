"""The embedded captioner: describes procedural people as a multi-modal LLM would, its habits and mistakes included."""

import asyncio
import functools
import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from mmreid_text.captioning.backends.base import BackendError, CaptionAnswer, CaptionBackend, CaptionRequest
from mmreid_text.procedural.attributes import NUM_ATTRIBUTES
from mmreid_text.procedural.domains import World
from mmreid_text.procedural.grammar import Style
from mmreid_text.procedural.sentences import NUM_DRAWS, describe
from mmreid_text.procedural.shots import visible_attributes
from mmreid_text.procedural.styles_source import DYNAMIC, ORDERS, STATIC_QWEN, STATIC_SHIKRA
from mmreid_text.randomness import uniform_row
from mmreid_text.registry import CAPTION_BACKENDS

_STATIC = {"qwen": STATIC_QWEN, "shikra": STATIC_SHIKRA}
_ITEMS = {
    "hair": ("hair",),
    "accessory": ("hat",),
    "clothing": ("upper", "lower"),
    "footwear": ("shoes",),
    "belongings": ("bag",),
}
_SLOT = re.compile(r"\[(\w+)\]")
_WORN = re.compile(r"(wearing|dressed|clad|clothed|carrying|holding|with|in)\b[^\[]*\[(?!person)", re.IGNORECASE)
_FOLLOWED = 8
"""How often the template's pattern is taken where a plain one would do, too: 8 times in 9."""


@CAPTION_BACKENDS.register_module()
class Procedural(CaptionBackend):
    """Captions pictures of a procedural world without looking at them: it knows who is in them.

    The person is found by the number in the image's file name, as :class:`ProceduralImages` and
    ``tools/export_procedural.py luperson_mllm`` write it. What is visible in the picture is told, and each stated
    value is wrong with the chance ``noise_rate``. A static instruction gets one of two sentence patterns per captioner,
    the collapse that Tan et al. (CVPR 2024, section 3.1) report of multi-modal LLMs. A dynamic one gets sentences of
    the template's *pattern class*: how it opens (with the person, a thing, or the scene), the order in which it names
    things, and how many sentences it has; the template itself decides, by hash, which pattern of its class that is.
    Answers are a function of the world, the job's seed, image, source and attempt.

    Args:
        domain: Domain of the world.
        num_ids: Its identities.
        images_per_id: Images of each; None takes the domain's number.
        seed: Seed of the world.
        split: Split of the world.
        noise_rate: Chance in [0, 1] that a stated value is wrong.
        captioner: Whose static patterns: 'qwen' or 'shikra'.

    Raises:
        ValueError: An unknown captioner, or :class:`~mmreid_text.procedural.domains.World` refuses the arguments.

    Config::

        dict(type='Procedural', domain='source', num_ids=2000, captioner='qwen')
    """

    def __init__(
        self,
        domain: str = "source",
        num_ids: int = 2000,
        images_per_id: int | None = None,
        seed: int = 0,
        split: str = "train",
        noise_rate: float = 0.2,
        captioner: str = "qwen",
    ) -> None:
        if captioner not in _STATIC:
            raise ValueError(f"captioner={captioner!r} must be one of {', '.join(_STATIC)}.")
        if not 0 <= noise_rate <= 1:
            raise ValueError(f"noise_rate={noise_rate} is a chance: give a number from 0 to 1.")
        self.world = World(domain, num_ids, images_per_id, seed, noise_rate, split=split)
        self.noise_rate, self.captioner = noise_rate, captioner

    @property
    def facts(self) -> Mapping[str, Any]:
        world = self.world
        return {
            "type": "Procedural",
            "world": [world.stream, world.images_per_id, world.seed],
            "noise_rate": self.noise_rate,
            "captioner": self.captioner,
        }

    async def caption(self, request: CaptionRequest) -> CaptionAnswer:
        await asyncio.sleep(0)  # writing takes a millisecond of this thread
        style = _STATIC[self.captioner] if request.template is None else style_of(request.template)
        return CaptionAnswer(self._write(style, self._row(request.image_name), request))

    def _row(self, name: str) -> int:
        stem = PurePosixPath(name).stem
        if not stem.isdecimal() or int(stem) >= len(self.world):
            raise BackendError(
                f"Image {name!r} is none of the {len(self.world):,} of procedural world {self.world.stream}: their "
                "files are called by number, such as 0000012.jpg. Give back end and images the same world (num_ids, "
                "images_per_id, seed)."
            )
        return int(stem)

    def _write(self, style: Style, row: int, request: CaptionRequest) -> str:
        world = self.world
        codes = world.attributes[world.pid[row]].tolist()
        stream = f"{world.stream}/captioning/{request.source}"
        wording = uniform_row(request.seed, request.attempt, row, f"{stream}/wording", NUM_DRAWS)
        errors = uniform_row(request.seed, request.attempt, row, f"{stream}/errors", 2 * NUM_ATTRIBUTES)
        visible = visible_attributes(world.shot(row), codes)
        return describe(style, codes, visible, wording, errors, self.noise_rate).text


@functools.lru_cache(maxsize=8192)
def style_of(template: str) -> Style:
    """The style that writes sentences of a template's pattern class."""
    digest = hashlib.blake2b(template.encode(), digest_size=16).digest()
    first, later = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
    frames = _classes()[opening(template)]
    plain = next(frame for frame in frames if _units(frame) == 1)
    sentences = sum(template.count(mark) for mark in ".!;") or 1
    named = [item for slot in _SLOT.findall(template) for item in _ITEMS.get(slot, ())]
    order = tuple(dict.fromkeys(named))
    # What the template does not name is told last, as captioners tend to.
    order += tuple(item for item in ORDERS[later % len(ORDERS)] if item not in order)
    return replace(
        DYNAMIC,
        frames=(frames[first % len(frames)],) * _FOLLOWED + (plain,),
        later=(DYNAMIC.later[later % len(DYNAMIC.later)], "{P} {V*}."),
        orders=(order,),
        units={1: (0.0, 0.0, 0.0, 0.0, 0.0, 1.0), 2: (0.0, 0.3, 0.6, 0.1)}.get(sentences, (0.2, 0.6, 0.2)),
    )


def opening(pattern: str) -> str:
    """How a template or a frame of :class:`~mmreid_text.procedural.grammar.Style` opens: 'person', 'thing' or 'scene'.

    >>> opening("Wearing [clothing], [person] walks by."), opening("The {sex} stands {W*}.")
    ('thing', 'person')
    """
    if re.match(r"((a|an|the|this|that|one) )?(\[person\]|\{[ATP]\}|\{sex\})", pattern, re.IGNORECASE):
        return "person"
    first = _SLOT.match(pattern)
    if (first and first[1] != "person") or re.match(r"\{[VGWCN]\*?\}|With \{N", pattern) or _WORN.match(pattern):
        return "thing"
    return "scene"


@functools.cache
def _classes() -> dict[str, tuple[str, ...]]:
    classes: dict[str, list[str]] = {"person": [], "thing": [], "scene": []}
    for frame in DYNAMIC.frames:
        classes[opening(frame)].append(frame)
    return {name: tuple(frames) for name, frames in classes.items()}


def _units(frame: str) -> int:
    return len(re.findall(r"\{[VGWCN]\*?\}", frame))
