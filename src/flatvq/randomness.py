"""Random numbers that depend on a seed and a purpose, and on no state.

Each draw is a pure function of the seed and of what it is for, such as a level and a step. A resumed run
therefore draws the same numbers as an uninterrupted one, and no random state has to be saved.
"""

from __future__ import annotations

import hashlib

import torch

__all__ = ["derived_seed", "generator"]


def derived_seed(seed: int, *purpose: str | int) -> int:
    """Derive a seed for one purpose.

    Args:
        seed: the seed of the trial.
        purpose: what the numbers are for, such as a name and a step.

    Returns:
        A non-negative 63-bit number.

    Example:
        >>> derived_seed(0, "level", 0) != derived_seed(0, "level", 1)
        True
    """
    digest = hashlib.sha256(repr((seed, *purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, *purpose: str | int) -> torch.Generator:
    """Create the CPU generator for one purpose.

    Args:
        seed: the seed of the trial.
        purpose: what the numbers are for, such as a name and a step.

    Returns:
        A generator that yields the same numbers for the same arguments on every machine and in every process.

    Example:
        >>> a, b = generator(0, "replacement", 7), generator(0, "replacement", 7)
        >>> bool((torch.randperm(5, generator=a) == torch.randperm(5, generator=b)).all())
        True
    """
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))
