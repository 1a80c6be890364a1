"""The pairs of one flat JSON object of strings, read from a file of any size in constant memory."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

BLOCK = 1 << 22
"""Bytes read at a time."""
MAX_PAIR = 1 << 24
"""Bytes within which a pair must end."""
_SPACE = rb"[ \t\n\r]*"
_STRING = rb'"([^"\\\x00-\x1f]*(?:\\.[^"\\\x00-\x1f]*)*)"'
_PAIR = re.compile(_SPACE + _STRING + _SPACE + rb":" + _SPACE + _STRING + _SPACE + rb"([,}])")
_KEY = re.compile(_SPACE + _STRING + _SPACE + rb":" + _SPACE)
_OPENING = re.compile(rb"(?:\xef\xbb\xbf)?" + _SPACE + rb"\{(?:" + _SPACE + rb"(\}))?")
_BEHIND_PAIR = re.compile(rb"([,}])")
_ENDING = re.compile(_SPACE + rb"\Z")


class Pair(NamedTuple):
    """A key, its text, and the byte offset from which :func:`read_pairs` goes on behind them."""

    key: str
    text: str
    offset: int


def read_pairs(path: Path, offset: int = 0) -> Iterator[Pair]:
    """Read ``{key: text, ...}`` in the order of the file, from its start or from behind a pair.

    Args:
        path: JSON in UTF-8.
        offset: 0, or the ``offset`` of a pair.

    Raises:
        ValueError: It is no JSON, its top level is no object, or a value is no string.
    """
    with open(path, "rb") as file:
        start = max(0, offset - 1)
        file.seek(start)
        buffer = file.read(BLOCK)
        before = (_BEHIND_PAIR if offset else _OPENING).match(buffer)
        if before is None:
            raise _no_object(path)
        position, end = before.end(), before[1]
        while end != b"}":
            match = _PAIR.match(buffer, position)
            if match is None:
                more = file.read(BLOCK) if len(buffer) - position < MAX_PAIR else b""
                if not more:
                    raise _bad_pair(buffer[position:], path, start + position)
                buffer, start, position = buffer[position:] + more, start + position, 0
                continue
            key, text, end = match.groups()
            position = match.end()
            try:
                pair = Pair(_decode(key), _decode(text), start + position)
            except ValueError as error:
                raise invalid_json(path, start + match.start(), str(error)) from error
            yield pair
        if not _ENDING.match(buffer[position:] + file.read(BLOCK)):
            raise invalid_json(path, start + position, "extra data behind the object")


def _decode(string: bytes) -> str:
    return json.loads(b'"' + string + b'"') if b"\\" in string else string.decode()


def _no_object(path: Path) -> ValueError:
    with open(path, "rb") as file:
        start = file.read(BLOCK).lstrip()
    for kind, first in (("list", b"["), ("str", b'"'), ("number", b"-0123456789"), ("bool or null", b"tfn")):
        if start and start[0] in first:
            return ValueError(
                f"{path} holds a JSON {kind}, but the published file is a dict. docs/data.md shows the format."
            )
    return invalid_json(path, 0, "expected '{'")


def _bad_pair(rest: bytes, path: Path, offset: int) -> ValueError:
    """What is wrong with the pair that ``rest`` begins with."""
    key = _KEY.match(rest)
    if key is None:
        return invalid_json(path, offset, "expected a name in quotes, a colon and a text")
    try:
        value, _ = json.JSONDecoder().raw_decode(rest[key.end() :].decode(errors="replace"))
    except ValueError as error:
        return invalid_json(path, offset, str(error))
    if isinstance(value, str):
        return invalid_json(path, offset, "expected ',' or '}' behind the text")
    return ValueError(f"{path}: the caption of {_decode(key[1])!r} is {value!r:.80}, but must be one string.")


def invalid_json(path: Path, offset: int, reason: str) -> ValueError:
    """The error of a file that is no JSON, or not all of it."""
    return ValueError(
        f"{path} is not valid JSON (byte {offset:,}: {reason}). Was the download cut short? Fetch it again."
    )
