"""The identity of a tokenizer: a hash of its configuration and of the tensors that inference reads.

The hashed bytes, which must never change, since stored codes name the result:

    configuration      JSON with sorted keys, `,` and `:` without spaces, ASCII; then a line feed
    for each tensor,   `NAME DTYPE SHAPE` in the same JSON as a list; a line feed; the little-endian
    sorted by name     elements in row-major order
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["identity_of"]


def identity_of(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Hash a configuration and tensors.

    Args:
        config: JSON values.
        tensors: tensors by name, on any device.

    Returns:
        64 hexadecimal digits of SHA-256.

    Example:
        >>> identity_of({}, {})[:16], identity_of({}, {"a": torch.zeros(2)})[:16]
        ('ca3d163bab055381', 'e581d3258c7efc3c')
    """
    content = hashlib.sha256(_canonical(config) + b"\n")
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        dtype = str(tensor.dtype).removeprefix("torch.")
        content.update(_canonical([name, dtype, list(tensor.shape)]) + b"\n")
        content.update(_little_endian(tensor))
    return content.hexdigest()


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _little_endian(tensor: Tensor) -> memoryview:
    content = tensor.reshape(-1).view(torch.uint8).numpy()
    if sys.byteorder == "big":
        content = content.reshape(-1, tensor.element_size())[:, ::-1].copy()
    return content.data
