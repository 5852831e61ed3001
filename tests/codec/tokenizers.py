"""Small tokenizers of every kind, and images for them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from flatvq.model import VQVAE, build_vqvae
from flatvq.recipe import CodebookRecipe, ModelRecipe

KINDS: dict[str, dict[str, Any]] = {
    "one level": {"levels": [{"codebook_size": 30, "code_dim": 4}]},
    "one code": {"levels": [{"codebook_size": 1, "code_dim": 2}]},
    "parallel": {
        "levels": [{"codebook_size": 9, "code_dim": 3}, {"codebook_size": 17, "code_dim": 4, "downsample": 2}]
    },
    "conditioned": {
        "hierarchy": "conditioned",
        "levels": [
            {"codebook_size": 9, "code_dim": 3},
            {"codebook_size": 17, "code_dim": 4, "downsample": 2},
        ],
    },
    "residual": {"levels": [{"quantizer": "residual", "stages": 3, "codebook_size": 8, "code_dim": 4}]},
    "scalar": {"levels": [{"scalar_levels": [5, 4, 3]}]},
    "lookup-free": {"levels": [{"quantizer": "lookup-free", "code_dim": 6}]},
    "large lookup-free": {"levels": [{"quantizer": "lookup-free", "code_dim": 20}]},
    "grey": {"channels": 1, "levels": [{"codebook_size": 12, "code_dim": 4}]},
}


def tokenizer(kind: str = "one level", seed: int = 0) -> VQVAE:
    """Return a tokenizer whose codebook is initialized, in eval mode."""
    recipe = ModelRecipe.model_validate(
        {"width": 8, "residual_width": 2, "residual_blocks": 1, **KINDS[kind]}
    )
    model = build_vqvae(recipe, CodebookRecipe(init={"kind": "data", "vectors_per_code": 1}), seed=seed)
    pixels = torch.rand(8, recipe.channels, 64, 64, generator=torch.Generator().manual_seed(seed))
    model(pixels)
    return model.eval()


def image(height: int, width: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a smooth random image, so that neighbours are alike."""
    random = np.random.default_rng(seed)
    coarse = random.random((height // 6 + 2, width // 6 + 2, 3))
    smooth = np.kron(coarse, np.ones((6, 6, 1)))[:height, :width]
    return (200 * smooth + 50 * random.random((height, width, 3))).astype(np.uint8)
