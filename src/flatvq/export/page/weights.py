"""The stored form of an arm: two ONNX graphs, and the weights of both once, in float16 where that is finite.

The page converts the weights back to float32, so that all computations are in float32.
"""

from __future__ import annotations

import copy
import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from flatvq.tokenizers import VQVAETokenizer

__all__ = ["FILE", "StoredArm", "rounded", "stored_arm"]

FILE = "weights"
"""The name under which the graphs refer to the weights."""
# Smaller tensors stay inside the graph. Offsets are multiples of this many values.
_LEAST, _ALIGNED = 64, 64


def rounded(model: VQVAETokenizer) -> VQVAETokenizer:
    """Return a copy of a tokenizer whose weights and code vectors are those that the page computes with.

    Values are rounded to float16, as by `save_pretrained(dtype="float16")`. A value that is too large for
    float16 is kept.
    """
    result = copy.deepcopy(model)
    with torch.no_grad():
        for tensor in (*result.parameters(), *result.buffers()):
            if tensor.dtype == torch.float32:
                half = tensor.half().float()
                tensor.copy_(torch.where(half.isfinite(), half, tensor))
    return result


@dataclass(frozen=True)
class StoredArm:
    """An arm in the page."""

    content: bytes
    """gzip of the encoder, the decoder and the weights."""
    sizes: tuple[int, int]
    """Bytes of the encoder and of the decoder."""
    tensors: tuple[tuple[str, int, int], ...]
    """The type of each tensor, `float16` or `float32`, its number of values, and its offset in the weights of
    float32, counted in values."""

    def unpacked(self) -> tuple[bytes, bytes, bytes]:
        """Return encoder, decoder and the weights in float32, little-endian, as the page computes them."""
        content = gzip.decompress(self.content)
        first, second = self.sizes
        start = first + second
        end = max((offset + count for _, count, offset in self.tensors), default=0)
        weights = np.zeros(end, "<f4")
        for kind, count, offset in self.tensors:
            dtype = np.dtype(kind).newbyteorder("<")
            weights[offset : offset + count] = np.frombuffer(content, dtype, count, start)
            start += count * dtype.itemsize
        return content[:first], content[first : first + second], weights.tobytes()


def stored_arm(encoder: Any, decoder: Any) -> StoredArm:
    """Move the weights out of two ONNX models, which are changed, and store each tensor once.

    Args:
        encoder: the ONNX model of the encoder.
        decoder: the ONNX model of the decoder.
    """
    offsets: dict[bytes, int] = {}
    tensors: list[tuple[str, int, int]] = []
    parts: list[bytes] = []
    offset = 0
    for tensor, values in _large_tensors((encoder, decoder)):
        key = values.tobytes()
        if key not in offsets:
            offsets[key] = offset
            half = values.astype("<f2")
            kind = "float16" if np.array_equal(half.astype("<f4"), values) else "float32"
            parts.append(half.tobytes() if kind == "float16" else key)
            tensors.append((kind, values.size, offset))
            offset += -(-values.size // _ALIGNED) * _ALIGNED
        _refer(tensor, 4 * offsets[key], len(key))
    graphs = [model.SerializeToString() for model in (encoder, decoder)]
    content = gzip.compress(b"".join([*graphs, *parts]), compresslevel=9, mtime=0)
    return StoredArm(content, (len(graphs[0]), len(graphs[1])), tuple(tensors))


def _large_tensors(models: Iterable[Any]) -> Iterable[tuple[Any, np.ndarray[Any, Any]]]:
    """Yield the float32 tensors of the models with their values, flat and little-endian."""
    from onnx import TensorProto, numpy_helper

    for model in models:
        for tensor in model.graph.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                values = numpy_helper.to_array(tensor).astype("<f4").reshape(-1)
                if values.size >= _LEAST:
                    yield tensor, values


def _refer(tensor: Any, offset: int, length: int) -> None:
    """Replace the values of a tensor by a reference to the weights."""
    from onnx import TensorProto

    for field in ("raw_data", "float_data"):
        tensor.ClearField(field)
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": FILE, "offset": offset, "length": length}.items():
        tensor.external_data.add(key=key, value=str(value))
