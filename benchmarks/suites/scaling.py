"""How cost grows: one quantity at a time, against the expected order."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict
from math import log
from typing import Any

import numpy as np
import torch

from benchmarks.contenders import flatvq_step, model_recipe
from benchmarks.timing import alternate, spread
from flatvq.evaluate import evaluate
from flatvq.model import build_vqvae
from flatvq.quantize import DeadCodeReplacement, RandomInit, VectorQuantizer
from flatvq.recipe import CodebookRecipe, LevelRecipe, ModelRecipe

__all__ = ["run"]

Call = Callable[[], object]


def run() -> list[dict[str, Any]]:
    """Measure all curves."""
    step = "quantizer, training step"
    curves: list[tuple[str, str, str, Iterable[int], Callable[[int], Call]]] = [
        ("K", f"{step}, N 16384, D 16", "N K D + K D", _powers(9, 18), lambda k: _quantizer(16384, k, 16)),
        ("K", f"{step}, N 16384, D 64", "N K D + K D", _powers(9, 15), lambda k: _quantizer(16384, k, 64)),
        ("N", f"{step}, K 8192, D 16", "N K D + N D", _powers(10, 17), lambda n: _quantizer(n, 8192, 16)),
        ("D", f"{step}, N 16384, K 1024", "N K D + N D", _powers(1, 9), lambda d: _quantizer(16384, 1024, d)),
        ("side", "training step, single-level, batch 4", "side^2", (64, 96, 128, 192, 256), _sides),
        ("levels", "training step, 128 px, batch 8", "see the text", (1, 2, 3, 4), _levels),
        ("images", "evaluation of 64 px crops", "images", _powers(6, 11), _evaluation),
    ]
    return [_curve(*curve) for curve in curves]


def _curve(
    quantity: str, of: str, order: str, values: Iterable[int], build: Callable[[int], Call]
) -> dict[str, Any]:
    # In turn, for a machine that is slow for a while would otherwise bend the curve.
    taken = alternate({str(value): build(value) for value in values}, seconds=12, rounds=30)
    points = [{"at": int(value), "seconds": asdict(spread(times))} for value, times in taken.items()]
    return {"quantity": quantity, "of": of, "order": order, "points": points, "exponent": _exponent(points)}


def _exponent(points: list[dict[str, Any]]) -> float:
    """Slope of the upper half of a curve on doubly logarithmic axes: 1 for what grows in proportion."""
    upper = points[(len(points) - 1) // 2 :]
    x = [log(point["at"]) for point in upper]
    y = [log(point["seconds"]["median"]) for point in upper]
    return float(np.polyfit(x, y, 1)[0])


def _powers(first: int, last: int) -> list[int]:
    return [2**power for power in range(first, last + 1)]


def _quantizer(count: int, size: int, dim: int) -> Call:
    quantizer = VectorQuantizer(
        size, dim, init=RandomInit(), replacement=DeadCodeReplacement(every=1, fraction=0.05)
    )
    vectors = torch.randn(count, dim, requires_grad=True)

    def call() -> None:
        out = quantizer(vectors)
        (out.quantized.sum() + out.commitment_loss).backward()

    return call


def _sides(side: int) -> Call:
    return flatvq_step(model_recipe(1, 1024, 64), torch.rand(4, 3, side, side))


def _levels(levels: int) -> Call:
    return flatvq_step(model_recipe(levels, 1024, 64), torch.rand(8, 3, 128, 128))


def _evaluation(images: int) -> Call:
    recipe = ModelRecipe(width=32, residual_width=16, levels=(LevelRecipe(codebook_size=1024),))
    model = build_vqvae(recipe, CodebookRecipe()).eval()
    crop = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    return lambda: evaluate(model, ((str(number), crop) for number in range(images)))
