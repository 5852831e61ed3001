"""The order in which the cells of a grid are coded: from coarse to fine, in seven passes.

The first pass has every eighth cell of every eighth row. For the strides 4, 2 and 1, a pass has the cells in
the middle of four known ones, and another pass the cells between two known ones in a row and two in a column:

    0 . 2 . 0        0, 1, 2: three passes for a stride of 2
    . 1 . 1 .        .: not yet coded
    2 . 0 . 2
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from flatvq.codec.entropy import Integers

__all__ = ["CORNERS", "PASSES", "SIDES", "Pass", "kind_of", "number_of", "numbers_of", "passes", "stride_of"]

CORNERS, SIDES = 0, 1
"""Kinds of passes: the known neighbours touch the cell's corners, or its sides."""
PASSES = 7

_FIRST_STRIDE = 8
_OFFSETS = (((-1, -1), (-1, 1), (1, -1), (1, 1)), ((-1, 0), (1, 0), (0, -1), (0, 1)))


@dataclass(frozen=True)
class Pass:
    """The cells of one pass, row by row."""

    number: int
    """From 0; the first pass has no known neighbours."""
    kind: int
    """`CORNERS` or `SIDES`."""
    stride: int
    """Distance of the neighbours, in rows and columns."""
    rows: Integers
    columns: Integers

    def neighbours(
        self, height: int, width: int, part: slice
    ) -> Iterator[tuple[Integers, Integers, Integers]]:
        """Yield each known neighbour of some cells, at most four.

        Args:
            height: rows of the grid.
            width: columns of the grid.
            part: the cells.

        Yields:
            Which of the cells have this neighbour, and the row and the column of the neighbour.
        """
        for down, right in _OFFSETS[self.kind]:
            rows = self.rows[part] + down * self.stride
            columns = self.columns[part] + right * self.stride
            (inside,) = np.nonzero((rows >= 0) & (rows < height) & (columns >= 0) & (columns < width))
            yield inside, rows[inside], columns[inside]


def passes(height: int, width: int) -> Iterator[Pass]:
    """Yield the passes over a grid. Those of a small grid may be empty.

    Example:
        >>> order = np.zeros((4, 6), int)
        >>> for each in passes(4, 6):
        ...     order[each.rows, each.columns] = each.number
        >>> print(order)
        [[0 6 4 6 2 6]
         [6 5 6 5 6 5]
         [4 6 3 6 4 6]
         [6 5 6 5 6 5]]
    """
    stride, number = _FIRST_STRIDE, 0
    yield Pass(number, CORNERS, stride, *_lattice(height, width, stride, 0, 0))
    while stride > 1:
        half = stride // 2
        yield Pass(number + 1, CORNERS, half, *_lattice(height, width, stride, half, half))
        even = _lattice(height, width, stride, 0, half)
        odd = _lattice(height, width, stride, half, 0)
        rows, columns = (np.concatenate(both) for both in zip(even, odd, strict=True))
        order = np.lexsort((columns, rows))
        yield Pass(number + 2, SIDES, half, rows[order], columns[order])
        stride, number = half, number + 2


def kind_of(number: int) -> int:
    """Return the kind of a pass after the first."""
    return (number - 1) % 2


def numbers_of(kind: int) -> range:
    """Return the passes of a kind, without the first pass.

    Example:
        >>> list(numbers_of(CORNERS)), list(numbers_of(SIDES))
        ([1, 3, 5], [2, 4, 6])
    """
    return range(1 + kind, PASSES, 2)


def stride_of(numbers: Integers) -> Integers:
    """Return the strides of passes.

    Example:
        >>> stride_of(np.arange(PASSES)).tolist()
        [8, 4, 4, 2, 2, 1, 1]
    """
    return _FIRST_STRIDE >> (numbers + 1) // 2


def number_of(rows: Integers, columns: Integers) -> Integers:
    """Return the passes of cells.

    Example:
        >>> number_of(np.array([0, 4, 5]), np.array([8, 2, 7])).tolist()
        [0, 4, 5]
    """
    # The stride is the lowest bit that is set in the row or the column, at most the stride of the first pass.
    both = rows | columns | _FIRST_STRIDE
    stride = both & -both
    corners = rows & columns & stride & (_FIRST_STRIDE - 1) > 0
    finer = np.log2(_FIRST_STRIDE // stride).astype(np.int64)
    return np.where(stride == _FIRST_STRIDE, 0, 2 * finer - corners)


def _lattice(height: int, width: int, stride: int, top: int, left: int) -> tuple[Integers, Integers]:
    rows, columns = np.mgrid[top:height:stride, left:width:stride]
    return rows.ravel().astype(np.int64), columns.ravel().astype(np.int64)
