"""What is compiled: the search, a product that keeps only each vector's largest score; and sums of vectors.

Where the processor can, the search passes over codes that a k-d tree tells are too far, or screens all of
them in integers of 8 or 16 bits or bfloat16 first, whichever pays; none changes a bit of what is found. It
is built when flatvq is installed, where there is a C++ compiler (GCC); without it, FAISS and oneDNN search in
its place.
Axes: N vectors, K codes, D code dim.
"""

from __future__ import annotations

import ctypes
import os
import sysconfig
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from flatvq.errors import FlatvqError

__all__ = [
    "Found",
    "add_native",
    "instructions",
    "kept_bytes",
    "look_native",
    "search_native",
    "variants",
]

_LIBRARY = Path(__file__).parent / f"_nearest{sysconfig.get_config_var('EXT_SUFFIX')}"


class Found(NamedTuple):
    """What the search found."""

    indices: Tensor
    """The nearest code of each vector; of equally near ones, the first: int64 [N]."""
    largest: float
    """The largest absolute value among the vectors. If that is NaN or infinite, or so large or small that
    squares leave float32, the indices are in [0, K) but mean nothing."""
    codes: Tensor | None
    """The codes themselves, float32 [N, D], if they were asked for."""
    error: Tensor | None
    """The mean of (z - e)^2 over all elements, a scalar, if codes were asked for; NaN without vectors."""
    variant: str
    """The one of `variants()` that searched."""


def search_native(
    vectors: Tensor,
    codebook: Tensor,
    variant: str = "",
    look_up: tuple[Tensor, Tensor] | None = None,
) -> Found:
    """Find the nearest code of each vector, in one pass over the vectors.

    Threads, the split into batches and the place of a code among others change no bit of what is computed.
    From the second search on, what is made of a codebook on the way is kept for the next one (`kept_bytes`),
    which takes it if the codes are the same, bit by bit.

    Args:
        vectors: float32 [N, D], on the CPU.
        codebook: float32 [K, D], K and D >= 1.
        variant: one of `variants()`; the fastest for these shapes if not given.
        look_up: the same vectors and codes, before they were moved for the search; if given, also return the
            codes that were found, and the error.

    Raises:
        FlatvqError: if there is no memory left for a copy of the codebook.

    Example:
        >>> if instructions():
        ...     found = search_native(torch.tensor([[0.25], [0.75]]), torch.tensor([[0.0], [1.0], [1.0]]))
        ...     found.indices.tolist(), found.largest
        ([0, 1], 0.75)
    """
    library = _loaded()
    assert library is not None, "ask instructions() first"
    vectors, codebook = vectors.contiguous(), codebook.contiguous()
    given = [array.contiguous() for array in look_up or ()]
    count, dim = vectors.shape
    nearest = torch.empty(count, dtype=torch.int64, device="cpu")
    found = [torch.empty_like(vectors), vectors.new_empty(())] if given else []
    number = _names().index(variant) if variant else -1
    largest = ctypes.c_float()
    arrays = vectors.data_ptr(), count, dim, codebook.data_ptr(), len(codebook)
    places = nearest.data_ptr(), ctypes.byref(largest)
    more: list[int | None] = [array.data_ptr() for array in (*given, *found)] or [None] * 4
    threads = torch.get_num_threads()
    number = library.flatvq_nearest(number, *arrays, threads, *places, *more)
    if number < 0:
        raise FlatvqError(f"no memory to search a codebook of shape {list(codebook.shape)}", "free some")
    codes, error = found or (None, None)
    return Found(nearest, largest.value, codes, error, _names()[number])


def add_native(vectors: Tensor, indices: Tensor, sums: Tensor) -> None:
    """Add each vector to the sum of its code, in the order of the vectors: the bits of a plain loop.

    Args:
        vectors: float32 [N, D], on the CPU.
        indices: int64 [N], each in [0, K).
        sums: float32 [K, D], contiguous; changed in place.
    """
    library = _loaded()
    assert library is not None, "ask instructions() first"
    vectors, indices = vectors.contiguous(), indices.contiguous()
    arrays = vectors.data_ptr(), *vectors.shape, indices.data_ptr()
    library.flatvq_sums(*arrays, torch.get_num_threads(), sums.data_ptr())


def kept_bytes() -> int:
    """Return how much memory holds what searches made of codebooks: of the last 16, at most 64 MiB.

    Example:
        >>> vectors, codes = torch.rand(2, 200, 4)
        >>> if instructions():
        ...     first, second = search_native(vectors, codes), search_native(vectors, codes)
        ...     0 < kept_bytes() <= 64 * 2**20
        True
    """
    library = _loaded()
    return library.flatvq_kept() if library else 0


def look_native(codebook: Tensor, least: float, most: float, offset: float) -> tuple[bool, Tensor | None]:
    """Look at codes before they are searched.

    Args:
        codebook: float32 [K, D], on the CPU.
        least: the largest absolute value has to be above it.
        most: and below it.
        offset: standard deviations from zero above which a coordinate's mean is far.

    Returns:
        Whether all is clear: sizes, and what coordinates are far, by a margin for rounding. And, if some are,
        float32 [D]: the median of each of these, zero for the others.

    Example:
        >>> codes = torch.tensor([[1.0, 3.0], [-1.0, 4.0]])
        >>> if instructions():
        ...     [look_native(codes, 1e-3, 1e3, offset) for offset in (6.0, 7.0, 8.0)]  # 3.5 is 7 times 0.5
        [(True, tensor([0., 3.])), (False, None), (True, None)]
    """
    library = _loaded()
    assert library is not None, "ask instructions() first"
    codebook = codebook.contiguous()
    asked = codebook.data_ptr(), *codebook.shape, least, most, offset
    clear = library.flatvq_look(*asked, None)
    if clear < 2:
        return clear > 0, None
    middle = codebook.new_empty(codebook.shape[1])
    library.flatvq_look(*asked, middle.data_ptr())
    return True, middle


@lru_cache(maxsize=1)
def instructions() -> str:
    """Name what the compiled search has the processor do, or return nothing if it is not there.

    `FLATVQ_NATIVE=0` in the environment turns it off, if it is there before the first search.
    """
    names = () if os.environ.get("FLATVQ_NATIVE") == "0" else variants()
    return names[0].partition(", ")[0] if names else ""


@lru_cache(maxsize=1)
def variants() -> tuple[str, ...]:
    """Name the variants that this processor can run, the fastest first."""
    library = _loaded()
    return tuple(name for number, name in enumerate(_names()) if library and library.flatvq_runs(number))


@lru_cache(maxsize=1)
def _names() -> list[str]:
    library = _loaded()
    names: list[str] = []
    while library is not None and (name := library.flatvq_variant(len(names))):
        names.append(name.decode())
    return names


@lru_cache(maxsize=1)
def _loaded() -> ctypes.CDLL | None:
    # After torch, which is imported above: then both share one OpenMP pool.
    try:
        library = ctypes.CDLL(str(_LIBRARY))
    except OSError:
        return None
    library.flatvq_variant.restype = ctypes.c_char_p
    array, number, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
    library.flatvq_nearest.argtypes = [
        *(ctypes.c_int, array, number, number, array, number),
        *(ctypes.c_int, array, array, array, array, array, array),
    ]
    library.flatvq_kept.restype = number
    library.flatvq_sums.argtypes = [array, number, number, array, ctypes.c_int, array]
    library.flatvq_sums.restype = None
    library.flatvq_look.argtypes = [array, number, number, real, real, real, array]
    return library
