"""Reading safetensors files, and checking that they hold what a model needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from flatvq.errors import FlatvqError, NonFiniteError

__all__ = ["describe_exactly", "describe_kind", "require_alike", "require_finite", "tensors_of"]


def tensors_of(content: bytes, origin: str, remedy: str) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file.

    Args:
        content: the file's bytes.
        origin: what to call the file in an error.
        remedy: what to do about a file that is damaged.

    Raises:
        FlatvqError: if it is damaged, or holds a dtype that torch does not have.
    """
    try:
        return safetensors.load(content)
    except (SafetensorError, KeyError, ValueError, RuntimeError, AssertionError):
        raise FlatvqError(f"{origin} is damaged", remedy) from None


def require_alike(
    given: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    describe: Callable[[Tensor | None], str],
    origin: str,
    remedy: str,
) -> None:
    """Refuse tensors that do not have the names, shapes and dtypes of a model's; name the first.

    Args:
        given: what a file holds.
        expected: what the model has.
        describe: `describe_exactly`, or `describe_kind` if any number of bits will do.
        origin: what to call the file in an error.
        remedy: what to do about other tensors.

    Raises:
        FlatvqError: with the tensor's name and what it is on both sides.
    """
    for name in sorted(given.keys() | expected.keys()):
        has, needs = describe(given.get(name)), describe(expected.get(name))
        if has != needs:
            raise FlatvqError(f"{origin} has {has} for {name[:80]!r}, and the model {needs}", remedy)


def require_finite(tensors: Mapping[str, Tensor], origin: str, remedy: str) -> None:
    """Refuse tensors with NaN or infinity; name the first.

    Raises:
        NonFiniteError: with the tensor's name.
    """
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise NonFiniteError(f"{origin} holds NaN or infinity in {name!r}", remedy)


def describe_exactly(tensor: Tensor | None) -> str:
    """Say a tensor's dtype and shape.

    Example:
        >>> import torch
        >>> describe_exactly(torch.zeros(2, 3)), describe_exactly(None)
        ('float32 of shape [2, 3]', 'nothing')
    """
    if tensor is None:
        return "nothing"
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {list(tensor.shape)}"


def describe_kind(tensor: Tensor | None) -> str:
    """Say a tensor's shape and whether it holds fractions, of whatever number of bits.

    Example:
        >>> import torch
        >>> describe_kind(torch.zeros(2, 3, dtype=torch.float16))
        'numbers of shape [2, 3]'
    """
    if tensor is None or not tensor.is_floating_point():
        return describe_exactly(tensor)
    return f"numbers of shape {list(tensor.shape)}"
