"""The search and the sums in C++, called through the extension module `_native`.

The C++ sources are in `native/`. Axes: N vectors, K codes, D code dim.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from flatvq.errors import FlatvqError
from flatvq.nearest.availability import BUILD_ERROR
from flatvq.nearest.conditioning import LARGEST, OFFSET, SMALLEST, conditioned, require_finite
from flatvq.nearest.result import SearchResult

if TYPE_CHECKING or not BUILD_ERROR:
    from flatvq.nearest import _native

__all__ = ["KERNELS", "METHODS", "add_to_sums", "code_medians", "missing", "search", "search_within_range"]

KERNELS = ("avx512", "avx2", "baseline")
"""The instruction sets that the search is compiled for, the fastest first."""

METHODS = ("automatic", "all codes", "tree")
"""How codes are searched: all of them, or with a tree that skips most, or whichever is faster."""

_KERNELS = {} if BUILD_ERROR else {kernels.name: kernels for kernels in _native.KERNELS}
_METHODS = {} if BUILD_ERROR else dict(zip(METHODS, _native.Method, strict=True))


@cache
def missing(kernels: str) -> str:
    """Return why kernels cannot run here, or an empty string if they can."""
    if BUILD_ERROR:
        return f"the compiled search is not built: {BUILD_ERROR}"
    if kernels not in _KERNELS or not _KERNELS[kernels].supported:
        return f"the processor cannot run the {kernels} kernels"
    return ""


def search(vectors: Tensor, codebook: Tensor, look_up: bool, kernels: str) -> SearchResult:
    """Find the nearest codes, in one pass over the vectors if possible.

    The pass checks the vectors, searches and copies codes while the vectors are in the caches. If squares of
    the values may overflow float32, the arrays are first scaled, as for the other backends.

    Args:
        vectors: float32 [N, D] on the CPU.
        codebook: float32 [K, D] on the CPU.
        look_up: also return code vectors and error, if it takes one pass.
        kernels: one of `KERNELS` that is not missing.
    """
    in_range, medians = code_medians(codebook, kernels)
    if in_range:
        centered = (vectors, codebook) if medians is None else (vectors - medians, codebook - medians)
        result, largest = search_within_range(*centered, kernels, (vectors, codebook) if look_up else None)
        require_finite("vectors", largest)
        if largest < LARGEST:
            return result
    return search_within_range(*conditioned(vectors, codebook), kernels)[0]


def search_within_range(
    vectors: Tensor,
    codebook: Tensor,
    kernels: str,
    originals: tuple[Tensor, Tensor] | None = None,
    method: str = "automatic",
) -> tuple[SearchResult, float]:
    """Search without any check of the values beforehand.

    Method, threads, the split into batches and the position of a code in the codebook do not change the
    result.

    Args:
        vectors: float32 [N, D] on the CPU.
        codebook: float32 [K, D] on the CPU; its squares must stay within float32.
        kernels: one of `KERNELS` that is not missing.
        originals: vectors and codebook before they were centered; if given, code vectors and error of these
            are returned, too.
        method: one of `METHODS`.

    Returns:
        The result, and the largest absolute value among the vectors. If that value is NaN, infinite, or so
        large that squares overflow float32, the indices are meaningless.

    Raises:
        FlatvqError: if there is not enough memory for a copy of the codebook.
    """
    vectors, codebook = vectors.contiguous(), codebook.contiguous()
    indices = torch.empty(len(vectors), dtype=torch.int64, device="cpu")
    arrays = _matrix(vectors), _matrix(codebook)
    arguments = _KERNELS[kernels], _METHODS[method], *arrays, torch.get_num_threads(), indices.data_ptr()
    try:
        if originals is None:
            return SearchResult(indices), _native.search(*arguments)
        first, second = (array.contiguous() for array in originals)
        code_vectors, error = torch.empty_like(first), first.new_empty(())
        outputs = code_vectors.data_ptr(), error.data_ptr()
        largest = _native.search_and_look_up(*arguments, _matrix(first), _matrix(second), *outputs)
        return SearchResult(indices, code_vectors, error), largest
    except MemoryError:
        shape = list(codebook.shape)
        raise FlatvqError(
            f"not enough memory to search a codebook of shape {shape}", "free some memory"
        ) from None


def code_medians(codebook: Tensor, kernels: str) -> tuple[bool, Tensor | None]:
    """Check the codes before a search.

    Args:
        codebook: float32 [K, D] on the CPU.
        kernels: one of `KERNELS` that is not missing.

    Returns:
        Whether the codes can be searched without `conditioned`. And, if coordinates are far from zero
        compared with their spread, float32 [D]: the median of each such coordinate, and zero for the others.
    """
    codebook = codebook.contiguous()
    arguments = _KERNELS[kernels], _matrix(codebook), SMALLEST, LARGEST, OFFSET
    code_range = _native.code_range(*arguments, 0)
    if code_range != _native.CodeRange.OFFSET:
        return code_range == _native.CodeRange.AS_IS, None
    medians = codebook.new_empty(codebook.shape[1])
    _native.code_range(*arguments, medians.data_ptr())
    return True, medians


def add_to_sums(vectors: Tensor, indices: Tensor, sums: Tensor) -> None:
    """Add each vector to the sum of its code, in the order of the vectors.

    Args:
        vectors: float32 [N, D] on the CPU.
        indices: int64 [N], each in [0, K).
        sums: float32 [K, D], contiguous; changed in place.
    """
    vectors, indices = vectors.contiguous(), indices.contiguous()
    _native.add_to_sums(_matrix(vectors), indices.data_ptr(), torch.get_num_threads(), sums.data_ptr())


def _matrix(tensor: Tensor) -> _native.Matrix:
    rows, columns = tensor.shape
    if tensor.dtype != torch.float32 or not tensor.is_cpu or not tensor.is_contiguous():
        raise TypeError(f"not a contiguous float32 tensor on the CPU: {tensor.dtype} on {tensor.device}")
    address = tensor.data_ptr()
    if not address and tensor.numel():
        what = f"the memory of a tensor of shape {[rows, columns]} was freed"
        raise FlatvqError(what, "gather the parameters of the module first, if they are sharded")
    return _native.Matrix(address, rows, columns)
