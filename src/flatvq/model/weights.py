"""Reads safetensors files, and checks that their tensors fit a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from flatvq.errors import FlatvqError, NonFiniteError
from flatvq.quantize.codebook_state import CodebookState

__all__ = [
    "describe_exactly",
    "describe_kind",
    "inference_tensors",
    "require_alike",
    "require_finite",
    "tensors_of",
]


def inference_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a model that inference reads.

    Args:
        model: a model with any number of codebooks.

    Returns:
        Its state dict without the buffers of codebooks that only training reads, such as counts.

    Example:
        >>> from flatvq.quantize import VectorQuantizer
        >>> list(inference_tensors(VectorQuantizer(16, 4)))
        ['codebook.weight']
    """
    training = {
        f"{name}.{buffer}".lstrip(".")
        for name, module in model.named_modules()
        if isinstance(module, CodebookState)
        for buffer in module.TRAINING_BUFFERS
    }
    return {name: tensor for name, tensor in model.state_dict().items() if name not in training}


def tensors_of(content: bytes, origin: str, remedy: str) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file.

    Args:
        content: the bytes of the file.
        origin: the name of the file in error messages.
        remedy: what to do if the file is damaged.

    Raises:
        FlatvqError: if the file is damaged, or has a dtype that torch does not support.
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
    """Check that tensors have the names, shapes and dtypes of a model.

    Args:
        given: the tensors of a file.
        expected: the tensors of the model.
        describe: `describe_exactly`, or `describe_kind` to accept any precision.
        origin: the name of the file in error messages.
        remedy: what to do if the tensors differ.

    Raises:
        FlatvqError: if a tensor differs. The message names the first one and describes both sides.
    """
    for name in sorted(given.keys() | expected.keys()):
        actual, required = describe(given.get(name)), describe(expected.get(name))
        if actual != required:
            raise FlatvqError(f"{origin} has {actual} for {name[:80]!r}, and the model {required}", remedy)


def require_finite(tensors: Mapping[str, Tensor], origin: str, remedy: str) -> None:
    """Check that all values of tensors are finite.

    Raises:
        NonFiniteError: if a value is NaN or infinite. The message names the first such tensor.
    """
    for name, tensor in tensors.items():
        if not bool(tensor.isfinite().all()):
            raise NonFiniteError(f"{origin} holds NaN or infinity in {name!r}", remedy)


def describe_exactly(tensor: Tensor | None) -> str:
    """Describe the dtype and shape of a tensor.

    Example:
        >>> import torch
        >>> describe_exactly(torch.zeros(2, 3)), describe_exactly(None)
        ('float32 of shape [2, 3]', 'nothing')
    """
    if tensor is None:
        return "nothing"
    return f"{str(tensor.dtype).removeprefix('torch.')} of shape {list(tensor.shape)}"


def describe_kind(tensor: Tensor | None) -> str:
    """Describe the shape of a floating-point tensor without its precision; other tensors exactly.

    Example:
        >>> import torch
        >>> describe_kind(torch.zeros(2, 3, dtype=torch.float16))
        'numbers of shape [2, 3]'
    """
    if tensor is None or not tensor.is_floating_point():
        return describe_exactly(tensor)
    return f"numbers of shape {list(tensor.shape)}"
