"""Compare the methods of the compiled search: `python -m benchmarks.variants RECORD.json`.

Each case times all methods in turn in one process, so that a machine that slows down slows all of them. Times
are CPU seconds of one thread, so that other processes on the machine count as little as possible. The record
holds the time of each method and the ratio to the search of all codes, round by round: above 1, the method is
faster. `automatic` is what the search does by default.

results/variants.json was written by this script's first version, at the commit that it names. The compiled
search then had more variants: one that compares integers of 16 bits first ("screened"), the tree ("pruned"),
and prepared codebooks that were kept from one search to the next. results/methods.json is of this version.

Axes: N vectors, K codes, D code dim.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.contenders import Call, flatvq_step, model_recipe
from benchmarks.timing import alternate, spread
from flatvq.data import ImageSet, TrainingCrops, open_data
from flatvq.model import VQVAE, build_vqvae
from flatvq.nearest import compiled, nearest_codes, status
from flatvq.quantize import VectorQuantizer
from flatvq.quantize.init import kmeans
from flatvq.recipe import CodebookRecipe, DataRecipe, InitRecipe, LevelRecipe, ModelRecipe, TrainRecipe
from flatvq.study.results import machine_record
from flatvq.train.machine import keep_freed_memory
from flatvq.train.objective import objective
from flatvq.train.optimizer import optimizer_for

ROOT = Path(__file__).parents[1]
DATA = DataRecipe(source="photographs", crop=64, resize=400)
SHAPES = ((512, 64), (8192, 8), (16384, 8))
# Vectors of a batch, and of one image of 64 pixels.
BATCH, IMAGE = 16384, 256
STEPS = 200
SECONDS, ROUNDS = 2.0, 60


def main() -> None:
    """Measure all cases and write the record."""
    out = Path(sys.argv[1])
    keep_freed_memory()
    torch.set_num_threads(1)
    cases = [case for shape in SHAPES for case in measure(*shape)]
    cases.append(whole_step("reference model, batch 16, 128 px, start of training", _reference_step()))
    record = {
        "format": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": machine_record(),
        "search": status(),
        "methods": list(compiled.METHODS),
        "clock": "CPU seconds of one thread",
        "training_steps": STEPS,
        "cases": cases,
    }
    out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measure(size: int, dim: int) -> Iterator[dict[str, Any]]:
    """Train a model with a codebook of this shape, and time search, k-means and steps."""
    model, step = trained_model(size, dim)
    shape = f"K {size}, D {dim}"
    images = _crops(BATCH // IMAGE).batch(0).pixels.float() / 255
    vectors, codes = _latents(model, images)
    random = torch.Generator().manual_seed(0)
    sources = {
        "trained": (vectors, codes),
        "random": (torch.randn(BATCH, dim, generator=random), torch.randn(size, dim, generator=random)),
    }
    for source, (given, book) in sources.items():
        for count in (BATCH, IMAGE):
            title = f"search, {source} codes, N {count}, {shape}"
            yield compared(title, partial(nearest_codes, given[:count], book))
    quantizer = VectorQuantizer(size, dim).eval()
    quantizer.codebook.set_code_vectors(codes)
    yield compared(f"quantizer, evaluation, trained codes, N {BATCH}, {shape}", lambda: quantizer(vectors))
    yield compared(
        f"model, evaluation, trained codes, 64 images of 64 px, {shape}", lambda: _evaluate(model, images)
    )
    gathered = _latents(model, _crops(4 * size // IMAGE).batch(1).pixels.float() / 255)[0]
    k_means = partial(_seed, gathered, size)
    yield compared(f"k-means, latents of a trained model, N {len(gathered)}, {shape}", k_means)
    model.train()
    yield whole_step(f"small model, batch 8, 64 px, after {STEPS} steps, {shape}", step)


def whole_step(title: str, step: Call) -> dict[str, Any]:
    """Time whole training steps."""
    return compared(f"training step, {title}", step, seconds=15)


def compared(title: str, call: Call, seconds: float = SECONDS) -> dict[str, Any]:
    """Time one call with each method."""
    print(title, file=sys.stderr, flush=True)
    calls = {name: partial(_forced, name, call) for name in compiled.METHODS}
    taken = alternate(calls, seconds=seconds, rounds=ROUNDS, clock=time.process_time)
    return _summary(title, taken, "all codes")


def _summary(title: str, taken: dict[str, list[float]], baseline: str) -> dict[str, Any]:
    times = {
        name: {
            "seconds": asdict(spread(values)),
            "ratio": asdict(
                spread([base / value for base, value in zip(taken[baseline], values, strict=True)])
            ),
        }
        for name, values in taken.items()
    }
    return {"case": title, "rounds": len(taken[baseline]), "baseline": baseline, "times": times}


def _forced(method: str, call: Callable[[], object]) -> None:
    """Call something whose searches all use one method."""
    usual = compiled.search_within_range
    compiled.search_within_range = partial(usual, method=method)
    try:
        call()
    finally:
        compiled.search_within_range = usual


def trained_model(size: int, dim: int) -> tuple[VQVAE, Call]:
    """Train the default study's model with one codebook; return it and a call that takes one more step."""
    model = ModelRecipe(
        width=32, residual_width=16, levels=(LevelRecipe(downsample=4, codebook_size=size, code_dim=dim),)
    )
    codebook = CodebookRecipe(init=InitRecipe(kind="kmeans", vectors_per_code=4))
    recipe = TrainRecipe(batch_size=8, learning_rate=2e-3, clip_norm=0.5)
    net = build_vqvae(model, codebook).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer, crops, number = optimizer_for(net, recipe), _crops(8), iter(range(10**9))

    def step() -> None:
        pixels = crops.batch(next(number) % 100).pixels.float() / 255
        losses = objective(net(pixels.to(memory_format=torch.channels_last)), pixels, recipe)
        optimizer.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        optimizer.step()

    for _ in range(STEPS):
        step()
    return net, step


def _crops(batch_size: int) -> TrainingCrops:
    return TrainingCrops(_photographs(), DATA, seed=0, batch_size=batch_size)


@cache
def _photographs() -> ImageSet:
    return open_data(DATA).training


@torch.no_grad()
def _latents(model: VQVAE, images: Tensor) -> tuple[Tensor, Tensor]:
    """Encode images; return the latents [N, D] and the codes [K, D]."""
    model.eval()
    parts = torch.split(images, 16)
    maps = torch.cat([model(part).levels[0].latents for part in parts])
    quantizer = model.quantizers[0]
    assert isinstance(quantizer, VectorQuantizer)
    return maps.movedim(1, -1).flatten(end_dim=-2).contiguous(), quantizer.codebook.weight.detach().clone()


@torch.no_grad()
def _evaluate(model: VQVAE, images: Tensor) -> None:
    model.eval()(images)


def _seed(vectors: Tensor, size: int) -> None:
    kmeans(vectors, size, 10, torch.Generator().manual_seed(0))


def _reference_step() -> Call:
    images = torch.rand(16, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    return flatvq_step(model_recipe(1, 16384, 8), images)


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


if __name__ == "__main__":
    main()
