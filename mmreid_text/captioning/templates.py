"""Sentence templates: patterns with slots that a captioner fills, after which no two captions need sound alike."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from mmreid_text.captioning.template_grammar import compose, pattern_key

__all__ = ["BANK", "SLOTS", "TEMPLATES", "choose_template", "compose", "fault_of", "load_templates", "pattern_key"]

#: What a template may leave open, in square brackets.
SLOTS = ("person", "clothing", "footwear", "hair", "accessory", "belongings")
#: The bank that comes with the package.
BANK = Path(__file__).with_name("templates.txt")
_BRACKETS = re.compile(r"\[([^\[\]]*)\]|[\[\]]")


def fault_of(template: str) -> str | None:
    """Why a line is no template, None if it is one.

    >>> fault_of("A man in [trousers].")
    'has the unknown slot [trousers]; slots are [person], [clothing], [footwear], [hair], [accessory], [belongings]'
    """
    if not template.strip():
        return "is empty"
    known = ", ".join(f"[{slot}]" for slot in SLOTS)
    slots = 0
    for match in _BRACKETS.finditer(template):
        if match[1] is None:
            return f"has a bracket without its other half at {template[match.start() :][:20]!r}"
        if match[1] not in SLOTS:
            return f"has the unknown slot {match[0]}; slots are {known}"
        slots += 1
    return None if slots else f"has no slot; slots are {known}"


def load_templates(path: str | os.PathLike[str]) -> list[str]:
    """Read templates, one per line; blank lines and lines that begin with ``#`` are passed over.

    Raises:
        FileNotFoundError: No such file.
        ValueError: The file is not UTF-8 or holds no template, or a line has an unknown slot, half a bracket, no slot,
            or repeats another (by :func:`pattern_key`).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of templates; write one template per line, as {BANK} does")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text ({error}); save it as UTF-8") from error
    seen: dict[str, int] = {}
    templates = []
    for number, line in enumerate(lines, 1):
        template = " ".join(line.split())
        if not template or template.startswith("#"):
            continue
        fault = fault_of(template)
        if fault:
            raise ValueError(f"{path}:{number} {fault}: {template!r}")
        first = seen.setdefault(pattern_key(template), number)
        if first != number:
            raise ValueError(f"{path}:{number} repeats line {first}, remove one of them: {template!r}")
        templates.append(template)
    if not templates:
        raise ValueError(f"{path} holds no template; write at least one line such as '[person] wears [clothing].'")
    return templates


TEMPLATES: tuple[str, ...] = tuple(load_templates(BANK))


def choose_template(templates: Sequence[str], seed: int, image: str, source: str) -> int:
    """Position of the template for a caption: a uniform hash of its other arguments, the same in every process.

    Args:
        templates: The templates to choose from; only their number matters.
        seed: Seed of the job.
        image: Name of the image.
        source: Caption source, such as ``Td-qwen``, so that two sources choose apart.

    Raises:
        ValueError: There are no templates.

    >>> choose_template(TEMPLATES, 0, "a.jpg", "Td-qwen") == choose_template(TEMPLATES, 0, "a.jpg", "Td-qwen")
    True
    """
    if not templates:
        raise ValueError("no templates to choose from")
    name = "\0".join((str(seed), image, source)).encode("utf-8", "surrogateescape")
    number = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")
    return number * len(templates) >> 64
