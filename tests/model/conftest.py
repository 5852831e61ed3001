"""A minimal quantizer, and a strategy for recipes of small models."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from flatvq.model import VQVAE
from flatvq.quantize import Quantized, Quantizer
from flatvq.recipe import LevelRecipe, ModelRecipe


class PlainQuantizer(Quantizer):
    """The textbook quantizer: all distances, argmin, straight-through gradient."""

    def __init__(self, codebook_size: int, code_dim: int) -> None:
        super().__init__()
        self.codebook_size, self.code_dim, self.input_dim = codebook_size, code_dim, code_dim
        self.codebook = nn.Parameter(torch.randn(codebook_size, code_dim))

    def _quantize(self, flat: Tensor, valid: Tensor | None) -> Quantized:
        # Without a matrix product, which the FLOP counter would count.
        distances = torch.cdist(flat, self.codebook, compute_mode="donot_use_mm_for_euclid_dist")
        indices = distances.argmin(dim=-1)
        codes = self._decode(indices)
        return Quantized(
            quantized=flat + (codes - flat).detach(),
            indices=indices,
            codebook_loss=functional.mse_loss(codes, flat.detach()),
            commitment_loss=functional.mse_loss(flat, codes.detach()),
            entropy_loss=flat.new_zeros(()),
            latents=flat.detach(),
            code_vectors=codes.detach(),
        )

    def _decode(self, indices: Tensor) -> Tensor:
        return self.codebook[indices]


@pytest.fixture(scope="session")
def plain_model() -> Callable[[ModelRecipe], VQVAE]:
    def build(recipe: ModelRecipe) -> VQVAE:
        quantizers = [PlainQuantizer(level.codebook_size, level.code_dim) for level in recipe.levels]
        return VQVAE(recipe, quantizers)

    return build


@pytest.fixture(scope="session")
def recipes() -> st.SearchStrategy[ModelRecipe]:
    """Small models: one to three levels, any hierarchy, strides up to 8, odd residual widths."""
    level = st.builds(
        LevelRecipe,
        downsample=st.sampled_from([2, 4, 8]),
        codebook_size=st.integers(2, 40),
        code_dim=st.integers(1, 9),
        width=st.none() | st.integers(1, 8).map(lambda half: 2 * half),
    )
    return st.builds(
        ModelRecipe,
        levels=st.lists(level, min_size=1, max_size=3).map(tuple),
        hierarchy=st.sampled_from(["parallel", "conditioned", "residual"]),
        width=st.integers(1, 12).map(lambda half: 2 * half),
        residual_width=st.integers(1, 15),
        residual_blocks=st.integers(0, 3),
    )
