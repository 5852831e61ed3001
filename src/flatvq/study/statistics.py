"""Compares arms over several seeds: equivalent, better, worse, not worse, not better or inconclusive.

The seed is the unit of replication. Every number here is the mean of one seed over the held-out images. The
images are not replicates, because they share one trained model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal, get_args

import numpy as np

from flatvq.errors import FlatvqError
from flatvq.study.estimates import Estimate, finite_sample

__all__ = [
    "SETTLED",
    "Difference",
    "Interval",
    "Verdict",
    "compare",
    "contrast",
    "verdict_of",
]

Verdict = Literal["equivalent", "better", "worse", "not worse", "not better", "inconclusive"]
Interval = Literal["welch", "paired"]
"""How the interval of a difference is computed: from the spread within each arm, or from the differences of
equal seeds."""

SETTLED: tuple[Verdict, ...] = ("equivalent", "better", "worse", "not worse", "not better")
"""The verdicts that answer a comparison."""


@dataclass(frozen=True)
class Difference:
    """The difference of two arms, a minus b, and the verdict on it.

    Attributes:
        mean: the difference of the means over seeds.
        interval90: its confidence interval, or None if an arm has a single seed. At the level 0.05, this is
            the usual 90 % interval. In a study with several looks, it is the repeated 90 % interval.
        per_seed: a minus b for each seed, in the order given; empty if the arms have different numbers of
            seeds.
        seeds: the number of seeds of the arm with the fewest.
        margin: the largest difference that does not matter, chosen before the runs.
        degrees_of_freedom: of Student's t; None if there is no interval.
        p_equivalence: the larger p value of the two one-sided tests; below `level`, a difference as large as
            the margin is rejected. None if there is no interval.
        level: the one-sided level of the interval.
        verdict: the answer (see `compare`).
    """

    mean: float
    interval90: tuple[float, float] | None
    per_seed: tuple[float, ...]
    seeds: int
    margin: float
    degrees_of_freedom: float | None
    p_equivalence: float | None
    level: float
    verdict: Verdict


def compare(
    a: Sequence[float],
    b: Sequence[float],
    margin: float,
    *,
    interval: Interval = "paired",
    level: float = 0.05,
    higher_is_better: bool = True,
) -> Difference:
    """Compare two arms by the confidence interval of their difference.

    The verdict follows from the interval [low, high] and the margin:

    - `equivalent`: -margin < low and high < margin. This is the case exactly if two one-sided t tests reject
      (Schuirmann 1987; Lakens 2017). A significant difference below the margin is equivalent too.
    - `better`: low > 0. `worse`: high < 0.
    - `not worse`: low > -margin. `not better`: high < margin. These are the one-sided answers: a
      non-inferiority test in one direction.
    - `inconclusive`: none of these.

    The first that holds is the verdict. If lower values are better, the signs are exchanged.

    `paired` intervals use Student's t on the differences of equal seeds. `welch` intervals use the variances
    of both arms and the degrees of freedom of Welch and Satterthwaite; they are narrower if equal seeds do
    not correlate, and the arms may have different seeds.

    Args:
        a: one number per seed.
        b: the numbers of the other arm. For `paired`, they belong to the same seeds in the same order.
        margin: the largest difference that does not matter, in the same unit.
        interval: `paired` or `welch`.
        level: the one-sided error of the interval. A study with several looks needs a lower one than 0.05
            (see `flatvq.study.looks.nominal_level`).
        higher_is_better: whether higher numbers are better.

    Returns:
        The difference and the verdict.

    Raises:
        FlatvqError: if an arm has no seeds, the arms of a paired comparison have different numbers of seeds,
            a value is not finite, an arm is not one number per seed, the margin is not positive, the level is
            not between 0 and 0.5, or there is no such interval.

    Example:
        >>> result = compare([25.33, 25.31, 25.36], [25.30, 25.33, 25.34], margin=0.1)
        >>> result.verdict, round(result.mean, 4)
        ('equivalent', 0.01)
        >>> compare([25.0, 25.2, 25.4], [24.9, 25.2, 25.1], margin=0.4, interval="welch").verdict
        'not worse'
    """
    return contrast(
        [a, b], [1, -1], margin, interval=interval, level=level, higher_is_better=higher_is_better
    )


def contrast(
    arms: Sequence[Sequence[float]],
    weights: Sequence[float],
    margin: float,
    *,
    interval: Interval = "paired",
    level: float = 0.05,
    higher_is_better: bool = True,
) -> Difference:
    """Compare a weighted sum of the means of several arms with zero, as `compare` does for two arms.

    The interaction (a - b) - (c - d) has the weights 1, -1, -1, 1.

    Args:
        arms: the numbers of each arm, one per seed.
        weights: a weight for each arm.
        margin: the largest value of the sum that does not matter.
        interval: see `compare`.
        level: see `compare`.
        higher_is_better: see `compare`.

    Raises:
        FlatvqError: see `compare`; also if there is not one finite weight for each arm.

    Example:
        >>> arms = [[1.0, 1.1], [0.5, 0.7], [0.2, 0.1], [0.4, 0.6]]
        >>> round(contrast(arms, [1, -1, -1, 1], margin=0.1).mean, 3)
        0.8
    """
    if not (isfinite(margin) and margin > 0):
        raise FlatvqError(
            f"margin {margin} is not positive", "give the largest difference that does not matter"
        )
    if not 0 < level < 0.5:
        raise FlatvqError(f"level {level} is not between 0 and 0.5", "give for example 0.05")
    if interval not in get_args(Interval):
        raise FlatvqError(f"interval is {interval!r}", "choose 'paired' or 'welch'")
    if not 0 < len(arms) == len(weights) or not all(map(isfinite, weights)):
        what = f"{len(arms)} arms have the weights {list(weights)}"
        raise FlatvqError(what, "give a finite weight for each arm")
    samples = [finite_sample(values, f"arm {number}") for number, values in enumerate(arms, 1)]
    sizes = {len(sample) for sample in samples}
    per_seed = np.asarray(weights) @ np.array(samples) if len(sizes) == 1 else np.empty(0)
    if interval == "paired":
        if len(sizes) > 1:
            numbers = " and ".join(map(str, sorted(sizes)))
            raise FlatvqError(f"the arms have {numbers} seeds", "compare the same seeds of all arms")
        total = Estimate.of(per_seed)
    else:
        total = Estimate.welch(samples, weights)
    ends = total.interval(level)
    return Difference(
        mean=total.mean,
        interval90=ends,
        per_seed=tuple(per_seed.tolist()),
        seeds=min(sizes),
        margin=float(margin),
        degrees_of_freedom=total.freedom,
        p_equivalence=total.p_equivalence(margin),
        level=level,
        verdict=verdict_of(ends, margin, higher_is_better),
    )


def verdict_of(interval: tuple[float, float] | None, margin: float, higher_is_better: bool = True) -> Verdict:
    """Return the verdict of an interval, by the rules of `compare`.

    Args:
        interval: the interval of a difference; None if there is none.
        margin: the largest difference that does not matter.
        higher_is_better: whether higher values are better.

    Example:
        >>> verdict_of((0.02, 0.19), margin=0.1), verdict_of((-0.05, 0.19), margin=0.1)
        ('better', 'not worse')
    """
    if interval is None:
        return "inconclusive"
    low, high = interval if higher_is_better else (-interval[1], -interval[0])
    rules: tuple[tuple[bool, Verdict], ...] = (
        (-margin < low and high < margin, "equivalent"),
        (low > 0, "better"),
        (high < 0, "worse"),
        (low > -margin, "not worse"),
        (high < margin, "not better"),
    )
    return next((verdict for holds, verdict in rules if holds), "inconclusive")
