"""What is lost when the codes of one level are replaced and the decoder is left as it is.

It overstates what a level contributes: the decoder never saw such codes, and might have done without the
level if it had been trained without. `flatvq.levels.refit` trains it without.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from flatvq.errors import FlatvqError
from flatvq.levels.codes import codes_of, codes_of_level, encoded, mean_psnr
from flatvq.model import VQVAE
from flatvq.randomness import generator

__all__ = ["Replaced", "replaced"]

By = Literal["shuffled", "mean", "random"]


@dataclass(frozen=True)
class Replaced:
    """The loss from one replacement."""

    level: int
    """Number of the level, the bottom being 0."""
    by: By
    """`shuffled`: the level's codes of another image; `mean`: the mean of its codes over the split, in every
    cell; `random`: codes drawn uniformly from its codebook."""
    psnr_db: float
    """What is left, the mean over images."""
    loss_db: float
    """PSNR of the codes as they are, less `psnr_db`."""


@torch.no_grad()
def replaced(model: VQVAE, pixels: Tensor, seed: int = 0) -> tuple[Replaced, ...]:
    """Replace each level's codes in three ways, one level at a time.

    Args:
        model: the tokenizer, in eval mode.
        pixels: uint8 [B, 3, H, W], at least two images.
        seed: names the shuffling and the random codes.

    Returns:
        Three replacements a level, bottom first.

    Raises:
        FlatvqError: if there is but one image.
    """
    if len(pixels) < 2:
        raise FlatvqError("codes of one image cannot be shuffled", "give at least two images")
    indices = encoded(model, pixels)
    whole = mean_psnr(model.decode_code_vectors, codes_of(model, indices), pixels)
    found = []
    for level, grid in enumerate(indices):
        for by, codes in _replacements(model, level, grid, seed).items():
            changed = codes_of(model, indices)
            changed[level] = codes
            psnr = mean_psnr(model.decode_code_vectors, changed, pixels)
            found.append(Replaced(level, by, psnr, whole - psnr))
    return tuple(found)


def _replacements(model: VQVAE, level: int, grid: Tensor, seed: int) -> dict[By, Tensor]:
    """Give codes [B, D, h, w] in place of a level's, by kind."""
    draws = generator(seed, "replaced", level)
    order = torch.randperm(len(grid), generator=draws)
    other = torch.empty_like(order)
    other[order] = order.roll(1)  # one cycle through all images: none keeps its own
    size = model.recipe.levels[level].codebook_size
    random = torch.randint(size, grid.shape, generator=draws).to(grid.device)
    kinds = (grid, grid[other.to(grid.device)], random)
    own, shuffled, drawn = (codes_of_level(model, level, kind) for kind in kinds)
    mean = own.mean(dim=(0, 2, 3), keepdim=True).expand_as(own)
    return {"shuffled": shuffled, "mean": mean, "random": drawn}
