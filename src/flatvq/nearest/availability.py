"""Which optional parts can run: the compiled extension and Triton.

The environment variable `FLATVQ_NATIVE=0` switches both off.
"""

from __future__ import annotations

import os
import warnings
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec

import torch

__all__ = ["BUILD_ERROR", "switched_off", "triton_missing", "warn_of_missing_build"]

# After torch, which is imported above: then both share one OpenMP pool.
try:
    import_module("flatvq.nearest._native")
except ImportError as error:
    BUILD_ERROR = str(error)
    """Why the compiled extension could not be imported; empty if it was."""
else:
    BUILD_ERROR = ""

# The oldest GPUs that Triton compiles for.
_CAPABILITY = (7, 0)


def switched_off() -> bool:
    """Return whether the user has switched compiled code off."""
    return os.environ.get("FLATVQ_NATIVE") == "0"


def triton_missing(device: torch.device) -> str:
    """Return why Triton cannot run on a device, or an empty string if it can.

    Example:
        >>> triton_missing(torch.device("cpu"))
        'Triton needs a CUDA device'
    """
    return "Triton needs a CUDA device" if device.type != "cuda" else _triton_missing(device)


@lru_cache
def _triton_missing(device: torch.device) -> str:
    if not torch.cuda.is_available():
        return "there is no CUDA device"
    if find_spec("triton") is None:
        return "Triton is not installed"
    if torch.cuda.get_device_capability(device) < _CAPABILITY:
        return f"Triton needs compute capability {'.'.join(map(str, _CAPABILITY))}"
    return ""


@lru_cache(maxsize=1)
def warn_of_missing_build() -> None:
    """Warn once in a process that slower code replaces the compiled extension."""
    warnings.warn(
        f"flatvq's compiled search is not available ({BUILD_ERROR}), so slower code in FAISS and oneDNN "
        "searches: install a C++ compiler and then flatvq again, or set FLATVQ_NATIVE=0 to hide this warning",
        RuntimeWarning,
        stacklevel=2,
    )
