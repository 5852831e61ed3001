"""Whole training steps of the reference's models."""

from __future__ import annotations

import time
from typing import Any

import torch

from benchmarks.contenders import flatvq_step, model_recipe, peer_step
from benchmarks.timing import alternate, compared

__all__ = ["run"]

# (levels, K, D), and the least ratio that is aimed at.
CASES = {(1, 1024, 64): 3, (2, 1024, 64): 3, (1, 16384, 8): 25}
BATCH, SIDE = 16, 128
AGAINST = "the same network, eager float32, vector-quantize-pytorch's layer"


def run(quick: bool) -> list[dict[str, Any]]:
    """Time all cases; the quick form leaves out the one in which the peer takes longest."""
    images = torch.rand(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    cases = []
    for (levels, size, dim), target in CASES.items():
        if quick and size > 1024:
            continue
        model = model_recipe(levels, size, dim)
        calls = {"flatvq": flatvq_step(model, images), "other": peer_step(model, images)}
        taken = alternate(calls, seconds=3 if quick else 15, rounds=3 if size > 8192 else 20)
        title = f"training step, {'single-level' if levels == 1 else 'parallel two-level'}, K {size}, D {dim}"
        same = "the same recipe builds both networks; only the quantizers differ"
        cases.append({"case": title, "against": AGAINST, "target": target, "same": same, **compared(taken)})
    return cases if quick else [*cases, _compiling(images)]


def _compiling(images: torch.Tensor) -> dict[str, Any]:
    """Time the compiled step against the eager one: the basis of flatvq's rule for compiling."""
    model = model_recipe(1, 1024, 64)
    compiled = flatvq_step(model, images, compiled=True)
    started = time.perf_counter()
    compiled()
    seconds = time.perf_counter() - started
    calls = {"flatvq": compiled, "other": flatvq_step(model, images)}
    taken = alternate(calls, seconds=15, rounds=40, warm_up=3)
    return {
        "case": f"training step, single-level, K 1024, D 64, compiled; the first step took {seconds:.0f} s",
        "against": "the same step, eager",
        "target": None,
        "same": "the same recipe builds both",
        **compared(taken),
    }
