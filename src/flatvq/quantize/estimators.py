"""Gradient estimators of the lookup, which is not differentiable.

Both functions return the code vectors. They differ in the backward pass.

Axes: N vectors, D code dim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import forward_ad

from flatvq.deprecation import renamed_arguments
from flatvq.errors import FlatvqError
from flatvq.quantize.autograd import Function

__all__ = [
    "Estimator",
    "in_forward_mode",
    "is_tracing",
    "needs_gradient",
    "require_estimator",
    "rotation_trick",
    "straight_through",
]

Estimator = Callable[[Tensor, Tensor], Tensor]

# Smallest norm of vectors, and of the sum of their directions, for which a rotation is computed in float32.
_TINY = 1e-6


@renamed_arguments(codes="code_vectors")
def straight_through(
    vectors: Float[Tensor, "*n d"], code_vectors: Float[Tensor, "*n d"]
) -> Float[Tensor, "*n d"]:
    """Copy the gradient of the code vectors to the vectors (van den Oord et al. 2017, section 3.2).

    Args:
        vectors: encoder outputs [*N, D].
        code_vectors: the code vector of each [*N, D].

    Returns:
        The code vectors. The gradient reaches `vectors` unchanged, and does not reach `code_vectors`.

    Example:
        >>> z = torch.tensor([[1.0, 2.0]], requires_grad=True)
        >>> straight_through(z, torch.tensor([[3.0, 4.0]])).sum().backward()
        >>> z.grad.tolist()
        [[1.0, 1.0]]
    """
    _require_pairs(vectors, code_vectors)
    if in_forward_mode():
        return code_vectors.detach() + _zero(vectors)
    if not needs_gradient(vectors):
        return code_vectors
    result: Tensor = _StraightThrough.apply(vectors, code_vectors)  # type: ignore[no-untyped-call]
    return result


@renamed_arguments(codes="code_vectors")
def rotation_trick(
    vectors: Float[Tensor, "*n d"], code_vectors: Float[Tensor, "*n d"]
) -> Float[Tensor, "*n d"]:
    """Propagate the gradient through the rotation and scaling that map a vector to its code vector.

    Fifty et al. 2025, "Restructuring Vector Quantization with the Rotation Trick", section 4: with
    u = z/|z|, v = e/|e| and w = (u + v)/|u + v|, the code vector is (|e|/|z|) (I - 2 w w^T + 2 v u^T) z. The
    factor and the matrix are treated as constants. Vectors close to zero, or opposite to their code vector,
    have no such rotation and get the straight-through gradient.

    Args:
        vectors: encoder outputs z [*N, D].
        code_vectors: the code vector e of each [*N, D].

    Returns:
        The code vectors. The gradient reaches `vectors` rotated and scaled, and does not reach
        `code_vectors`.

    Example:
        >>> z = torch.tensor([[2.0, 0.0]], requires_grad=True)
        >>> rotation_trick(z, torch.tensor([[0.0, 1.0]]))[0, 1].backward()
        >>> z.grad.round(decimals=6)
        tensor([[0.5000, 0.0000]])
    """
    _require_pairs(vectors, code_vectors)
    if in_forward_mode():
        return code_vectors.detach() + _Rotation(vectors, code_vectors).of(_zero(vectors))
    if not needs_gradient(vectors):
        return code_vectors
    result: Tensor = _RotationTrick.apply(vectors, code_vectors)  # type: ignore[no-untyped-call]
    return result


def needs_gradient(vectors: Tensor) -> bool:
    """Return whether a backward pass may follow. A program of `torch.jit.trace` has none.

    Example:
        >>> needs_gradient(torch.zeros(1)), needs_gradient(torch.zeros(1, requires_grad=True))
        (False, True)
    """
    return vectors.requires_grad and not is_tracing()


def in_forward_mode() -> bool:
    """Return whether forward-mode derivatives are computed, as in `torch.func.jvp`, `jacfwd` and `hessian`.

    Then functions of this package use plain operators, which have derivatives in both modes.

    Example:
        >>> with forward_ad.dual_level():
        ...     in_forward_mode()
        True
        >>> in_forward_mode()
        False
    """
    return forward_ad._current_level >= 0


def require_estimator(estimator: object) -> None:
    """Check that a setting is a function.

    Raises:
        FlatvqError: if it is not.

    Example:
        >>> require_estimator("rotation")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: estimator is 'rotation': pass a function such as straight_through or \
rotation_trick
    """
    if not callable(estimator):
        remedy = "pass a function such as straight_through or rotation_trick"
        raise FlatvqError(f"estimator is {estimator!r}", remedy)


def _zero(vectors: Tensor) -> Tensor:
    """Return zeros with the derivatives of finite vectors, in both modes."""
    return vectors - vectors.detach()


def is_tracing() -> bool:
    """Return whether `torch.jit.trace` runs, under which sizes are tensors.

    Example:
        >>> is_tracing()
        False
    """
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def _require_pairs(vectors: Tensor, code_vectors: Tensor) -> None:
    if not is_tracing() and vectors.shape != code_vectors.shape:  # sizes are tensors while tracing
        shapes = (
            f"vectors of shape {list(vectors.shape)} and code_vectors of shape {list(code_vectors.shape)}"
        )
        raise FlatvqError(f"{shapes} are not pairs", "pass one code vector for each vector, both [*N, D]")


class _StraightThrough(Function):
    """Return the code vectors exactly. The usual z + (e - z) rounds, which changes small codes."""

    @staticmethod
    def forward(vectors: Tensor, code_vectors: Tensor) -> Tensor:
        return code_vectors.view_as(code_vectors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


class _RotationTrick(Function):
    """Return the code vectors. All arithmetic is in the backward pass."""

    @staticmethod
    def forward(vectors: Tensor, code_vectors: Tensor) -> Tensor:
        return code_vectors.view_as(code_vectors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Rotation(*ctx.saved_tensors).transposed(gradient), None


class _Rotation:
    """The matrix (|e|/|z|) (I - 2 w w^T + 2 v u^T) of each pair; the identity where it is not defined.

    Args:
        vectors: z [*N, D].
        code_vectors: e [*N, D].
    """

    def __init__(self, vectors: Tensor, code_vectors: Tensor) -> None:
        z, e = vectors.detach(), code_vectors.detach()  # constants, also for second derivatives
        length, target = z.norm(dim=-1, keepdim=True), e.norm(dim=-1, keepdim=True)
        self._u, self._v = z / length.clamp_min(_TINY), e / target.clamp_min(_TINY)
        total = self._u + self._v
        norm = total.norm(dim=-1, keepdim=True)
        self._w = total / norm.clamp_min(_TINY)
        self._scale = target / length.clamp_min(_TINY)
        self._is_defined = (length > _TINY) & (target > _TINY) & (norm > _TINY)

    def of(self, vectors: Tensor) -> Tensor:
        """Multiply vectors [*N, D] by the matrices."""
        return self._applied(vectors, self._u, self._v)

    def transposed(self, vectors: Tensor) -> Tensor:
        """Multiply vectors [*N, D] by the transposed matrices."""
        return self._applied(vectors, self._v, self._u)

    def _applied(self, x: Tensor, one: Tensor, other: Tensor) -> Tensor:
        along_w = (x * self._w).sum(dim=-1, keepdim=True)
        along_one = (x * one).sum(dim=-1, keepdim=True)
        rotated = self._scale * (x - 2 * along_w * self._w + 2 * along_one * other)
        return torch.where(self._is_defined, rotated, x)
