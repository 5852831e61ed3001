"""The quantizers alone, and the search against FAISS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
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
    rate = multiply_adds_per_second()
    cases = []
    for asked in _asked():
        title = f"{asked.what}, N {asked.count}, K {asked.size}, D {asked.dim}"
        if (quick and asked.against == PEER and asked.size > 8192) or only not in title:
            continue
        pair, same = asked.build()
        taken = alternate(pair, seconds=1.0 if quick else 8.0, rounds=100)
        products = asked.count * asked.size * asked.dim / rate
        cases.append(case_of(title, asked.against, asked.target, same, taken, products))
    return cases


@dataclass(frozen=True)
class _Case:
    """What is to be measured: of so many vectors and codes, and how both sides are built."""

    what: str
    against: str
    target: float
    count: int
    size: int
    dim: int
    build: Callable[[], tuple[dict[str, Call], str]]


def _asked() -> Iterator[_Case]:
    evaluated, trained = "quantizer, eval forward", "quantizer, training step"
    for (size, dim), target in EVAL.items():
        yield _Case(evaluated, PEER, target, N, size, dim, partial(eval_pair, _vectors(N, dim), size))
    for size, dim in IMAGE:
        yield _Case(
            f"{evaluated}, one image", PEER, 0, FEW, size, dim, partial(eval_pair, _vectors(FEW, dim), size)
        )
    for (size, dim), target in TRAINING.items():
        yield _Case(trained, PEER, target, N, size, dim, partial(training_pair, _vectors(N, dim), size))
    for size, dim in EVAL:
        codes = torch.randn(size, dim, generator=torch.Generator().manual_seed(1))
        yield _Case("search alone", FLAT, 0.9, N, size, dim, partial(search_pair, _vectors(N, dim), codes))


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


def _vectors(count: int, dim: int) -> torch.Tensor:
    return torch.randn(N, dim, generator=torch.Generator().manual_seed(0))[:count]


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
