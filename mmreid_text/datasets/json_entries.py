"""The entries of a JSON list of objects, read from a file of any size in constant memory."""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmreid_text.datasets.json_pairs import invalid_json

BLOCK = 1 << 22
"""Bytes read at a time."""
MAX_ENTRY = 1 << 24
"""Characters within which an entry must end."""
_SPACE = r"[ \t\n\r]*"
_OPENING = re.compile(rf"\ufeff?{_SPACE}\[{_SPACE}(\])?")
_SEPARATOR = re.compile(rf"{_SPACE}(?:,{_SPACE}|(\]))")
_ENDING = re.compile(rf"{_SPACE}\Z")
_decode = json.JSONDecoder().raw_decode


class Entry(NamedTuple):
    """An object of the list, and the byte offsets at which it and what is behind it begin."""

    value: dict[str, Any]
    start: int
    offset: int


def read_entries(path: Path, offset: int = 0) -> Iterator[Entry]:
    """Read ``[{...}, ...]`` in the order of the file.

    Args:
        path: JSON in UTF-8.
        offset: 0, or the ``start`` or ``offset`` of an entry to go on there.

    Raises:
        ValueError: It is no JSON, its top level is no list, or an entry is no object.
    """
    with open(path, "rb") as file:
        text = _Text(path, offset, file)
        if offset:
            ended = text.next() != "{"
        else:
            opening = text.match(_OPENING)
            if opening is None:
                raise _no_list(path)
            ended = opening[1] is not None
        while not ended:
            start = text.offset
            value = text.entry()
            separator = text.match(_SEPARATOR)
            if separator is None:
                raise invalid_json(path, text.offset, "expected ',' or ']' behind an entry")
            ended = separator[1] is not None
            yield Entry(value, start, text.offset)
        if not text.at_end():
            raise invalid_json(path, text.offset, "extra data behind the list")


class _Text:
    """A window on the file's text that moves on as it is parsed.

    Attributes:
        offset: Byte of the file at which the unread text begins.
    """

    def __init__(self, path: Path, offset: int, file: Any) -> None:
        self.path, self.offset, self.file = path, offset, file
        self._text, self._position = "", 0
        self._to_text = codecs.getincrementaldecoder("utf-8")()
        file.seek(offset)
        self._more()

    def next(self) -> str:
        """The character that follows, '' at the end."""
        return self._text[self._position : self._position + 1]

    def match(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        """Pass what matches here; more is read where the match might go on."""
        while True:
            match = pattern.match(self._text, self._position)
            if (match is not None and match.end() < len(self._text)) or not self._more():
                break
        if match is not None:
            self._pass(match.end())
        return match

    def entry(self) -> dict[str, Any]:
        """Parse and pass one object."""
        while True:
            if self.next() not in ("{", ""):
                break
            try:
                value, end = _decode(self._text, self._position)
            except (ValueError, RecursionError) as error:
                if len(self._text) - self._position < MAX_ENTRY and self._more():
                    continue
                reason = getattr(error, "msg", str(error))
                raise invalid_json(self.path, self.offset, f"in the entry that begins there: {reason}") from error
            self._pass(end)
            return value
        raise ValueError(
            f"{self.path}: the entry at byte {self.offset:,} begins with "
            f"{self._text[self._position : self._position + 20]!r}, but must be an object. docs/data.md shows the "
            "format."
        )

    def at_end(self) -> bool:
        """Whether nothing but space follows."""
        while _ENDING.match(self._text, self._position):
            if not self._more():
                return True
        return False

    def _pass(self, end: int) -> None:
        passed = self._text[self._position : end]
        self.offset += len(passed) if passed.isascii() else len(passed.encode())
        self._position = end

    def _more(self) -> bool:
        data = self.file.read(BLOCK)
        try:
            text = self._to_text.decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise invalid_json(self.path, self.offset, f"behind it {error}") from error
        self._text, self._position = self._text[self._position :] + text, 0
        return bool(data)


def _no_list(path: Path) -> ValueError:
    with open(path, "rb") as file:
        start = file.read(BLOCK).lstrip()
    for kind, first in (("dict", b"{"), ("str", b'"'), ("number", b"-0123456789"), ("bool or null", b"tfn")):
        if start and start[0] in first:
            return ValueError(
                f"{path} holds a JSON {kind}, but the published file is a list. docs/data.md shows the format."
            )
    return invalid_json(path, 0, "expected '['")
