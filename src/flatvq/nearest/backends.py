"""The table of search backends, and the rule that chooses one.

Every backend takes vectors float32 [N, D] with N >= 1, a codebook float32 [K, D] on the same device, and a
flag that asks for code vectors and error. It refuses values that are not finite. For all other values, it is
exact in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from flatvq.errors import FlatvqError, suggestion
from flatvq.nearest import availability, compiled, flat_faiss, products
from flatvq.nearest.conditioning import conditioned
from flatvq.nearest.result import SearchResult

__all__ = ["BACKENDS", "Backend", "SearchResult", "backend_for", "require_backend", "status"]


@dataclass(frozen=True)
class Backend:
    """One implementation of the search."""

    search: Callable[[Tensor, Tensor, bool], SearchResult]
    """Called with vectors, codebook, and a flag: whether to return code vectors and error if that costs
    little."""
    missing: Callable[[torch.device], str]
    """Why the backend cannot run on a device, or an empty string if it can."""


def _triton_search(vectors: Tensor, codebook: Tensor, look_up: bool) -> SearchResult:
    from flatvq.nearest import triton_search

    return SearchResult(triton_search.search(*conditioned(vectors, codebook, triton_search.value_range)))


def _after_conditioning(
    search: Callable[[Tensor, Tensor], Tensor],
) -> Callable[[Tensor, Tensor, bool], SearchResult]:
    return lambda vectors, codebook, look_up: SearchResult(search(*conditioned(vectors, codebook)))


def _not_on_cpu(device: torch.device) -> str:
    return "" if device.type == "cpu" else "it runs on the CPU only"


def _compiled(kernels: str) -> Backend:
    return Backend(
        partial(compiled.search, kernels=kernels),
        lambda device: _not_on_cpu(device) or compiled.missing(kernels),
    )


def _convolution_missing(device: torch.device) -> str:
    return _not_on_cpu(device) or products.convolution_missing()


BACKENDS = {
    **{kernels: _compiled(kernels) for kernels in compiled.KERNELS},
    "faiss": Backend(_after_conditioning(flat_faiss.search), _not_on_cpu),
    "convolution": Backend(_after_conditioning(products.search_by_convolutions), _convolution_missing),
    "triton": Backend(_triton_search, availability.triton_missing),
    "product": Backend(_after_conditioning(products.search_by_products), lambda device: ""),
}
"""The backends by name: the compiled search for three instruction sets, FAISS, oneDNN's convolution, a Triton
kernel, and plain matrix products."""


def backend_for(device: torch.device, dim: int) -> str:
    """Choose the fastest backend for a device and a code dim D.

    On the CPU, that is the compiled search. Without it, FAISS searches short vectors and oneDNN long ones. On
    other devices, it is Triton, or matrix products without Triton.

    Example:
        >>> backend_for(torch.device("meta"), 8)
        'product'
    """
    compiled_code = () if availability.switched_off() else _COMPILED.get(device.type, ())
    for name in compiled_code:
        if not BACKENDS[name].missing(device):
            return name
    if device.type != "cpu":
        return "product"
    if availability.BUILD_ERROR and not availability.switched_off():
        availability.warn_of_missing_build()
    # FAISS fuses product and minimum for short vectors only.
    long = dim > flat_faiss.FUSED_DIM
    return "convolution" if long and not BACKENDS["convolution"].missing(device) else "faiss"


_COMPILED = {"cpu": compiled.KERNELS, "cuda": ("triton",)}


def require_backend(name: str, device: torch.device) -> None:
    """Refuse a backend that does not exist or cannot run on a device.

    Raises:
        FlatvqError: if it does not exist or cannot run.
    """
    if name not in BACKENDS:
        raise FlatvqError(f"there is no search backend {name!r}", suggestion(name, BACKENDS))
    if reason := BACKENDS[name].missing(device):
        able = [other for other, backend in BACKENDS.items() if not backend.missing(device)]
        raise FlatvqError(
            f"search backend {name!r} cannot run here: {reason}", f"use one of {', '.join(able)}"
        )


def status(device: torch.device | str = "cpu") -> str:
    """Describe in one line which backend is used on a device and, if it is not the fastest, the reason.

    Example:
        >>> status("meta")
        'matrix products'
    """
    device = torch.device(device)
    if device.type not in _COMPILED:
        return "matrix products"
    fallback = "FAISS and oneDNN" if device.type == "cpu" else "matrix products"
    if availability.switched_off():
        return f"{fallback}, because FLATVQ_NATIVE=0 is set"
    reasons = {name: BACKENDS[name].missing(device) for name in _COMPILED[device.type]}
    for name, reason in reasons.items():
        if not reason:
            return f"flatvq's, {name}"
    return f"{fallback}, because {reasons.popitem()[1]}"
