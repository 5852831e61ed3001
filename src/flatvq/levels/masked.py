"""A small autoregressive network over a grid of codes, optionally conditioned on the level below.

Each code is predicted from the cells before it, row by row, with masked convolutions (van den Oord et al.
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
    """Predicts the codes of a grid.

    Args:
        code_dim: D, the dimension of the code vectors.
        codebook_size: K, the number of codes.
        below: the dimension of the code vectors of the level below, and the factor by which its grid is
            finer; None to ignore that level.

    Example:
        >>> net = CodePredictor(4, 16, below=(8, 2)).eval()
        >>> net(torch.zeros(1, 4, 3, 5), torch.zeros(1, 8, 6, 10)).shape
        torch.Size([1, 16, 3, 5])
    """

    def __init__(self, code_dim: int, codebook_size: int, below: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.first = _Masked(code_dim, _CHANNELS, 5, include_centre=False)
        self.blocks = nn.ModuleList(_Block() for _ in range(_BLOCKS))
        self.last = nn.Conv2d(_CHANNELS, codebook_size, 1)
        self.below_encoder: nn.Module | None = None
        if below is not None:
            dim, factor = below
            self.below_encoder = nn.Sequential(
                nn.Conv2d(dim, _CHANNELS, 3, padding=1),
                nn.ReLU(),
                nn.Conv2d(_CHANNELS, _CHANNELS, factor, stride=factor),
                nn.ReLU(),
                nn.Dropout2d(_DROPOUT),
                nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1),
            )

    def forward(self, codes: Tensor, below: Tensor) -> Tensor:
        """Predict each code from the cells before it.

        Args:
            codes: code vectors of the level, [B, D, h, w].
            below: code vectors of the level below, [B, D', h x factor, w x factor]; ignored if the network
                was created without them.

        Returns:
            Logits [B, K, h, w].
        """
        hidden = self.first(codes)
        condition = 0 if self.below_encoder is None else self.below_encoder(below)
        for block in self.blocks:
            hidden = block(hidden + condition)
        logits: Tensor = self.last(F.relu(hidden))
        return logits


class _Block(nn.Module):
    """A residual block over each cell and the cells before it."""

    def __init__(self) -> None:
        super().__init__()
        self.masked = _Masked(_CHANNELS, _CHANNELS, 3, include_centre=True)
        self.mix = nn.Conv2d(_CHANNELS, _CHANNELS, 1)
        self.drop = nn.Dropout2d(_DROPOUT)

    def forward(self, cells: Tensor) -> Tensor:
        hidden = self.masked(F.relu(cells))
        mixed: Tensor = self.mix(self.drop(F.relu(hidden)))
        return cells + mixed


class _Masked(nn.Conv2d):
    """A convolution over the cells before a cell and, optionally, the cell itself."""

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, size: int, *, include_centre: bool) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2)
        mask = torch.ones(size, size)
        middle = size // 2
        mask[middle, middle + include_centre :] = 0
        mask[middle + 1 :] = 0
        self.register_buffer("mask", mask)

    def forward(self, cells: Tensor) -> Tensor:
        return F.conv2d(cells, self.weight * self.mask, self.bias, padding=self.padding)
