"""Exact nearest-code search and lookup, without an N x K matrix in memory.

Axes: N vectors, K codes, D code dim.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int64
from torch import Tensor

from flatvq.errors import FlatvqError
from flatvq.nearest.backends import BACKENDS, backend_for, require_backend
from flatvq.nearest.result import SearchResult
from flatvq.shapes import require_axes, require_floating

__all__ = ["look_up", "nearest_codes"]


@torch.no_grad()
def nearest_codes(
    vectors: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"], backend: str | None = None
) -> Int64[Tensor, " n"]:
    """Find the nearest code of each vector in Euclidean distance (van den Oord et al. 2017, eq. 1).

    The search is exact in float32: the distance of the returned code, computed in float64, exceeds the
    smallest distance at most by float32 rounding. Exact ties go to the lowest index. The same holds for equal
    codes, except with the backend `product`, where rounding may decide between them. Autocast has no effect.
    Memory beyond the inputs is O(N D + K D).

    Args:
        vectors: float32 [N, D]; other floating types are converted.
        codebook: float32 [K, D].
        backend: one of `flatvq.nearest.BACKENDS`; the one that `backend_for` chooses by default.

    Returns:
        int64 [N], each in [0, K).

    Raises:
        FlatvqError: if a shape does not fit, the codebook is empty, or the backend cannot run.
        NonFiniteError: if a value is NaN or infinite.

    Example:
        >>> codebook = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
        >>> nearest_codes(torch.tensor([[0.1, 0.2], [0.9, 0.9]]), codebook).tolist()
        [0, 1]
        >>> nearest_codes(torch.tensor([[0.1, 0.2], [0.9, 0.9]]), codebook, backend="faiss").tolist()
        [0, 1]
    """
    _check(vectors, codebook)
    return _search(vectors, codebook, backend, look_up=False).indices


def look_up(
    vectors: Float[Tensor, "n d"], codebook: Float[Tensor, "k d"], backend: str | None = None
) -> tuple[Int64[Tensor, " n"], Float[Tensor, "n d"], Float[Tensor, ""]]:
    """Find the nearest code of each vector, as `nearest_codes` does, and also return the code vectors.

    Args:
        vectors: float32 [N, D].
        codebook: float32 [K, D].
        backend: one of `flatvq.nearest.BACKENDS`; the one that `backend_for` chooses by default.

    Returns:
        Indices [N]; the code vectors [N, D]; and the mean of (z - e)^2 over all elements, zero if N is zero.

    Raises:
        FlatvqError: see `nearest_codes`.

    Example:
        >>> indices, codes, error = look_up(torch.tensor([[0.1], [0.9]]), torch.tensor([[0.0], [1.0]]))
        >>> indices.tolist(), codes.tolist(), round(error.item(), 4)
        ([0, 1], [[0.0], [1.0]], 0.01)
    """
    vectors, codebook = vectors.detach(), codebook.detach()
    _check(vectors, codebook)
    is_float32 = vectors.dtype == codebook.dtype == torch.float32
    indices, code_vectors, error = _search(vectors, codebook, backend, look_up=is_float32)
    if code_vectors is None:
        code_vectors = F.embedding(indices, codebook)
    if error is None and len(vectors):
        error = F.mse_loss(vectors.to(code_vectors.dtype), code_vectors)
    return indices, code_vectors, code_vectors.new_zeros(()) if error is None else error


def _search(vectors: Tensor, codebook: Tensor, backend: str | None, look_up: bool) -> SearchResult:
    device = vectors.device
    if backend is None:
        backend = backend_for(device, vectors.shape[1])
    else:
        require_backend(backend, device)
    if len(vectors) == 0:
        return SearchResult(torch.empty(0, dtype=torch.int64, device=device))
    # Entering `autocast` takes as long as a small search.
    enabled = torch.is_autocast_enabled(device.type)
    with torch.autocast(device.type, enabled=False) if enabled else nullcontext():
        return BACKENDS[backend].search(vectors.float(), codebook.float(), look_up)


def _check(vectors: Tensor, codebook: Tensor) -> None:
    require_axes(codebook, "codes", "K", "D")
    require_floating(codebook, "codes")
    if codebook.numel() == 0:
        raise FlatvqError(f"a codebook of shape {list(codebook.shape)} is empty", "pass at least one code")
    require_axes(vectors, "vectors", "N", codebook.shape[1])
    require_floating(vectors, "vectors")
    if vectors.device != codebook.device:
        raise FlatvqError(
            f"the vectors are on {vectors.device}, and the codebook on {codebook.device}",
            "move one of them with .to()",
        )
