"""What a GPU does in one go where PyTorch would launch many kernels: the search, and the sums of each code.

The kernels are written for Triton, which comes with PyTorch's builds for GPUs. Where it is not there,
PyTorch's own operations do the same work. Import `search` and `sums` only where `available` says yes.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec

import torch

__all__ = ["available"]

# The oldest GPUs that Triton compiles for.
_CAPABILITY = (7, 0)


def available(device: torch.device) -> bool:
    """Tell whether the kernels can run on a device; `FLATVQ_NATIVE=0` in the environment turns them off.

    Example:
        >>> available(torch.device("cpu"))
        False
    """
    return device.type == "cuda" and os.environ.get("FLATVQ_NATIVE") != "0" and _able(device)


@lru_cache
def _able(device: torch.device) -> bool:
    return find_spec("triton") is not None and torch.cuda.get_device_capability(device) >= _CAPABILITY
