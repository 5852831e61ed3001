"""flatvq and its peer on the same GPU: `python -m benchmarks.gpu results/gpu-NAME.json`."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.contenders import (
    Call,
    eval_pair,
    flatvq_step,
    model_recipe,
    peer_quantizer,
    peer_step,
    training_pair,
)
from benchmarks.timing import alternate, compared
from flatvq.nearest import backend_for
from flatvq.quantize import DeadCodeReplacement, RandomInit, VectorQuantizer

__all__ = ["measure"]

N = 16384
QUANTIZERS = [(512, 64), (8192, 8), (16384, 8), (65536, 16)]
# Levels, K, D, image side, batch.
STEPS = [(1, 1024, 64, 128, 16), (1, 16384, 8, 128, 16), (2, 1024, 64, 256, 64), (1, 5793, 64, 256, 64)]


def main() -> None:
    """Measure what the first GPU can, and write the record."""
    device = torch.device("cuda", 0)
    record = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": torch.cuda.get_device_name(device),
        "kernels": backend_for(device, 8) == "triton",
        "packages": {name: version(name) for name in ("torch", "triton", "vector-quantize-pytorch")},
    }
    cases: list[dict[str, Any]] = []
    for case in measure(device):
        cases.append(case)
        print(json.dumps(case), flush=True)
        Path(sys.argv[1]).write_text(
            json.dumps({**record, "cases": cases}, indent=1) + "\n", encoding="utf-8"
        )


def measure(device: torch.device) -> Iterator[dict[str, Any]]:
    """Time quantizers and whole steps, and measure the memory of one step."""
    for size, dim in QUANTIZERS:
        for name, pair in (("eval forward", eval_pair), ("training step", training_pair)):
            title = f"quantizer, {name}, N {N}, K {size}, D {dim}"
            vectors = torch.randn(N, dim, generator=torch.Generator().manual_seed(0)).to(device)
            calls, same = pair(vectors, size)
            yield _case(title, "vector-quantize-pytorch", same, calls, device)
    yield _memory(65536, 16, device)
    for levels, size, dim, side, batch in STEPS:
        gc.collect()
        torch.cuda.empty_cache()
        images, model = torch.rand(batch, 3, side, side, device=device), model_recipe(levels, size, dim)
        kind = "single-level" if levels == 1 else "parallel two-level"
        title = f"training step, {kind}, K {size}, D {dim}, {side} px, batch {batch}"
        against = "the same network, eager float32 (TF32 in convolutions), the peer's layer"
        same = "the same recipe builds both networks; only the quantizers differ"
        ours = flatvq_step(model, images)
        yield _case(title, against, same, {"flatvq": ours, "other": peer_step(model, images)}, device)
        if batch > 16:
            calls = {"flatvq": flatvq_step(model, images, compiled=True), "other": ours}
            yield _case(title + ", compiled", "the same step, eager", same, calls, device)


def _case(
    title: str, against: str, same: str, calls: dict[str, Call], device: torch.device
) -> dict[str, Any]:
    waiting = {name: _waiting(call, device) for name, call in calls.items()}
    timing = compared(alternate(waiting, seconds=1.5, rounds=30, warm_up=5))
    return {"case": title, "against": against, "same": same, **timing}


def _waiting(call: Call, device: torch.device) -> Callable[[], None]:
    def timed() -> None:
        call()
        torch.cuda.synchronize(device)

    return timed


def _memory(size: int, dim: int, device: torch.device) -> dict[str, Any]:
    """Measure the memory that a training step of the quantizer adds."""
    ours = VectorQuantizer(
        size, dim, init=RandomInit(), replacement=DeadCodeReplacement(every=1, fraction=0.05)
    )
    peer = peer_quantizer(size, dim, kmeans_init=False)
    case: dict[str, Any] = {"case": f"peak memory of a training step, N {N}, K {size}, D {dim}"}
    for name, quantizer in {"flatvq_bytes": ours, "other_bytes": peer}.items():
        vectors = torch.randn(N, dim, device=device, requires_grad=True)
        quantizer.to(device)
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        out: Any = quantizer(vectors)
        quantized, loss = (out[0], out[2]) if isinstance(out, tuple) else (out.quantized, out.commitment_loss)
        (quantized.sum() + loss.sum()).backward()
        torch.cuda.synchronize(device)
        case[name] = torch.cuda.max_memory_allocated(device) - before
    return {**case, "against": "vector-quantize-pytorch"}


if __name__ == "__main__":
    main()
