"""A small autoregressive network over a grid of codes, with or without a view of the level below.

Each cell's code is predicted from the cells before it, row by row: masked convolutions (van den Oord et al.
2016, *Pixel Recurrent Neural Networks*, arXiv 1601.06759, section 3.4).

Axes: B images, h w rows and columns of the grid, D code dim, K codes, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

__all__ = ["CodePredictor"]

_CHANNELS, _BLOCKS, _DROPOUT = 96, 4, 0.25


class CodePredictor(nn.Module):
    """Predicts codes of a grid.

    Args:
        code_dim: D of the codes.
        codebook_size: K of the codes.
        below: None, or D of the codes of the level below and by which factor its grid is finer.

    Example:
        >>> net = CodePredictor(4, 16, below=(8, 2)).eval()
        >>> net(torch.zeros(1, 4, 3, 5), torch.zeros(1, 8, 6, 10)).shape
        torch.Size([1, 16, 3, 5])
    """

    def __init__(self, code_dim: int, codebook_size: int, below: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.first = _Masked(code_dim, _CHANNELS, 5, itself=False)
        self.blocks = nn.ModuleList(_Block() for _ in range(_BLOCKS))
        self.last = nn.Conv2d(_CHANNELS, codebook_size, 1)
        self.view: nn.Module | None = None
        if below is not None:
            dim, factor = below
            self.view = nn.Sequential(
                nn.Conv2d(dim, _CHANNELS, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(_CHANNELS, _CHANNELS, factor, stride=factor),
                nn.ReLU(),
                nn.Dropout2d(_DROPOUT),
                nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1),
            )

    def forward(self, codes: Tensor, below: Tensor) -> Tensor:
        """Predict each cell from those before it.

        Args:
            codes: [B, D, h, w] of the level.
            below: [B, D', h x factor, w x factor] of the level below; not looked at without a view of it.

        Returns:
            Logits [B, K, h, w].
        """
        found = self.first(codes)
        seen = 0 if self.view is None else self.view(below)
        for block in self.blocks:
            found = block(found + seen)
        logits: Tensor = self.last(F.relu(found))
        return logits


class _Block(nn.Module):
    """A residual block that looks at the cells before and at the cell itself."""

    def __init__(self) -> None:
        super().__init__()
        self.masked = _Masked(_CHANNELS, _CHANNELS, 3, itself=True)
        self.mix = nn.Conv2d(_CHANNELS, _CHANNELS, 1)
        self.drop = nn.Dropout2d(_DROPOUT)

    def forward(self, cells: Tensor) -> Tensor:
        hidden = self.masked(F.relu(cells))
        mixed: Tensor = self.mix(self.drop(F.relu(hidden)))
        return cells + mixed


class _Masked(nn.Conv2d):
    """A convolution that sees the cells before a cell and, if asked to, the cell itself."""

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, size: int, *, itself: bool) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2)
        mask = torch.ones(size, size)
        middle = size // 2
        mask[middle, middle + itself :] = 0
        mask[middle + 1 :] = 0
        self.register_buffer("mask", mask)

    def forward(self, cells: Tensor) -> Tensor:
        return F.conv2d(cells, self.weight * self.mask, self.bias, padding=self.padding)
