"""How much memory one training step of a quantizer takes beyond what was there before it."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders import peer_quantizer
from flatvq.quantize import RandomSeeding, Revival, VectorQuantizer

__all__ = ["peak", "run", "summary"]

N, SIZE, DIM = 16384, 65536, 16
STATUS, RESET, MACHINE = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/meminfo")


def run(side: str) -> dict[str, Any] | None:
    """Measure one side, in a process of its own.

    Args:
        side: `flatvq` or `other`.

    Returns:
        See `peak`; None where the system does not tell (Linux does).
    """
    if not RESET.exists():
        return None
    # A small step first, so that libraries and thread pools are there.
    _step(side, 64, 64)
    quantizer, vectors = _build(side, SIZE), torch.randn(N, DIM, requires_grad=True)
    return peak(lambda: _train(quantizer, vectors))


def peak(call: Callable[[], object]) -> dict[str, Any]:
    """Measure a call.

    Returns:
        `bytes`, the peak of the resident set during the call less the resident set before it, and whether it
        `fits` this machine; where it does not, the peak is that of the attempt.
    """
    gc.collect()
    before = _kib(STATUS, "VmRSS")
    RESET.write_text("5")
    with _within_the_machine():
        try:
            call()
            fits = True
        except (RuntimeError, MemoryError):
            fits = False
    return {"bytes": (_kib(STATUS, "VmHWM") - before) * 1024, "fits": fits}


def _step(side: str, size: int, count: int) -> None:
    _train(_build(side, size), torch.randn(count, DIM, requires_grad=True))


def _build(side: str, size: int) -> Any:
    # Random first codes on both sides: the step is what is measured, not k-means.
    if side == "flatvq":
        return VectorQuantizer(size, DIM, seeding=RandomSeeding(), revival=Revival(every=1, fraction=0.05))
    return peer_quantizer(size, DIM, kmeans_init=False)


def _train(quantizer: Any, vectors: torch.Tensor) -> None:
    out = quantizer(vectors)
    total = (
        out[0].sum() + out[2].sum() if isinstance(out, tuple) else out.quantized.sum() + out.commitment_loss
    )
    total.backward()


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


def summary(found: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
    """Put both sides' peaks together."""
    return {
        "case": f"quantizer, training step, extra peak memory, N {N}, K {SIZE}, D {DIM}",
        "against": "vector-quantize-pytorch",
        **found,
        "target": {"flatvq_bytes_below": 64 * 2**20, "share_below": 0.01},
    }
