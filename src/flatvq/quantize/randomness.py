"""Random numbers that depend on names, never on history.

A draw is a pure function of a seed and of what it is for: the level, the purpose, the step. So nothing
about a random state has to be saved for a resumed run to draw what an undisturbed one would have drawn.
"""

from __future__ import annotations

import hashlib

import torch

__all__ = ["derived_seed", "generator"]


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Derive a seed for one purpose: a non-negative 63-bit number.

    Example:
        >>> derived_seed(0, "level", 0) != derived_seed(0, "level", 1)
        True
    """
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Make the CPU generator for one purpose.

    Args:
        seed: the seed of the trial.
        purpose: what the numbers are for, such as a name and a step.

    Returns:
        A generator that yields the same numbers for the same arguments, on every machine and process.

    Example:
        >>> a, b = generator(0, "replacement", 7), generator(0, "replacement", 7)
        >>> bool((torch.randperm(5, generator=a) == torch.randperm(5, generator=b)).all())
        True
    """
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))
