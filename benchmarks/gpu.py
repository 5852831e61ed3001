"""flatvq on a GPU, beside the peer on the same one: `python -m benchmarks.gpu RECORD.json`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from benchmarks.contenders import (
    eval_pair,
    flatvq_step,
    model_recipe,
    peer_quantizer,
    peer_step,
    training_pair,
)
from benchmarks.timing import alternate, compared
from flatvq.quantize import RandomSeeding, Revival, VectorQuantizer, nearest_codes
from flatvq.train.machine import repeatable

__all__ = ["measure"]

DEVICE = torch.device("cuda")
N = 16384
QUANTIZERS = [(512, 64), (8192, 8), (16384, 8), (65536, 16)]
Call = Callable[[], object]


def main() -> None:
    """Measure what fits this GPU, and write the record."""
    record = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "gpu": torch.cuda.get_device_name(),
        "packages": {name: version(name) for name in ("torch", "vector-quantize-pytorch")},
        "cases": measure(),
    }
    Path(sys.argv[1]).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measure() -> list[dict[str, Any]]:
    """Time the cases of the benchmark of the CPU, and one of ImageNet's size."""
    cases: list[dict[str, Any]] = []
    for size, dim in QUANTIZERS:
        for name, pair in (("eval forward", eval_pair), ("training step", training_pair)):
            calls, same = pair(_normal(N, dim), size)
            title = f"quantizer, {name}, N {N}, K {size}, D {dim}"
            cases.append(_case(title, calls, same=same))
            if name == "training step":
                calls = {"flatvq": calls["flatvq"], "other": _repeatable(calls["flatvq"])}
                cases.append(_case(title + ", beside the same with bits that repeat", calls))
        vectors, codes = _normal(N, dim), _normal(size, dim, seed=1)
        calls = {"flatvq": partial(nearest_codes, vectors, codes)}
        cases.append(_case(f"search alone, N {N}, K {size}, D {dim}", calls))
    cases += [_memory(side) for side in ("flatvq", "other")]
    for levels, size, dim, side, batch in (
        (1, 1024, 64, 128, 16),
        (2, 1024, 64, 128, 16),
        (1, 16384, 8, 128, 16),
        (2, 1024, 64, 256, 64),
        (1, 5793, 64, 256, 64),
    ):
        images = torch.rand(batch, 3, side, side, device=DEVICE)
        model = model_recipe(levels, size, dim)
        title = f"training step, {levels} level(s), K {size}, D {dim}, {side} px, batch {batch}"
        calls = {"flatvq": flatvq_step(model, images), "other": peer_step(model, images)}
        cases.append(_case(title, calls))
        compiled = flatvq_step(model, images, compiled=True)
        started = perf_counter()
        compiled()
        torch.cuda.synchronize()
        seconds = perf_counter() - started
        calls = {"flatvq": compiled, "other": calls["flatvq"]}
        cases.append(_case(title + ", compiled against eager", calls, first_s=seconds))
    return cases


def _case(title: str, calls: dict[str, Call], **more: Any) -> dict[str, Any]:
    calls = {name: _synchronised(call) for name, call in calls.items()}
    taken = alternate(calls, seconds=2.0, rounds=30, warm_up=3)
    if "other" not in taken:
        taken["other"] = taken["flatvq"]
    found = compared(taken)
    milliseconds = [f"{found[side]['median'] * 1e3:.3f}" for side in ("flatvq_s", "other_s")]
    ratio = f"{found['ratio']['median']:.2f}x"
    print(f"{title}: {' against '.join(milliseconds)} ms, {ratio}", *more.values(), flush=True)
    return {"case": title, **more, **found}


def _synchronised(call: Call) -> Call:
    def timed() -> None:
        call()
        torch.cuda.synchronize()

    return timed


def _repeatable(call: Call) -> Call:
    def timed() -> None:
        with repeatable(DEVICE):
            call()

    return timed


def _memory(side: str) -> dict[str, Any]:
    """Measure what a training step of the quantizer takes beyond what was there."""
    size, dim = 65536, 16
    ours = VectorQuantizer(size, dim, seeding=RandomSeeding(), revival=Revival(every=1, fraction=0.05))
    quantizer: Any = ours if side == "flatvq" else peer_quantizer(size, dim, kmeans_init=False)
    quantizer.to(DEVICE)
    vectors = _normal(N, dim).requires_grad_()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    out = quantizer(vectors)
    quantized, loss = (out[0], out[2]) if isinstance(out, tuple) else (out.quantized, out.commitment_loss)
    (quantized.sum() + loss.sum()).backward()
    torch.cuda.synchronize()
    peak = torch.cuda.max_memory_allocated() - before
    print(f"memory, {side}: {peak / 2**20:.1f} MiB", flush=True)
    return {"case": f"peak memory of a training step, K {size}, D {dim}, {side}", "bytes": peak}


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


if __name__ == "__main__":
    main()
