"""Paired timing: the contenders take turns, so that a slow phase of the machine affects all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any

__all__ = ["Spread", "alternate", "compared", "spread"]


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of some values."""

    median: float
    q1: float
    q3: float


def spread(values: list[float]) -> Spread:
    """Summarise values; of fewer than three, the quartiles are the extremes.

    Example:
        >>> spread([1.0, 2.0, 3.0, 4.0, 5.0])
        Spread(median=3.0, q1=2.0, q3=4.0)
    """
    if len(values) < 3:
        return Spread(median(values), min(values), max(values))
    q1, middle, q3 = quantiles(values, n=4, method="inclusive")
    return Spread(middle, q1, q3)


def alternate(
    contenders: Mapping[str, Callable[[], object]],
    *,
    seconds: float,
    rounds: int,
    warm_up: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Time contenders in turn.

    Args:
        contenders: what to call, by name.
        seconds: stop after the round in which this much time has passed.
        rounds: the largest number; at least three are done, however long they take.
        warm_up: calls of each that do not count.
        clock: returns seconds; wall time by default.

    Returns:
        Seconds of each call, by name; equally many of each.
    """
    for call in contenders.values():
        for _ in range(warm_up):
            call()
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    started = clock()
    for number in range(rounds):
        if number >= 3 and clock() - started > seconds:
            break
        for name, call in contenders.items():
            before = clock()
            call()
            taken[name].append(clock() - before)
    return taken


def compared(taken: Mapping[str, list[float]], ours: str = "flatvq", other: str = "other") -> dict[str, Any]:
    """Put two contenders' times side by side, with the ratio round by round.

    Example:
        >>> compared({"flatvq": [1.0, 1.0], "other": [3.0, 5.0]})["ratio"]["median"]
        4.0
    """
    ratios = [theirs / own for own, theirs in zip(taken[ours], taken[other], strict=True)]
    return {
        "rounds": len(ratios),
        "flatvq_s": asdict(spread(taken[ours])),
        "other_s": asdict(spread(taken[other])),
        "ratio": asdict(spread(ratios)),
    }
