"""Check the type, axes and dtype of tensor arguments, with errors that state what is expected.

The checks read the type, shape and dtype of a tensor and never its values. They are cheap in eager mode and
add nothing to a compiled or exported graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from flatvq.errors import FlatvqError

__all__ = ["Axis", "require_axes", "require_floating", "require_integers"]

Axis: TypeAlias = int | str
"""The size of an axis, or its name if any size is valid."""


def require_axes(tensor: object, name: str, *axes: Axis) -> None:
    """Raise unless the argument is a tensor with these axes.

    Args:
        tensor: the argument to check.
        name: what the tensor contains, as a plural noun such as `images`.
        axes: one entry per axis: an integer for an axis of exactly this size, a name for any size. The last
            entry may be `*grid`, which stands for any number of axes.

    Raises:
        FlatvqError: if the argument is not a tensor, or its shape does not match.

    Example:
        >>> require_axes(torch.zeros(2, 3, 8, 8), "images", "B", 3, "H", "W")
        >>> require_axes(torch.zeros(2, 64), "latents", "B", 64, "*grid")
        >>> require_axes(torch.zeros(3, 8, 8), "images", "B", 3, "H", "W")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: images of shape [3, 8, 8] have 3 axes, not [B, 3, H, W]: add a batch \
axis, images[None]
    """
    if not isinstance(tensor, Tensor):
        kind = f"{type(tensor).__module__}.{type(tensor).__qualname__}".removeprefix("builtins.")
        raise FlatvqError(f"{name} of type {kind} are not a tensor", f"pass a tensor {_formatted(axes)}")
    # Under `torch.jit.trace`, sizes are tensors, and comparing them causes a warning.
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if not (tracing or _matches(tensor.shape, axes)):
        raise _shape_error(tensor.shape, name, axes)


def require_floating(tensor: Tensor, name: str, remedy: str = "convert them with .float()") -> None:
    """Raise unless the dtype is floating-point.

    Args:
        tensor: the argument to check.
        name: what the tensor contains, as a plural noun.
        remedy: how to convert it.

    Raises:
        FlatvqError: if the dtype is integer, boolean or complex.

    Example:
        >>> require_floating(torch.zeros(1, dtype=torch.uint8), "images", "divide them by 255")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: images of dtype uint8 are not floating-point: divide them by 255
    """
    if not tensor.dtype.is_floating_point:
        raise FlatvqError(f"{name} of dtype {_dtype_name(tensor)} are not floating-point", remedy)


def require_integers(tensor: Tensor, name: str) -> None:
    """Raise unless the dtype is an integer type.

    Args:
        tensor: the argument to check.
        name: what the tensor contains, as a plural noun.

    Raises:
        FlatvqError: if the dtype is floating-point, complex or boolean.

    Example:
        >>> require_integers(torch.zeros(1), "indices")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: indices of dtype float32 are not integers: pass them as int64
    """
    dtype = tensor.dtype
    if dtype.is_floating_point or dtype.is_complex or dtype == torch.bool:
        raise FlatvqError(f"{name} of dtype {_dtype_name(tensor)} are not integers", "pass them as int64")


def _matches(shape: Sequence[int], axes: Sequence[Axis]) -> bool:
    fixed = axes[:-1] if axes[-1:] == ("*grid",) else axes
    if len(shape) < len(fixed) or (len(shape) > len(fixed) and fixed is axes):
        return False
    # An explicit loop: a generator expression would take most of the time of the check.
    for axis, size in zip(fixed, shape, strict=False):  # noqa: SIM110
        if isinstance(axis, int) and axis != size:
            return False
    return True


def _shape_error(shape: Sequence[int], name: str, axes: Sequence[Axis]) -> FlatvqError:
    expected, count = _formatted(axes), len(shape)
    what, remedy = f"{name} of shape {list(shape)}", f"pass {expected}"
    sizes = [(n, axis) for n, axis in enumerate(axes) if isinstance(axis, int)]
    if _matches([1, *shape], axes):
        remedy = f"add a batch axis, {name}[None]"
    elif count > 2 and _matches([shape[0], shape[-1], *shape[1:-1]], axes):
        remedy = f"put the channels first, {name}.movedim(-1, 1)"
    wrong_sizes = [f"size {shape[n]} in axis {n}" for n, axis in sizes if n < count and shape[n] != axis]
    mismatch = wrong_sizes[0] if wrong_sizes else ""
    if (count != len(axes) and "*grid" not in axes) or not mismatch:
        mismatch = f"{count} {'axis' if count == 1 else 'axes'}"
    return FlatvqError(f"{what} have {mismatch}, not {expected}", remedy)


def _formatted(axes: Sequence[Axis]) -> str:
    return f"[{', '.join(map(str, axes))}]"


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
