"""The base class of the autograd functions of this package."""

from __future__ import annotations

import inspect
from typing import Any

import torch

__all__ = ["Function"]


class Function(torch.autograd.Function):
    """An autograd function with `setup_context`, whose signature is computed once.

    `torch.autograd.Function.apply` calls `inspect.signature` on every call, which takes longer than a small
    search. `inspect.signature` returns `__signature__` if a function has it.
    """

    generate_vmap_rule = True

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        forward: Any = cls.forward
        forward.__signature__ = inspect.signature(forward)
