"""The quantizer where it is used: on what a trained encoder gives, with the codes that were trained for it.

Such vectors and codes hardly leave a few directions, unlike independent random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.contenders import Call, eval_pair, training_pair
from benchmarks.suites.quantizer import FLAT, PEER, N, case_of, multiply_adds_per_second, search_pair
from benchmarks.timing import alternate
from flatvq.data import TrainingCrops, open_data
from flatvq.model import load_tokenizer
from flatvq.quantize import VectorQuantizer
from flatvq.recipe import DataRecipe

__all__ = ["latents", "run"]

MODEL = Path(__file__).parents[2] / "results" / "evaluation" / "models" / "single-seed-10"


def run(quick: bool, only: str = "") -> list[dict[str, Any]]:
    """Time a trained single level, its quantizer and the search alone.

    Args:
        quick: take less time over it.
        only: cases with this in their title.
    """
    vectors, codes = latents(N)
    size, dim = codes.shape
    builders: dict[str, tuple[str, Callable[[], tuple[dict[str, Call], str]]]] = {
        "quantizer, eval forward": (PEER, lambda: eval_pair(vectors, size, codes)),
        "quantizer, training step": (PEER, lambda: training_pair(vectors, size)),
        "search alone": (FLAT, lambda: search_pair(vectors, codes)),
    }
    rate = multiply_adds_per_second()
    cases = []
    for what, (against, build) in builders.items():
        title = f"{what}, a trained level's latents, N {N}, K {size}, D {dim}"
        if only not in title:
            continue
        pair, same = build()
        taken = alternate(pair, seconds=1.0 if quick else 8.0, rounds=100)
        cases.append(case_of(title, against, 0, same, taken, N * size * dim / rate))
    return cases


def latents(count: int) -> tuple[Tensor, Tensor]:
    """Encode crops of the bundled photographs, which the model was not trained on.

    Returns:
        The latents [count, D] of all cells of so many crops, and the codes [K, D].
    """
    model = load_tokenizer(MODEL).eval()
    recipe = DataRecipe(source="photographs", crop=64, resize=400)
    crops = TrainingCrops(open_data(recipe).training, recipe, seed=0, batch_size=count // 256)
    with torch.no_grad():
        level = model(crops.batch(0).pixels.float() / 255).levels[0]
    vectors = level.latents.movedim(1, -1).flatten(end_dim=-2).contiguous()
    assert len(vectors) == count
    quantizer = model.quantizers[0]
    assert isinstance(quantizer, VectorQuantizer)
    return vectors, quantizer.codebook.weight.detach().clone()
