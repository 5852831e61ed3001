"""Checks of settings and tensor values, with errors that name the value and what to pass instead."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from types import UnionType

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor

from flatvq.errors import FlatvqError, NonFiniteError
from flatvq.shapes import require_axes, require_integers

__all__ = [
    "has_values",
    "instance_of",
    "plain",
    "real_number",
    "require_finite",
    "require_indices",
    "require_mask",
    "whole_number",
]

# Largest int64, the dtype of indices.
_MAX = 2**63 - 1


def whole_number(name: str, value: object, least: int, most: int = _MAX) -> int:
    """Check a setting that is a whole number.

    Args:
        name: name of the setting in error messages.
        value: the value. NumPy integers are accepted; bools and floats are not.
        least: the smallest valid value.
        most: the largest valid value.

    Returns:
        The value as an int.

    Raises:
        FlatvqError: if the value is not a whole number in this range.

    Example:
        >>> whole_number("every", 1.5, 1)
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: every is 1.5: pass a whole number of 1 or more
    """
    try:
        number = least - 1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if not least <= number <= most:
        limit = f"of {least} or more" if most == _MAX else f"from {least} to {most}"
        raise FlatvqError(f"{name} is {value!r}", f"pass a whole number {limit}")
    return number


def real_number(
    name: str, value: object, *, above: float = -math.inf, below: float = math.inf, closed: str = ""
) -> float:
    """Check a setting that is a finite number in a range.

    Args:
        name: name of the setting in error messages.
        value: the value.
        above: the lower bound.
        below: the upper bound.
        closed: the bounds that belong to the range: `[` for the lower, `]` for the upper, `[]` for both.

    Returns:
        The value as a float.

    Raises:
        FlatvqError: if the value is not a number in this range.

    Example:
        >>> real_number("share", 1, above=0.0, below=1.0, closed="]")
        1.0
        >>> real_number("decay", float("nan"), above=0.0, below=1.0)
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: decay is nan: pass a number in (0, 1)
    """
    try:
        number = math.nan if isinstance(value, bool | str) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    inside = above < number < below or (
        (number == above and "[" in closed) or (number == below and "]" in closed)
    )
    if not (math.isfinite(number) and inside):
        left, right = "[" if "[" in closed else "(", "]" if "]" in closed else ")"
        raise FlatvqError(f"{name} is {value!r}", f"pass a number in {left}{above:g}, {below:g}{right}")
    return number


def instance_of(
    name: str, value: object, types: type | tuple[type, ...] | UnionType, examples: Sequence[str]
) -> None:
    """Check the type of a setting that is an object.

    Args:
        name: name of the setting in error messages.
        value: the value.
        types: the types that it may have.
        examples: expressions that make such an object.

    Raises:
        FlatvqError: if the value has another type, for example if it is the class in place of an object.

    Example:
        >>> instance_of("update", "ema", float, ["Ema()", "Gradient()"])
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: update is 'ema': pass an object such as Ema() or Gradient()
    """
    if not isinstance(value, types):
        given = f"the class {value.__name__}" if isinstance(value, type) else repr(value)
        raise FlatvqError(f"{name} is {given}", f"pass an object such as {' or '.join(examples)}")


def plain(tensor: Tensor) -> Tensor:
    """Return a tensor without its subclass, if the subclass only changes functions of Python.

    Such subclasses (MONAI's `MetaTensor`, torchvision's `tv_tensors`) have ordinary values. Subclasses that
    implement the operators themselves, such as distributed or fake tensors, are returned unchanged.

    Example:
        >>> class Image(Tensor):
        ...     pass
        >>> type(plain(torch.zeros(2).as_subclass(Image))) is Tensor
        True
    """
    if type(tensor) in (Tensor, torch.nn.Parameter) or _has_operators(type(tensor)):
        return tensor
    return tensor.as_subclass(Tensor)


def _has_operators(kind: type) -> bool:
    """Return whether a class of tensors implements the operators itself."""
    return kind.__torch_dispatch__ is not Tensor.__torch_dispatch__  # type: ignore[attr-defined]


def has_values(tensor: Tensor) -> bool:
    """Return whether the values of a tensor can be read.

    They cannot on the meta device, while a graph is traced or captured, or inside `torch.func`.

    Example:
        >>> has_values(torch.zeros(2)), has_values(torch.zeros(2, device="meta"))
        (True, False)
    """
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        or tensor.is_meta
        or _has_operators(type(tensor))
        or is_functorch_wrapped_tensor(tensor)
        or (tensor.is_cuda and torch.cuda.is_current_stream_capturing())
    )


def require_finite(tensor: Tensor, name: str) -> None:
    """Check that all values are finite, if they can be read.

    Raises:
        NonFiniteError: if a value is NaN or infinite.

    Example:
        >>> require_finite(torch.tensor([float("inf")]), "latents")
        Traceback (most recent call last):
        flatvq.errors.NonFiniteError: NaN or infinity in the latents: check for an encoder that diverged
    """
    # A finite sum means finite values. The sum of finite values may overflow, so the values are checked too.
    if has_values(tensor) and not tensor.sum().isfinite() and not tensor.isfinite().all():
        raise NonFiniteError(f"NaN or infinity in the {name}", "check for an encoder that diverged")


def require_indices(indices: Tensor, codebook_size: int, mask: Tensor | None = None) -> None:
    """Check that a tensor holds indices into a codebook. Values are checked if they can be read.

    Args:
        indices: integers of any shape.
        codebook_size: K.
        mask: bool, True for the indices to check; all if None.

    Raises:
        FlatvqError: if the dtype is not an integer dtype, or an index is outside [0, K).

    Example:
        >>> require_indices(torch.tensor([0, 4, -1]), 4)
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: index 4 is outside a codebook of 4 codes: pass indices from 0 to 3
    """
    require_integers(indices, "indices")
    if not has_values(indices):
        return
    indices = indices.long()  # not all operators take unsigned integers
    valid = indices if mask is None else indices[mask]
    if valid.numel() == 0:
        return
    least, most = (int(value) for value in valid.aminmax())
    if least < 0 or most >= codebook_size:
        first = int(valid[(valid < 0) | (valid >= codebook_size)][0])
        remedy = f"pass indices from 0 to {codebook_size - 1}"
        if first < 0:
            remedy += ", and a mask where positions are padding"
        raise FlatvqError(f"index {first} is outside a codebook of {codebook_size} codes", remedy)


def require_mask(mask: Tensor, grid: torch.Size, device: torch.device) -> None:
    """Check the shape, dtype and device of a mask.

    Args:
        mask: bool [B, *grid].
        grid: the expected shape.
        device: the expected device.

    Raises:
        FlatvqError: if type, shape, dtype or device differ.

    Example:
        >>> require_mask(torch.ones(2, 3), torch.Size([2, 3]), torch.device("cpu"))
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: mask has dtype torch.float32, not bool: pass True where valid
    """
    require_axes(mask, "mask", *grid)
    if mask.dtype != torch.bool:
        raise FlatvqError(f"mask has dtype {mask.dtype}, not bool", "pass True where valid")
    if mask.device != device:
        raise FlatvqError(f"the mask is on {mask.device}, not on {device}", "move it with .to()")
