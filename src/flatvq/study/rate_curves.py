"""Compares the rate curves of a study, from the trials of their arms."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from flatvq import records
from flatvq.errors import FlatvqError
from flatvq.metrics import TRIAL_METRICS
from flatvq.recipe import CurvesRecipe
from flatvq.study.curves import Budget, compare_curves
from flatvq.study.estimates import Estimate
from flatvq.study.plan import Plan
from flatvq.study.statistics import verdict_of

__all__ = ["compare_rate_curves"]


def compare_rate_curves(
    plan: Plan, trials: Sequence[records.Trial], level: float
) -> tuple[records.Curves, ...]:
    """Make the comparisons of curves that the recipe names.

    Args:
        plan: the study.
        trials: its trials.
        level: the one-sided level of the intervals.

    Returns:
        The comparisons; those that cannot be made have a reason.
    """
    return tuple(_compared(plan, trials, pair, level) for pair in plan.recipe.curves)


def _compared(
    plan: Plan, trials: Sequence[records.Trial], pair: CurvesRecipe, level: float
) -> records.Curves:
    recipe, metric = plan.recipe, TRIAL_METRICS[plan.recipe.metric]
    better = metric.higher_is_better is not False
    record = records.Curves(a=pair.a, b=pair.b, bits=pair.bits, metric=metric.key)
    try:
        a, b = (_curve(plan, trials, names, pair.bits) for names in (pair.a, pair.b))
        result = compare_curves(a, b)
    except FlatvqError as error:
        return record.model_copy(update={"reason": error.what})
    gain = result.difference
    difference = Estimate(gain.mean if better else -gain.mean, gain.error, gain.freedom)
    ends = difference.interval(level)
    percent, percent_ends = result.extra_percent(level)
    low, high = result.values if better else (-result.values[1], -result.values[0])
    return record.model_copy(
        update={
            "difference": difference.mean,
            "interval90": ends,
            "verdict": verdict_of(ends, recipe.margin, better),
            "extra_bits_percent": percent,
            "extra_bits_interval90": percent_ends,
            "shared_bits": result.bits,
            "shared_metric": (low, high),
            "seeds": min(len(budget.values) for budget in (*a, *b)),
        }
    )


def _curve(plan: Plan, trials: Sequence[records.Trial], names: Sequence[str], bits: str) -> list[Budget]:
    """Return the budgets of a curve, by increasing bits. A metric of which less is better is negated."""
    metric = TRIAL_METRICS[plan.recipe.metric]
    sign = -1 if metric.higher_is_better is False else 1
    budgets = []
    for name in names:
        arm = plan.arm(name)
        pixels = arm.recipe.data.crop**2
        points = []
        for trial in trials:
            rate = arm.capacity.bits_per_image if bits == "nominal" else trial.value(f"{bits}_bits_per_image")
            value = trial.value(metric.key)
            if trial.arm == name and trial.done and rate is not None and value is not None:
                points.append((rate / pixels, sign * value))
        if not points:
            raise FlatvqError(f"arm {name!r} has no finished trial with {bits} bits", "run the study again")
        rates, values = zip(*points, strict=True)
        budgets.append(Budget(rates, values))
    return sorted(budgets, key=lambda budget: fmean(budget.bits))
