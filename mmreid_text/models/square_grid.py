"""Position grids of any shape inside a square one, for readers that know no other."""

from functools import cache
from itertools import count

import torch
import torch.nn.functional as F

# Of a matrix that spreads an axis. Larger ones give the grid back too, but multiply float32's rounding, and squares of
# such numbers have little in common with the grid.
_LARGEST_ENTRY = 2.0
_READINGS = ("bicubic", "bilinear")


def square_positions(positions: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """A square position table that gives a grid of any shape back, exactly, when it is interpolated to that shape.

    transformers reads a table of S x S positions and, with ``interpolate_pos_encoding``, interpolates it to an image's
    grid bicubically; this project does bilinearly. Both readings R (without antialiasing, half-pixel centres) are
    linear and act on rows and columns apart, so along each axis a matrix U with R U = 1 for both is enough. There are
    many when S is large enough; of these, the nearest to plain bilinear upsampling is taken, by a pseudo-inverse in
    float64, so that the square table means something at other sizes too. 24x8 fits into 24x24: every column is read
    from the middle one of three.

    Args:
        positions: (1, 1 + M, W), [CLS] first, M = rows * columns.
        grid: (rows, columns).

    Returns:
        (1, 1 + S * S, W) in the same dtype, S the smallest side that is exact; the table itself for a square grid.
    """
    rows, columns = grid
    if rows == columns:
        return positions
    down, across = _smallest_square(rows, columns)
    table = positions[0, 1:].double().unflatten(0, grid)  # (rows, columns, W)
    square = torch.einsum("sr,rcw,tc->stw", down, table, across)
    return torch.cat([positions[:, :1], square.flatten(0, 1)[None].to(positions.dtype)], dim=1)


def _smallest_square(rows: int, columns: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Matrices (S, rows) and (S, columns) of the smallest S; three times the longer side always has them."""
    for side in count(max(rows, columns)):
        down, across = _spread(side, rows), _spread(side, columns)
        if down is not None and across is not None:
            return down, across
    raise AssertionError("count() ends")


@cache
def _spread(side: int, length: int) -> torch.Tensor | None:
    """Float64 (side, length) that every reading from ``side`` to ``length`` positions undoes; None if there is none."""
    reading = torch.cat([_reading(side, length, mode) for mode in _READINGS])
    wanted = torch.eye(length, dtype=torch.float64).repeat(len(_READINGS), 1)
    plain = _reading(length, side, "bilinear")
    spread = plain + torch.linalg.pinv(reading, rtol=1e-10) @ (wanted - reading @ plain)
    exact = (reading @ spread - wanted).abs().max() < 1e-10
    return spread if exact and spread.abs().max() <= _LARGEST_ENTRY else None


def _reading(source: int, target: int, mode: str) -> torch.Tensor:
    """Float64 (target, source): interpolation along one axis, as torch does it."""
    basis = torch.eye(source, dtype=torch.float64)[None, :, :, None]
    return F.interpolate(basis, size=(target, 1), mode=mode, align_corners=False)[0, :, :, 0].t()
