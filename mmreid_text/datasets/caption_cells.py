"""Single cells of a caption table, read from where they lie in its Arrow file."""

import struct
from bisect import bisect_right

import numpy as np
import pyarrow as pa

_OFFSETS = struct.Struct("<ii").unpack_from
_NUMBER = struct.Struct("<q").unpack_from


class CaptionCells:
    """The content of an Arrow file of captions, its cells found by position.

    Arrow's own arrays keep several objects per record batch and column. Visited in random order, those of millions of
    rows would not stay in the processor's caches; two numbers per batch and column do.
    """

    def __init__(self, content: pa.Buffer) -> None:
        self.content = content
        self.data = pa.ipc.open_file(content).read_all()
        sizes = [len(chunk) for chunk in self.data.column("pid").chunks]
        self.starts = [0, *np.cumsum(sizes).tolist()]
        """The position at which each record batch starts, and the end."""
        self._step = sizes[0] if sizes and len(set(sizes[:-1]) | {sizes[0]}) == 1 and sizes[-1] <= sizes[0] else 0
        self._bytes = memoryview(content)
        self._offsets_at = {key: self._buffers_at(key, 1) for key in ("image", "caption")}
        self._text_at = {key: self._buffers_at(key, 2) for key in ("image", "caption")}
        self._numbers_at = {key: self._buffers_at(key, 1) for key in ("pid", "image_id")}

    def text(self, key: str, position: int) -> str:
        """Cell of column 'image' or 'caption'."""
        batch, row = self._locate(position)
        start, stop = _OFFSETS(self._bytes, self._offsets_at[key][batch] + 4 * row)
        first = self._text_at[key][batch]
        return str(self._bytes[first + start : first + stop], "utf-8")

    def number(self, key: str, position: int) -> int:
        """Cell of column 'pid' or 'image_id'."""
        batch, row = self._locate(position)
        return _NUMBER(self._bytes, self._numbers_at[key][batch] + 8 * row)[0]

    def _locate(self, position: int) -> tuple[int, int]:
        if self._step:
            return divmod(position, self._step)
        batch = bisect_right(self.starts, position) - 1
        return batch, position - self.starts[batch]

    def _buffers_at(self, key: str, which: int) -> list[int]:
        """Where in the content the buffer of each record batch begins; 0 for one without bytes."""
        buffers = [chunk.buffers()[which] for chunk in self.data.column(key).chunks]
        return [
            buffer.address - self.content.address if buffer is not None and buffer.size else 0 for buffer in buffers
        ]
