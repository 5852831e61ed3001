"""FAISS' flat search, set up for codebooks. Only this module imports faiss.

Axes: N vectors, K codes, D code dim.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from threading import Lock

# torch must be loaded before faiss, so that both share one OpenMP pool. In the other order there are two
# pools, which compete for the cores.
import torch
from torch import Tensor

import faiss  # isort: skip

__all__ = ["FUSED_DIM", "search"]

# Numbers in the codes that are searched at once (512 KiB). Every few vectors read all of them, so they should
# stay in the cache of one core.
_CODES = 1 << 17
# Fewer vectors than this are searched one by one, which is faster.
_FEW = 8
# Up to this dimension, FAISS has fused kernels, which hold a vector in registers. Above, it is much slower.
FUSED_DIM = 32 if "AVX512" in faiss.get_compile_options() else 16
# FAISS searches codes in whole SIMD registers, and the remaining ones with other code, which rounds
# differently.
_LANES = 32


def search(vectors: Tensor, codebook: Tensor) -> Tensor:
    """Find the nearest code of each vector; of equally near ones, the first.

    Args:
        vectors: float32 [N, D], on the CPU.
        codebook: float32 [K, D].

    Returns:
        int64 [N].

    Example:
        >>> search(torch.tensor([[0.2], [0.9]]), torch.tensor([[0.0], [1.0], [1.0]])).tolist()
        [0, 1]
    """
    vectors, codes = vectors.contiguous(), _in_lanes(codebook)
    rows = max(1, _CODES // codes.shape[1] // _LANES) * _LANES
    with _fused_kernels() if _fusible(vectors) else nullcontext():
        distances, nearest = _knn(vectors, codes[:rows])
        for start in range(rows, len(codes), rows):
            others, indices = _knn(vectors, codes[start : start + rows])
            nearer = others < distances  # and not if it is equal: the first of equals stays
            distances = torch.where(nearer, others, distances)
            nearest = torch.where(nearer, indices + start, nearest)
    return nearest


def _in_lanes(codebook: Tensor) -> Tensor:
    """Fill a codebook up with copies of its last code.

    They come after it, so they are never the first nearest. Without them equal codes would get unequal
    distances, and the search could miss the first of them.
    """
    missing = -len(codebook) % _LANES
    return torch.cat([codebook, codebook[-1:].expand(missing, -1)]) if missing else codebook.contiguous()


def _knn(vectors: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    distances, indices = faiss.knn(vectors.numpy(), codes.numpy(), 1)
    return torch.from_numpy(distances[:, 0]), torch.from_numpy(indices[:, 0])


class _Bound:
    """The least N x D for which FAISS uses its fused kernels. It is a global variable of FAISS."""

    lock = Lock()
    users = 0
    before = 0


def _fusible(vectors: Tensor) -> bool:
    return len(vectors) >= _FEW and vectors.shape[1] <= FUSED_DIM


@contextmanager
def _fused_kernels() -> Iterator[None]:
    """Make FAISS use its fused kernels for batches of any size.

    By default, FAISS does not use them below N x D = 128,000, and is then ten times slower. Most batches of a
    small training run are below this bound. The bound is restored when the last search has ended, because
    other code may rely on it.
    """
    with _Bound.lock:
        if _Bound.users == 0:
            _Bound.before = faiss.cvar.distance_compute_blas_threshold
            faiss.cvar.distance_compute_blas_threshold = 1
        _Bound.users += 1
    try:
        yield
    finally:
        with _Bound.lock:
            _Bound.users -= 1
            if _Bound.users == 0:
                faiss.cvar.distance_compute_blas_threshold = _Bound.before
