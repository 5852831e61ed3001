"""The known cells around a cell, which a network sees.

The cells that are known before a pass lie on a regular lattice. Relative to a cell, and in units of the
stride of its pass, the lattice is the same for all passes of a kind:

    CORNERS: odd rows, odd columns        SIDES: row + column is odd

Axes: N cells, S neighbours, T coarser cells, h w rows and columns of a grid.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from flatvq.codec.entropy import Integers
from flatvq.codec.passes import CORNERS, SIDES, stride_of

__all__ = ["COARSER", "NEIGHBOURS", "OFFSETS", "coarser_cells", "known_cells"]

Sizes: TypeAlias = "int | Integers"

NEIGHBOURS = 24
"""S: known cells around a cell that a network sees."""
COARSER = 9
"""T: cells of the next coarser level that a network sees, in three rows."""

_REACH = 9
# A stride that leads out of any grid.
_NEVER = 2**32
_AROUND = (np.arange(COARSER) // 3 - 1, np.arange(COARSER) % 3 - 1)


def _offsets(kind: int) -> Integers:
    rows, columns = np.mgrid[-_REACH : _REACH + 1, -_REACH : _REACH + 1].reshape(2, -1)
    known = (rows % 2 == 1) & (columns % 2 == 1) if kind == CORNERS else (rows + columns) % 2 == 1
    rows, columns = rows[known], columns[known]
    nearest = np.lexsort((columns, rows, rows**2 + columns**2))[:NEIGHBOURS]
    return np.stack([rows[nearest], columns[nearest]], axis=1).astype(np.int64)


OFFSETS: tuple[Integers, Integers] = (_offsets(CORNERS), _offsets(SIDES))
"""For each kind of pass, the S nearest known cells: rows and columns in strides, nearest first."""


def known_cells(
    kind: int, rows: Integers, columns: Integers, numbers: Integers, height: Sizes, width: Sizes
) -> Integers:
    """Return the positions of the nearest known cells of some cells.

    Args:
        kind: the kind of the passes; for the first pass it does not matter.
        rows: int64 [N], of the cells.
        columns: int64 [N].
        numbers: int64 [N], the pass of each cell.
        height: rows of the grid, or of the grid of each cell, int64 [N].
        width: columns of it.

    Returns:
        int64 [N, S]: positions in a grid, row by row; -1 for a cell outside, and for all in the first pass.

    Example:
        >>> one = np.array([1])
        >>> known_cells(CORNERS, one, one, 5 * one, 3, 3)[0, :5].tolist()
        [0, 2, 6, 8, -1]
    """
    strides: Integers = np.where(numbers > 0, stride_of(numbers), _NEVER)[:, None]
    row_offsets, column_offsets = strides * OFFSETS[kind][:, 0], strides * OFFSETS[kind][:, 1]
    return _positions(rows[:, None] + row_offsets, columns[:, None] + column_offsets, height, width)


def coarser_cells(
    rows: Integers, columns: Integers, grid: tuple[Sizes, Sizes], coarser: tuple[Sizes, Sizes]
) -> Integers:
    """Return the positions of the nine cells of the next coarser level around some cells.

    Args:
        rows: int64 [N], of the cells.
        columns: int64 [N].
        grid: rows and columns of the grid, or of the grid of each cell, int64 [N].
        coarser: the same for the coarser level.

    Returns:
        int64 [N, T]: positions in the grid of the coarser level, row by row; -1 for a cell outside.

    Example:
        >>> coarser_cells(np.array([3]), np.array([0]), (4, 4), (2, 2)).tolist()
        [[-1, 0, 1, -1, 2, 3, -1, -1, -1]]
    """
    coarse_rows = (rows * coarser[0] // grid[0])[:, None] + _AROUND[0]
    coarse_columns = (columns * coarser[1] // grid[1])[:, None] + _AROUND[1]
    return _positions(coarse_rows, coarse_columns, *coarser)


def _positions(rows: Integers, columns: Integers, height: Sizes, width: Sizes) -> Integers:
    height, width = np.reshape(height, (-1, 1)), np.reshape(width, (-1, 1))
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return np.where(inside, rows * width + columns, -1)
