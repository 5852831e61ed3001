"""Tokenizers of other libraries."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import torch

from flatvq.errors import FlatvqError, nearest
from flatvq.tokenizers.protocol import Tokenizer

__all__ = ["is_foreign", "open_foreign"]
def is_foreign(spec: str) -> bool:
    return False
def open_foreign(spec: str, device: str | torch.device) -> Tokenizer:
    raise NotImplementedError
