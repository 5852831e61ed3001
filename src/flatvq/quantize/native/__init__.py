"""What is compiled: the search, a product that keeps only each vector's largest score; and sums of vectors.

Where the processor can, the search screens codes in integers first, which changes no bit of what is found.
It is built when flatvq is installed, where there is a C++ compiler (GCC); without it, FAISS and
oneDNN search in its place. Axes: N vectors, K codes, D code dim.
"""

from __future__ import annotations

import ctypes
import os
import sysconfig
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from flatvq.errors import FlatvqError

__all__ = ["add_native", "instructions", "search_native", "variants"]

_LIBRARY = Path(__file__).parent / f"_nearest{sysconfig.get_config_var('EXT_SUFFIX')}"


def search_native(vectors: Tensor, codebook: Tensor, variant: str = "") -> Tensor:
    """Find the nearest code of each vector; of equally near ones, the first.

    Threads, the split into batches and the place of a code among others change no bit of what is computed.

    Args:
        vectors: float32 [N, D], on the CPU.
        codebook: float32 [K, D].
        variant: one of `variants()`; the fastest for these shapes if not given.

    Returns:
        int64 [N].

    Raises:
        FlatvqError: if there is no memory left for a copy of the codebook.

    Example:
        >>> if instructions():
        ...     search_native(torch.tensor([[0.2], [0.9]]), torch.tensor([[0.0], [1.0], [1.0]]))
        tensor([0, 1])
    """
    library = _loaded()
    assert library is not None, "ask instructions() first"
    vectors, codebook = vectors.contiguous(), codebook.contiguous()
    count, dim = vectors.shape
    nearest = torch.empty(count, dtype=torch.int64)
    number = _names().index(variant) if variant else -1
    threads = torch.get_num_threads()
    arrays = vectors.data_ptr(), count, dim, codebook.data_ptr(), len(codebook)
    if library.flatvq_nearest(number, *arrays, threads, nearest.data_ptr()):
        raise FlatvqError(f"no memory to search a codebook of shape {list(codebook.shape)}", "free some")
    return nearest


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


def instructions() -> str:
    """Name what the compiled search has the processor do, or return nothing if it is not there.

    `FLATVQ_NATIVE=0` in the environment turns it off.
    """
    library = None if os.environ.get("FLATVQ_NATIVE") == "0" else _loaded()
    fastest = -1 if library is None else library.flatvq_fastest()
    return _names()[fastest].partition(", ")[0] if fastest >= 0 else ""


def variants() -> list[str]:
    """List the variants that this processor can run, the fastest first."""
    library = _loaded()
    fastest = -1 if library is None else library.flatvq_fastest()
    return _names()[fastest:] if fastest >= 0 else []


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
    array, number = ctypes.c_void_p, ctypes.c_int64
    library.flatvq_nearest.argtypes = [
        *(ctypes.c_int, array, number, number, array, number),
        *(ctypes.c_int, array),
    ]
    library.flatvq_sums.argtypes = [array, number, number, array, ctypes.c_int, array]
    library.flatvq_sums.restype = None
    return library
