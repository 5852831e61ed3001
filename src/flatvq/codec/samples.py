"""The cells of images, from which the network of a network prior learns.

Axes: Q indices of a cell, N cells, S known neighbours, T coarser cells, h w rows and columns of a grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from flatvq.codec.entropy import Integers
from flatvq.codec.neighbourhood import coarser_cells, known_cells
from flatvq.codec.passes import CORNERS, SIDES, number_of

__all__ = ["Cells", "Sample"]


@dataclass(frozen=True)
class Sample:
    """Cells of one kind of pass, with the surrounding cells that the network sees."""

    kind: int
    """The kind of the passes. Cells of the first pass have the kind `CORNERS`."""
    numbers: Tensor
    """[N]: the pass of each cell."""
    codes: Tensor
    """[Q, N]"""
    known: Tensor
    """[Q, N, S]: codes of the known cells; K for a cell that is not known."""
    above: Tensor
    """[Q, N, T]: codes of cells of the next coarser level; Q is 0 if there is none."""


class _Grids:
    """The grids of one level, one after the other."""

    def __init__(self, grids: Sequence[Integers], outside: int) -> None:
        self.planes = np.concatenate([grid.reshape(len(grid), -1) for grid in grids], axis=1)
        self.heights, self.widths = np.array([grid.shape[1:] for grid in grids]).T
        self.ends = np.cumsum(self.heights * self.widths)
        self.starts = self.ends - self.heights * self.widths
        self._outside = outside

    def codes(self, images: Integers, positions: Integers) -> Tensor:
        """Return codes, int64 [Q, N, cells], at positions [N, cells] in the grids of images [N]."""
        places = self.starts[images][:, None] + positions
        return torch.from_numpy(np.where(positions < 0, self._outside, self.planes[:, places]))


class Cells:
    """All cells of a level of some images.

    Args:
        grids: int64 [Q, h, w] of each image.
        codebook_size: K.
        coarser: the grids of the next coarser level, and its K; None if there is none.
    """

    def __init__(
        self,
        grids: Sequence[Integers],
        codebook_size: int,
        coarser: tuple[Sequence[Integers], int] | None = None,
    ) -> None:
        self._grids = _Grids(grids, codebook_size)
        self._coarser = _Grids(*coarser) if coarser else None

    def __len__(self) -> int:
        return int(self._grids.ends[-1])

    def samples(self, drawn: Integers) -> Iterator[Sample]:
        """Yield some cells, grouped by kind of pass.

        Args:
            drawn: int64 [N], numbers of cells.
        """
        of = self._grids
        images = np.searchsorted(of.ends, drawn, side="right")
        rows, columns = np.divmod(drawn - of.starts[images], of.widths[images])
        numbers = number_of(rows, columns)
        in_sides = (numbers > 0) & (numbers % 2 == 0)
        for kind, chosen in ((CORNERS, ~in_sides), (SIDES, in_sides)):
            if chosen.any():
                yield self._sample(
                    kind, drawn[chosen], images[chosen], rows[chosen], columns[chosen], numbers[chosen]
                )

    def _sample(
        self,
        kind: int,
        drawn: Integers,
        images: Integers,
        rows: Integers,
        columns: Integers,
        numbers: Integers,
    ) -> Sample:
        of = self._grids
        grid = of.heights[images], of.widths[images]
        known = of.codes(images, known_cells(kind, rows, columns, numbers, *grid))
        above = torch.zeros(0, len(drawn), 0, dtype=torch.long)
        if self._coarser:
            coarser = self._coarser.heights[images], self._coarser.widths[images]
            above = self._coarser.codes(images, coarser_cells(rows, columns, grid, coarser))
        codes = torch.from_numpy(of.planes[:, drawn])
        return Sample(kind, torch.from_numpy(numbers), codes, known, above)
