"""The two halves of a tokenizer as modules with tensors as inputs and outputs, which exporters can trace."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from flatvq.model import VQVAE

__all__ = ["Decode", "Encode", "dynamic_shapes", "examples"]

# Two images of 6 x 5 cells of the coarsest grid: no axis has the size of another, or 1.
_BATCH, _ROWS, _COLUMNS = 2, 6, 5


class Encode(nn.Module):
    """Images float32 [B, C, H, W] in [0, 1] to the indices of each level, int64."""

    def __init__(self, model: VQVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode images."""
        return self.model.encode(images)


class Decode(nn.Module):
    """The indices of each level, int64, to images float32 [B, C, H, W], clamped to [0, 1]."""

    def __init__(self, model: VQVAE) -> None:
        super().__init__()
        self.model = model

    def forward(self, indices: list[Tensor]) -> Tensor:
        """Decode indices."""
        return self.model.decode(indices).clamp(0, 1)


def examples(model: VQVAE) -> tuple[Tensor, list[Tensor]]:
    """Return an image batch and its indices, on which the graphs are traced."""
    random = torch.Generator().manual_seed(0)
    shape = (_BATCH, model.recipe.channels, _ROWS * model.factor, _COLUMNS * model.factor)
    images = torch.rand(shape, generator=random)
    return images, list(model.encode(images))


def dynamic_shapes(model: VQVAE) -> tuple[dict[int, Any], list[dict[int, Any]]]:
    """Return the dynamic axes of images and of the indices of each level.

    The batch may have any size. Sides are multiples of the total downsampling, and at least twice as large.
    """
    batch = torch.export.Dim("batch", min=1, max=2**16)
    rows = torch.export.Dim("rows", min=2, max=2**12)
    columns = torch.export.Dim("columns", min=2, max=2**12)
    images = {0: batch, 2: model.factor * rows, 3: model.factor * columns}
    levels, scale = [], model.factor
    for level in model.recipe.levels:
        scale //= level.downsample
        first = 1 + len(level.index_shape)
        levels.append(
            {
                0: batch,
                first: scale * rows if scale > 1 else rows,
                first + 1: scale * columns if scale > 1 else columns,
            }
        )
    return images, levels
