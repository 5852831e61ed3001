"""`program.json`: what exported programs accept, which the programs themselves do not check.

A graph may drop the last rows of images whose sides are not multiples of the factor, and count negative
indices from the end of a codebook.

Axes: B batch, C channels, H W rows and columns of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from flatvq.errors import FlatvqError
from flatvq.model import VQVAE
from flatvq.records.reading import Format1, Positive, Record, Several, read_record
from flatvq.shapes import require_axes, require_integers
from flatvq.versions import VERSION

__all__ = ["NAME", "Description", "describe", "read_description"]

NAME = "program.json"


class Level(Record):
    """One level of the tokenizer."""

    codebook_size: Positive
    index_shape: Several[Positive] = ()


class Description(Record):
    """The content of `program.json`."""

    format: Format1
    flatvq: str
    """The version that exported the programs."""
    kind: str
    """The format of the programs that were written last."""
    factor: Positive
    """The total downsampling."""
    channels: Positive
    levels: Several[Level]

    def require_images(self, images: Tensor) -> None:
        """Check the input of an encoder.

        Raises:
            FlatvqError: if it is not [B, C, H, W], or H or W is no multiple of the factor.
        """
        require_axes(images, "images", "B", self.channels, "H", "W")
        height, width = images.shape[2:]
        if height % self.factor or width % self.factor:
            what = f"images of {height}x{width} pixels do not fit a total downsampling of {self.factor}"
            raise FlatvqError(what, f"crop or resize them to multiples of {self.factor}")

    def require_indices(self, indices: Sequence[Tensor]) -> None:
        """Check the input of a decoder.

        Raises:
            FlatvqError: if there is another number of levels, or an index is outside of its codebook.
        """
        if len(indices) != len(self.levels):
            what = f"indices of {len(indices)} levels do not fit programs of {len(self.levels)}"
            raise FlatvqError(what, "pass one tensor per level")
        for number, (grid, level) in enumerate(zip(indices, self.levels, strict=True)):
            name = f"indices[{number}]"
            require_axes(grid, name, "B", *level.index_shape, "h", "w")
            require_integers(grid, name)
            smallest, largest = (int(each) for each in grid.long().aminmax()) if grid.numel() else (0, 0)
            if smallest < 0 or largest >= level.codebook_size:
                what = f"{name} range from {smallest} to {largest}, outside of [0, {level.codebook_size})"
                raise FlatvqError(what, "pass indices of this tokenizer")


def describe(model: VQVAE, kind: str) -> Description:
    """Return what the programs of a tokenizer accept.

    Args:
        model: the tokenizer.
        kind: the format of the programs.
    """
    levels = tuple(
        Level(codebook_size=level.codebook_size, index_shape=tuple(level.index_shape))
        for level in model.recipe.levels
    )
    return Description(
        format=1,
        flatvq=VERSION,
        kind=kind,
        factor=model.factor,
        channels=model.recipe.channels,
        levels=levels,
    )


def read_description(folder: Path) -> Description | None:
    """Read `program.json` in a folder; None if there is none.

    Raises:
        FlatvqError: if it is damaged.
    """
    path = folder / NAME
    return read_record(Description, path, "export the tokenizer again") if path.exists() else None
