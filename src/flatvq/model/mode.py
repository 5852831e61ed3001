"""Training mode and eval mode of modules."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from weakref import WeakKeyDictionary

import torch
from torch import nn

__all__ = ["eval_mode"]

# How many blocks of `eval_mode` keep a part in eval mode, for each part that was in training mode before.
_blocks: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
_lock = Lock()


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Put a module and its parts into eval mode, and restore the mode of each part afterwards.

    Blocks in several threads may overlap. The last one that ends restores the mode.

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
    if torch.compiler.is_compiling():  # graphs have no locks, and are traced in one thread
        changed = [part for part in module.modules() if part.training]
        for part in changed:
            part.training = False
    else:
        changed = _entered(module)
    try:
        yield
    finally:
        if torch.compiler.is_compiling():
            for part in changed:
                part.training = True
        else:
            _leave(changed)


def _entered(module: nn.Module) -> list[nn.Module]:
    """Put parts into eval mode, and return those that were in training mode before all blocks."""
    with _lock:
        changed = [part for part in module.modules() if part.training or part in _blocks]
        for part in changed:
            part.training = False
            _blocks[part] = _blocks.get(part, 0) + 1
    return changed


def _leave(parts: list[nn.Module]) -> None:
    """Restore training mode, except where another block goes on."""
    with _lock:
        for part in parts:
            _blocks[part] -= 1
            if not _blocks[part]:
                del _blocks[part]
                part.training = True
