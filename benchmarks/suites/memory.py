"""How much memory one training step takes beyond what was there before it."""

from __future__ import annotations

import ctypes
import gc
import platform
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders import flatvq_step, model_recipe, peer_quantizer, peer_step
from flatvq.quantize import DeadCodeReplacement, RandomInit, VectorQuantizer

__all__ = ["CASES", "QUICK", "peak", "run", "summary"]

N, BATCH, SIDE = 16384, 16, 128
# Levels of the whole model (0: the quantizer alone), K and D.
CASES = [
    (0, 65536, 16),
    (0, 16384, 8),
    (0, 8192, 8),
    (0, 512, 64),
    (1, 1024, 64),
    (2, 1024, 64),
    (1, 16384, 8),
]
# The quick form's: with more codes the peer takes half a minute and more.
QUICK = CASES[2:3]
# What was aimed at, for the first of them.
AIMS = {(0, 65536, 16): {"flatvq_bytes_below": 64 * 2**20, "share_below": 0.01}}
STATUS, RESET, MACHINE = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/meminfo")


def run(side: str, levels: int, size: int, dim: int) -> dict[str, Any] | None:
    """Measure one side of a case, in its own process.

    Args:
        side: `flatvq` or `other`.
        levels: of the whole model, or 0 for the quantizer alone.
        size: K.
        dim: D.

    Returns:
        See `peak`; None where the system does not tell (Linux does).
    """
    if not RESET.exists():
        return None
    if levels:
        images = torch.rand(BATCH, 3, SIDE, SIDE)
        train = (flatvq_step if side == "flatvq" else peer_step)(model_recipe(levels, size, dim), images)
        train()  # so that gradients and the optimiser's averages are there
        return peak(train)
    # A small step first, so that libraries and thread pools are there.
    _quantizer_step(side, 64, dim, 64)()
    return peak(_quantizer_step(side, size, dim, N))


def peak(call: Callable[[], object]) -> dict[str, Any]:
    """Measure a call.

    Returns:
        `bytes`, the peak of the resident set during the call less the resident set before it, and whether it
        `fits` this machine; if it does not, the peak of the attempt.
    """
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)  # what was freed before is not there
    before = _kib(STATUS, "VmRSS")
    RESET.write_text("5")
    with _within_the_machine():
        try:
            call()
            fits = True
        except (RuntimeError, MemoryError):
            fits = False
    return {"bytes": (_kib(STATUS, "VmHWM") - before) * 1024, "fits": fits}


def _quantizer_step(side: str, size: int, dim: int, count: int) -> Callable[[], None]:
    # Random first codes on both sides: the step is what is measured, not k-means.
    quantizer: Any = (
        VectorQuantizer(size, dim, init=RandomInit(), replacement=DeadCodeReplacement(every=1, fraction=0.05))
        if side == "flatvq"
        else peer_quantizer(size, dim, kmeans_init=False)
    )
    vectors = torch.randn(count, dim, requires_grad=True)

    def train() -> None:
        out = quantizer(vectors)
        quantized, loss = (out[0], out[2]) if isinstance(out, tuple) else (out.quantized, out.commitment_loss)
        (quantized.sum() + loss.sum()).backward()

    return train


@contextmanager
def _within_the_machine() -> Iterator[None]:
    """Let what does not fit fail by itself, before the system kills this process or another."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    most = (_kib(STATUS, "VmSize") + 9 * _kib(MACHINE, "MemAvailable") // 10) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _kib(file: Path, key: str) -> int:
    line = next(line for line in file.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1])


def summary(levels: int, size: int, dim: int, sides: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
    """Put both sides' peaks together."""
    what = "quantizer alone" if not levels else "single-level" if levels == 1 else "parallel two-level"
    return {
        "case": f"{what}, K {size}, D {dim}",
        **sides,
        "target": AIMS.get((levels, size, dim)),
    }
