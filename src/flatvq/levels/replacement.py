"""Measure the loss of PSNR if the codes of one level are replaced, without training a new decoder.

The loss overstates the contribution of a level, because the decoder was never trained on such codes.
`flatvq.levels.refit` trains decoders without the level.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from flatvq.errors import FlatvqError
from flatvq.levels.codes import code_vectors_of, encode_pixels, level_code_vectors, mean_psnr
from flatvq.model import VQVAE
from flatvq.randomness import generator

__all__ = ["ReplacementLoss", "replacement_losses"]

Kind = Literal["shuffled", "mean", "random"]


@dataclass(frozen=True)
class ReplacementLoss:
    """The loss of PSNR from one replacement."""

    level: int
    """Index of the level, the bottom being 0."""
    by: Kind
    """`shuffled`: the level's codes of another image; `mean`: the mean of its codes over the split, in every
    cell; `random`: codes drawn uniformly from its codebook."""
    psnr_db: float
    """Mean PSNR with the replacement."""
    loss_db: float
    """PSNR of the original codes minus `psnr_db`."""


@torch.no_grad()
def replacement_losses(model: VQVAE, pixels: Tensor, seed: int = 0) -> tuple[ReplacementLoss, ...]:
    """Replace each level's codes in three ways, one level at a time.

    Args:
        model: the tokenizer, in eval mode.
        pixels: uint8 [B, 3, H, W], at least two images.
        seed: seed of the shuffling and the random codes.

    Returns:
        Three losses per level, bottom first.

    Raises:
        FlatvqError: if there is only one image.
    """
    if len(pixels) < 2:
        raise FlatvqError("codes of one image cannot be shuffled", "give at least two images")
    indices = encode_pixels(model, pixels)
    original_psnr = mean_psnr(model.decode_code_vectors, code_vectors_of(model, indices), pixels)
    losses = []
    for level, grid in enumerate(indices):
        for by, codes in _replacements(model, level, grid, seed).items():
            changed = code_vectors_of(model, indices)
            changed[level] = codes
            psnr = mean_psnr(model.decode_code_vectors, changed, pixels)
            losses.append(ReplacementLoss(level, by, psnr, original_psnr - psnr))
    return tuple(losses)


def _replacements(model: VQVAE, level: int, grid: Tensor, seed: int) -> dict[Kind, Tensor]:
    """Return the code vectors [B, D, h, w] that replace a level's code vectors, by kind."""
    draws = generator(seed, "replaced", level)
    order = torch.randperm(len(grid), generator=draws)
    source = torch.empty_like(order)
    source[order] = order.roll(1)  # a single cycle over all images, so that none keeps its own codes
    size = model.recipe.levels[level].codebook_size
    random = torch.randint(size, grid.shape, generator=draws).to(grid.device)
    grids = (grid, grid[source.to(grid.device)], random)
    own, shuffled, drawn = (level_code_vectors(model, level, indices) for indices in grids)
    mean = own.mean(dim=(0, 2, 3), keepdim=True).expand_as(own)
    return {"shuffled": shuffled, "mean": mean, "random": drawn}
