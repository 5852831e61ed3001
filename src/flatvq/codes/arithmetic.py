"""Float32 arithmetic for encoding: bfloat16 and TF32 change indices where two codes are nearly as near."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from flatvq.errors import FlatvqError
from flatvq.tokenizers import Tokenizer
from flatvq.train.machine import repeatable

__all__ = ["ARITHMETIC", "float32_arithmetic", "require_float32"]

ARITHMETIC = "float32"


@contextmanager
def float32_arithmetic(device: torch.device) -> Iterator[None]:
    """Compute in float32 within the block, and deterministically on a GPU.

    This turns off autocast, and TF32 and bfloat16 inside of convolutions and matrix products.
    """
    backends: Any = torch.backends  # whose types lack these settings
    settings = (
        *(backends.cudnn.conv, backends.cuda.matmul),
        *(backends.mkldnn.conv, backends.mkldnn.matmul),
    )
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        with torch.autocast(device.type, enabled=False), repeatable(device):
            yield
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = precision


def require_float32(tokenizer: Tokenizer) -> None:
    """Check that all weights of a tokenizer are float32.

    Raises:
        FlatvqError: if one is not.
    """
    weights = tokenizer.named_parameters() if isinstance(tokenizer, nn.Module) else ()
    for name, weight in weights:
        if weight.is_floating_point() and weight.dtype != torch.float32:
            dtype = str(weight.dtype).removeprefix("torch.")
            what = f"the weight {name!r} of the tokenizer is {dtype}, which changes indices"
            raise FlatvqError(what, "convert the tokenizer with .float()")
