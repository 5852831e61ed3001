"""The output of a model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from flatvq.quantize import Quantized

__all__ = ["VQVAEOutput"]


@dataclass(frozen=True)
class VQVAEOutput:
    """The output of a forward pass."""

    reconstruction: Float[Tensor, "batch channels height width"]
    """The images on the [0, 1] scale, in the dtype of the weights or of autocast. They are not clamped, since
    that would change gradients."""
    levels: tuple[Quantized, ...]
    """The output of the quantizer of each level, bottom first."""


# So that DDP and FSDP2 find the tensors in it, and programs of torch.export can return it.
torch.export.register_dataclass(VQVAEOutput, serialized_type_name="flatvq.VQVAEOutput")
