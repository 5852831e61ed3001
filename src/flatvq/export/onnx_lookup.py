"""The nearest-code search, and shifts of indices, in ONNX operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import opset20 as op

from flatvq.quantize.operator import look_up_operator

__all__ = ["translations"]


def _look_up(vectors: Any, codebook: Any) -> Any:
    """Search by the smallest |e|^2 / 2 - z e^T. Return indices, code vectors and the mean squared error.

    Both are taken relative to the mean of the codes. Otherwise, codes that lie close together and far from
    zero would differ by less than the rounding of |e|^2.
    """
    first: Any = op.Constant(value_ints=[0])
    last: Any = op.Constant(value_ints=[1])
    mean = op.ReduceMean(codebook, first, keepdims=1)
    codes, latents = op.Sub(codebook, mean), op.Sub(vectors, mean)
    halves = op.Mul(op.ReduceSum(op.Mul(codes, codes), last, keepdims=0), op.Constant(value_float=0.5))
    scores = op.Sub(halves, op.MatMul(latents, op.Transpose(codes, perm=[1, 0])))
    indices = op.ArgMin(scores, axis=1, keepdims=0)
    code_vectors = op.Gather(codebook, indices, axis=0)
    difference = op.Sub(vectors, code_vectors)
    error = op.ReduceMean(op.Mul(difference, difference), keepdims=0)
    return indices, code_vectors, error


def _shift_left(numbers: Any, places: Any) -> Any:
    """Return numbers times 2^places, int64. ONNX can shift unsigned numbers only."""
    two: Any = op.Constant(value_int=2)
    return op.Mul(numbers, op.Pow(two, places))


def _shift_right(numbers: Any, places: Any) -> Any:
    """Return numbers divided by 2^places and rounded down, int64, for numbers that are not negative."""
    two: Any = op.Constant(value_int=2)
    return op.Div(numbers, op.Pow(two, places))


def translations() -> dict[Any, Callable[..., Any]]:
    """Return the translation of flatvq's operators, and of others, as `torch.onnx.export` reads it."""
    assert isinstance(look_up_operator, torch._ops.OpOverload)
    return {
        look_up_operator: _look_up,
        torch.ops.aten.__lshift__.Tensor: _shift_left,
        torch.ops.aten.__rshift__.Tensor: _shift_right,
    }
