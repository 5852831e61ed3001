"""Reads the environment variables that `torchrun` sets for the processes of a training.

Schedulers and shells can leave such variables behind. Variables that contradict each other are refused, and a
process that trains alone removes them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from flatvq.errors import FlatvqError

__all__ = ["ALONE", "Launch", "forget_launch", "launch_of"]

_VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_MAX_PROCESSES = 1_000_000


@dataclass(frozen=True)
class Launch:
    """One process of a training."""

    rank: int = 0
    """The number of this process."""
    world_size: int = 1
    """The number of processes."""
    local_rank: int | None = None
    """The number of this process on its machine; None if unknown."""


ALONE = Launch()
"""A single process."""


def launch_of(environment: Mapping[str, str]) -> Launch:
    """Read the variables that `torchrun` sets.

    Args:
        environment: the environment variables of this process.

    Returns:
        The rank of this process and the number of processes; `ALONE` if no variable is set.

    Raises:
        FlatvqError: if a variable is malformed or contradicts another, or if a required one is not set.

    Example:
        >>> launch_of({}) == ALONE
        True
        >>> launch_of({"WORLD_SIZE": "4"})
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: WORLD_SIZE is '4' in the environment, but RANK is not set: start with \
torchrun, or unset WORLD_SIZE
    """
    world_size = _number(environment, "WORLD_SIZE", 1, _MAX_PROCESSES)
    rank = _number(environment, "RANK", 0, _MAX_PROCESSES)
    local_rank = _number(environment, "LOCAL_RANK", 0, _MAX_PROCESSES)
    if world_size is None:
        if rank:
            raise _refused(environment, "RANK", "but WORLD_SIZE is not set")
        return Launch(local_rank=local_rank)
    if rank is not None and rank >= world_size:
        raise _refused(environment, "RANK", f"but WORLD_SIZE is {world_size}")
    if world_size > 1:
        _number(environment, "MASTER_PORT", 1, 65_535)
        for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
            if not environment.get(name):
                raise _refused(environment, "WORLD_SIZE", f"but {name} is not set")
    return Launch(rank or 0, world_size, local_rank)


def forget_launch() -> None:
    """Remove the variables from the environment of this process, so that it trains alone."""
    for name in _VARIABLES:
        os.environ.pop(name, None)


def _number(environment: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    text = environment.get(name)
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise _refused(environment, name, f"which is not an integer from {least} to {most}")
    return int(text)


def _refused(environment: Mapping[str, str], name: str, why: str) -> FlatvqError:
    what = f"{name} is {environment[name]!r} in the environment, {why}"
    return FlatvqError(what, f"start with torchrun, or unset {name}")
