"""The nearest-code search in ONNX operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset20 as op

from flatvq.quantize.operator import look_up_operator

__all__ = ["translations"]


def _look_up(vectors: Any, codebook: Any) -> Any:
    """Search by the smallest |e|^2 / 2 - z e^T. Return indices, code vectors and the mean squared error."""
    axes: Any = op.Constant(value_ints=[1])
    squares = op.ReduceSum(op.Mul(codebook, codebook), axes, keepdims=0)
    halves = op.Mul(squares, op.Constant(value_float=0.5))
    scores = op.Sub(halves, op.MatMul(vectors, op.Transpose(codebook, perm=[1, 0])))
    indices = op.ArgMin(scores, axis=1, keepdims=0)
    code_vectors = op.Gather(codebook, indices, axis=0)
    difference = op.Sub(vectors, code_vectors)
    error = op.ReduceMean(op.Mul(difference, difference), keepdims=0)
    return indices, code_vectors, error


def translations() -> dict[Any, Callable[..., Any]]:
    """Return the translation of flatvq's operators, as `torch.onnx.export` reads it."""
    assert isinstance(look_up_operator, torch._ops.OpOverload)
    return {look_up_operator: _look_up}
