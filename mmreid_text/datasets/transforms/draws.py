"""The numbers of :func:`mmreid_text.randomness.uniform` for one id, without numpy's cost per call."""

import zlib
from functools import lru_cache

_WORD = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15


def uniform_row(seed: int, epoch: int, row: int, stream: str, n: int) -> list[float]:
    """Exactly ``uniform(seed, epoch, [row], stream, n)[0]``, ten times as fast for the few numbers of one sample.

    >>> from mmreid_text.randomness import uniform
    >>> uniform_row(0, 3, 7, "RandomFlip", 2) == uniform(0, 3, [7], "RandomFlip", 2)[0].tolist()
    True
    """
    start = _mix((_stream_state(seed, epoch, stream) + row * _GOLDEN) & _WORD)
    return [(_mix((start + i * _GOLDEN) & _WORD) >> 11) * 2.0**-53 for i in range(1, n + 1)]


@lru_cache(maxsize=64)
def _stream_state(seed: int, epoch: int, stream: str) -> int:
    state = 0
    for word in (seed, epoch, zlib.crc32(stream.encode())):
        state = _mix((state + word + _GOLDEN) & _WORD)
    return state


def _mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _WORD
    return x ^ (x >> 31)
