"""The quantizers alone, and the search beside FAISS."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

# After torch: then both share one OpenMP pool.
import faiss  # isort: skip

from benchmarks.contenders import Call, eval_pair, training_pair
from benchmarks.timing import alternate, compared
from flatvq.quantize import nearest_codes

__all__ = [
    "EVAL",
    "FLAT",
    "IMAGE",
    "PEER",
    "TRAINING",
    "N",
    "case_of",
    "multiply_adds_per_second",
    "run",
    "search_pair",
]

# Vectors of a batch, and of one image.
N, FEW = 16384, 256
PEER, FLAT = "vector-quantize-pytorch", "FAISS, flat"
# (K, D), and the least ratio that is aimed at.
EVAL = {(512, 64): 12, (8192, 8): 150, (16384, 8): 150, (65536, 16): 150}
TRAINING = {(512, 64): 8, (8192, 8): 100, (16384, 8): 100}
IMAGE = ((8192, 8), (65536, 16))


def run(quick: bool, only: str = "") -> list[dict[str, Any]]:
    """Time all cases.

    Args:
        quick: leave the peer's longest calls out.
        only: cases with this in their title.
    """
    seconds = 1.0 if quick else 8.0
    rate = multiply_adds_per_second()
    cases = []
    for (size, dim), target in EVAL.items():
        title = _title("quantizer, eval forward", size, dim)
        if (quick and size > 8192) or only not in title:
            continue
        pair, same = eval_pair(_vectors(dim), size)
        taken = alternate(pair, seconds=seconds, rounds=50)
        cases.append(case_of(title, PEER, target, same, taken, N * size * dim / rate))
    for size, dim in IMAGE:
        title = _title("quantizer, eval forward, one image", size, dim, FEW)
        if (quick and size > 8192) or only not in title:
            continue
        pair, same = eval_pair(_vectors(dim)[:FEW], size)
        taken = alternate(pair, seconds=seconds, rounds=200)
        cases.append(case_of(title, PEER, 0, same, taken, FEW * size * dim / rate))
    for (size, dim), target in TRAINING.items():
        title = _title("quantizer, training step", size, dim)
        if (quick and size > 8192) or only not in title:
            continue
        pair, same = training_pair(_vectors(dim), size)
        taken = alternate(pair, seconds=seconds, rounds=50)
        cases.append(case_of(title, PEER, target, same, taken, N * size * dim / rate))
    for size, dim in EVAL:
        title = _title("search alone", size, dim)
        if only not in title:
            continue
        vectors, codes = _vectors(dim), torch.randn(size, dim, generator=torch.Generator().manual_seed(1))
        calls, same = search_pair(vectors, codes)
        taken = alternate(calls, seconds=seconds, rounds=100)
        cases.append(case_of(title, FLAT, 0.9, same, taken, N * size * dim / rate))
    return cases


def search_pair(vectors: torch.Tensor, codes: torch.Tensor) -> tuple[dict[str, Call], str]:
    """Search for the nearest codes [K, D] of vectors [N, D].

    Returns:
        The contenders, and what was checked.
    """
    search, flat = nearest_codes(vectors, codes), faiss.knn(vectors.numpy(), codes.numpy(), 1)[1][:, 0]
    equal = int((search.numpy() == flat).sum())
    assert equal > 0.999 * len(vectors), "the search and FAISS disagree"
    calls: dict[str, Call] = {
        "flatvq": lambda: nearest_codes(vectors, codes),
        "other": lambda: faiss.knn(vectors.numpy(), codes.numpy(), 1),
    }
    return calls, f"{equal} of {len(vectors)} indices are the same"


def multiply_adds_per_second() -> float:
    """Measure how fast this machine multiplies float32 matrices large enough to be at its peak.

    PyTorch has two ways to a product, its BLAS and oneDNN's 1x1 convolution; the faster one counts, at its
    best of many runs. A search that computes all N x K products in float32 takes no less time than N K D
    multiply-adds at this rate.
    """
    rows, inner, columns = 16 * 256, 512, 2048
    left, right = torch.rand(rows, inner), torch.rand(columns, inner)
    maps = left.view(16, rows // 16, 1, inner).movedim(-1, 1)  # channels last
    out = torch.empty(rows, columns)
    products: tuple[Callable[[], torch.Tensor], ...] = (
        lambda: torch.mm(left, right.T, out=out),
        lambda: F.conv2d(maps, right[:, :, None, None]),
    )
    best = float("inf")
    with torch.no_grad():
        for _ in range(10):
            for product in products:
                started = perf_counter()
                product()
                best = min(best, perf_counter() - started)
    return rows * inner * columns / best


def _vectors(dim: int) -> torch.Tensor:
    return torch.randn(N, dim, generator=torch.Generator().manual_seed(0))


def _title(name: str, size: int, dim: int, count: int = N) -> str:
    return f"{name}, N {count}, K {size}, D {dim}"


def case_of(
    title: str, against: str, target: float, same: str, taken: dict[str, list[float]], products_s: float
) -> dict[str, Any]:
    """Describe what was measured of a case; without an aim, `target` is 0."""
    return {
        "case": title,
        "against": against,
        "target": target,
        "same": same,
        "products_s": products_s,
        **compared(taken),
    }
