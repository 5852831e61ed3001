"""Fit the rule by which the compiled search uses a tree: `python -m benchmarks.tree_rule`.

It prints the build constants of `native/tree_search.cpp` that fit this processor, and then, for each case,
the time with a tree and the time of the rule's choice as multiples of the time of a search of all codes.
Times are CPU seconds of one thread. Axes: N vectors, K codes, D code dim.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from statistics import median

import numpy as np
import torch
from torch import Tensor

from benchmarks.timing import alternate
from flatvq.nearest import backend_for, compiled

SIZES, DIMS, COUNTS = (512, 2048, 16384), (4, 8, 16, 64), (256, 1024, 2048, 4096, 16384)
# Directions in which vectors and codes vary, as in trained models; None for all.
RANKS = (3, None)


def main() -> None:
    """Measure all cases, and print the fit and the choices."""
    torch.set_num_threads(1)
    rows = [(case, ratios(*case)) for case in cases()]
    build, per_dim = fitted({case: tree for case, (tree, _) in rows})
    print(f"BUILD = {build:.0f}, BUILD_PER_DIM = {per_dim:.0f}")
    print("rank  K      D   N      tree  chosen")
    for (rank, size, dim, count), (tree, chosen) in rows:
        slower = "  more than 10 % slower than the faster method" if chosen > 1.1 * min(tree, 1) else ""
        print(
            f"{rank or 'all':<5} {size:<6} {dim:<3} {count:<6} {tree:.2f}  {chosen:.2f}{slower}", flush=True
        )


def cases() -> Iterator[tuple[int | None, int, int, int]]:
    """List rank, K, D and N."""
    for rank in RANKS:
        for size in SIZES:
            for dim in DIMS:
                yield from ((rank, size, dim, count) for count in COUNTS if count * size * dim < 4e9)


def ratios(rank: int | None, size: int, dim: int, count: int) -> tuple[float, float]:
    """Return the times with a tree and of the choice, over the time of a search of all codes."""
    vectors, codes = drawn(rank, count, dim, seed=1), drawn(rank, size, dim, seed=2)
    kernels = backend_for(torch.device("cpu"), dim)
    calls = {
        method: partial(compiled.search_within_range, vectors, codes, kernels, method=method)
        for method in compiled.METHODS
    }
    taken = alternate(calls, seconds=0.5, rounds=15, clock=time.process_time)
    baseline = taken["all codes"]
    tree, chosen = (
        median(ours / theirs for ours, theirs in zip(taken[method], baseline, strict=True))
        for method in ("tree", "automatic")
    )
    return tree, chosen


def drawn(rank: int | None, count: int, dim: int, seed: int) -> Tensor:
    """Draw vectors [count, dim] that vary in `rank` directions and little in the others."""
    random = torch.Generator().manual_seed(seed)
    if rank is None or rank >= dim:
        return torch.randn(count, dim, generator=random)
    directions = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(0)))[0][:rank]
    noise = torch.randn(count, dim, generator=random)
    vectors: Tensor = torch.randn(count, rank, generator=random) @ directions + 0.01 * noise
    return vectors


def fitted(tree: dict[tuple[int | None, int, int, int], float]) -> tuple[float, float]:
    """Fit the cost of building a tree, from how it falls with N where few leaves are visited."""
    few, many = COUNTS[:2]
    slopes = {
        (size, dim): (tree[RANKS[0], size, dim, few] - tree[RANKS[0], size, dim, many]) / (1 / few - 1 / many)
        for size in SIZES
        for dim in DIMS
    }
    matrix = np.array([[1.0, dim] for _, dim in slopes])
    costs = np.array([slope * dim for (_, dim), slope in slopes.items()])
    build, per_dim = np.linalg.lstsq(matrix, costs, rcond=None)[0]
    return float(build), float(per_dim)


if __name__ == "__main__":
    main()
