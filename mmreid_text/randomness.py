"""Random numbers as a pure function of (seed, epoch, id, stream): the same whatever the rank, worker or resume."""

import zlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import numpy as np

_T = TypeVar("_T")
_GOLDEN_INT = 0x9E3779B97F4A7C15
_GOLDEN = np.uint64(_GOLDEN_INT)
_WORD = 2**64 - 1


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser (Steele, Lea and Flood, 2014) on uint64, wrapping."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def uniform(seed: int, epoch: int, ids: np.ndarray, stream: str, n: int) -> np.ndarray:
    """Draw ``n`` uniform numbers for every id from a counter-based hash.

    mmengine saves no state of random generators and its workers repeat or lose theirs, so every augmentation
    and every masking draw comes from here instead.

    Args:
        seed: Seed of the experiment, any integer.
        epoch: Epoch, from 0.
        ids: int64 (B,), stable ids such as ``caption_id``.
        stream: Name of the purpose; streams are independent of each other.
        n: Numbers per id.

    Returns:
        float64 (B, n) in [0, 1), with 53 random bits.

    >>> uniform(0, 3, np.array([7]), "RandomFlip", 2).shape
    (1, 2)
    """
    with np.errstate(over="ignore"):
        state = np.array([_stream_state(seed, epoch, stream)], dtype=np.uint64)
        rows = _mix(state + np.asarray(ids).astype(np.uint64) * _GOLDEN)  # (B,)
        cells = _mix(rows[:, None] + (np.arange(1, n + 1, dtype=np.uint64) * _GOLDEN)[None, :])  # (B, n)
    return (cells >> np.uint64(11)) * 2.0**-53


def uniform_row(seed: int, epoch: int, row: int, stream: str, n: int) -> list[float]:
    """Exactly ``uniform(seed, epoch, [row], stream, n)[0]``, ten times as fast for one row.

    >>> uniform_row(0, 3, 7, "RandomFlip", 2) == uniform(0, 3, [7], "RandomFlip", 2)[0].tolist()
    True
    """
    start = _mix_int((_stream_state(seed, epoch, stream) + row * _GOLDEN_INT) & _WORD)
    return [(_mix_int((start + i * _GOLDEN_INT) & _WORD) >> 11) * 2.0**-53 for i in range(1, n + 1)]


@lru_cache(maxsize=64)
def _stream_state(seed: int, epoch: int, stream: str) -> int:
    state = 0
    for word in (seed, epoch, zlib.crc32(stream.encode())):
        state = _mix_int((state + word + _GOLDEN_INT) & _WORD)
    return state


def _mix_int(x: int) -> int:
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & _WORD
    return x ^ (x >> 31)


class Draws:
    """Uniform numbers in [0, 1), spent one after the other, and again from the front if ever used up.

    Args:
        numbers: The numbers, such as :func:`uniform_row` gives.
    """

    def __init__(self, numbers: Sequence[float]) -> None:
        self._numbers, self._next = numbers, 0

    def __call__(self) -> float:
        number = self._numbers[self._next % len(self._numbers)]
        self._next += 1
        return number

    def below(self, count: int) -> int:
        """An integer of 0..count-1."""
        return int(self() * count)

    def pick(self, options: Sequence[_T]) -> _T:
        """One of the options, all equally likely."""
        return options[self.below(len(options))]
