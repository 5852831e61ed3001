"""What the environment says about the processes of a training: the variables that `torchrun` sets.

Schedulers and shells leave such variables behind. What does not fit together is refused, and processes that
train alone remove them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from flatvq.errors import FlatvqError

__all__ = ["ALONE", "Launch", "forget_launch", "launch_of"]

_VARIABLES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_MOST = 1_000_000


@dataclass(frozen=True)
class Launch:
    """One process of a training."""

    rank: int = 0
    """This process's number."""
    world_size: int = 1
    """How many processes there are."""
    local_rank: int | None = None
    """This process's number on its machine."""


ALONE = Launch()
"""A process without others."""


def launch_of(environment: Mapping[str, str]) -> Launch:
    """Read the variables that `torchrun` sets.

    Args:
        environment: of this process.

    Returns:
        Which process this is; `ALONE` if no variable is set.

    Raises:
        FlatvqError: if a variable is malformed, contradicts another, or one that belongs to it is not set.

    Example:
        >>> launch_of({}) == ALONE
        True
        >>> launch_of({"WORLD_SIZE": "4"})
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: WORLD_SIZE is '4' in the environment, but RANK is not set: start with \
torchrun, or unset WORLD_SIZE
    """
    world_size = _number(environment, "WORLD_SIZE", 1, _MOST)
    rank = _number(environment, "RANK", 0, _MOST)
    local_rank = _number(environment, "LOCAL_RANK", 0, _MOST)
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
    """Remove the variables from this process's environment: it trains alone, whatever it inherited."""
    for name in _VARIABLES:
        os.environ.pop(name, None)


def _number(environment: Mapping[str, str], name: str, least: int, most: int) -> int | None:
    text = environment.get(name)
    if text is None:
        return None
    if not re.fullmatch("[0-9]{1,9}", text) or not least <= int(text) <= most:
        raise _refused(environment, name, f"which is no whole number from {least} to {most}")
    return int(text)


def _refused(environment: Mapping[str, str], name: str, why: str) -> FlatvqError:
    what = f"{name} is {environment[name]!r} in the environment, {why}"
    return FlatvqError(what, f"start with torchrun, or unset {name}")
