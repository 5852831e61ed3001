"""How much memory one training step of a quantizer takes beyond what was there before it."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders import peer_quantizer
from flatvq.quantize import RandomSeeding, Revival, VectorQuantizer

__all__ = ["run"]

N, SIZE, DIM = 16384, 65536, 16
STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def run(side: str) -> int | None:
    """Measure one side, in a process of its own.

    Args:
        side: `flatvq` or `other`.

    Returns:
        Bytes: the peak of the resident set during the step less the resident set before it; None where the
        system does not tell (Linux does).
    """
    if not RESET.exists():
        return None
    # A small step first, so that libraries and thread pools are there.
    _step(side, 64, 64)
    quantizer, vectors = _build(side, SIZE), torch.randn(N, DIM, requires_grad=True)
    gc.collect()
    before = _kib("VmRSS")
    RESET.write_text("5")
    _train(quantizer, vectors)
    return (_kib("VmHWM") - before) * 1024


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


def _kib(key: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1])


def summary(found: dict[str, int | None]) -> dict[str, Any]:
    """Put both sides' peaks together."""
    return {
        "case": f"quantizer, training step, extra peak memory, N {N}, K {SIZE}, D {DIM}",
        "against": "vector-quantize-pytorch",
        "flatvq_bytes": found["flatvq"],
        "other_bytes": found["other"],
        "target": {"flatvq_bytes_below": 64 * 2**20, "share_below": 0.01},
    }
