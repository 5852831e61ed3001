"""Training mode and eval mode of modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["eval_mode"]


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Put a module and its parts into eval mode, and restore the mode of each part afterwards.

    Args:
        module: the module.

    Example:
        >>> module = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
        >>> with eval_mode(module):
        ...     [part.training for part in module.modules()]
        [False, False, False]
        >>> [part.training for part in module.modules()]
        [True, True, False]
    """
    changed = [part for part in module.modules() if part.training]
    for part in changed:
        part.training = False
    try:
        yield
    finally:
        for part in changed:
            part.training = True
