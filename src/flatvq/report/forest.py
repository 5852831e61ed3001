"""The comparisons as strips: mean difference, 90 % interval, difference per seed, and margin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from flatvq.capacities import CAPACITIES
from flatvq.metrics import PRIMARY, TRIAL_METRICS
from flatvq.number_format import decimals, signed
from flatvq.records import Comparison, Study
from flatvq.report.formatting import tick
from flatvq.report.svg import Frame, Scale, drawing, span, tag

__all__ = ["Group", "Row", "groups"]

HEADINGS = {
    "primary": "Primary comparison",
    "hierarchy": "Which model is better? Same codebook settings, different models",
    "intervention": "Do the measures against codebook collapse help? Same model, different codebook settings",
    "asked": "Comparisons named in the recipe",
    "interaction": "Does a change help one model more than another?",
}
STRIP_HEIGHT = 40
MEAN_Y, SEED_Y = 14, 29


@dataclass(frozen=True)
class Row:
    """A comparison, its strip, and the difference of the capacities of its two arms as text."""

    comparison: Comparison
    strip: Markup
    mismatch: str


@dataclass(frozen=True)
class Group:
    """Comparisons of one question, on one axis.

    Attributes:
        heading: the question.
        rows: the comparisons.
        axis: the axis below the strips.
    """

    heading: str
    rows: list[Row]
    axis: Markup


def groups(study: Study) -> list[Group]:
    """Draw the comparisons of a study, grouped by question.

    Args:
        study: the study.

    Returns:
        The primary comparison, and a group per question for the others, the hierarchy first. Each group has
        its own axis, because a collapsed codebook costs several dB, while a hierarchy changes tenths of a dB.
    """
    questions = set(map(_question, study.comparisons))
    order = [*HEADINGS, *sorted(questions - HEADINGS.keys())]
    return [_group(question, study) for question in order if question in questions]


def _question(comparison: Comparison) -> str:
    return "primary" if comparison.primary else comparison.question


def _group(question: str, study: Study) -> Group:
    members = [c for c in study.comparisons if _question(c) == question]
    values = [
        value
        for c in members
        for value in (*(c.interval or ()), *c.per_seed, -1.5 * c.margin, 1.5 * c.margin)
    ]
    scale = span([0.0, *values, *(c.difference for c in members if c.difference is not None)])
    rows = [Row(c, _strip(c, _by_seed(study, c), scale), _mismatch(study, c)) for c in members]
    return Group(HEADINGS.get(question, question), rows, _axis(scale, _unit(members[0])))


def _unit(comparison: Comparison) -> str:
    """Return the unit of the compared metric after a space; empty if it has none or is not registered."""
    metric = TRIAL_METRICS.get(comparison.metric or PRIMARY)
    return f" {metric.unit}" if metric and metric.unit else ""


def _mismatch(study: Study, comparison: Comparison) -> str:
    """Return the capacities of the first arm relative to the second.

    Empty for an interaction or an unknown arm.
    """
    arms = {arm.name: arm for arm in study.arms}
    if comparison.c is not None or not {comparison.a, comparison.b} <= set(arms):
        return ""
    differences = []
    for key, kind in CAPACITIES.items():
        if kind.partial and key not in study.match.capacities:
            continue
        first, second = (arms[name].value(kind.attribute) for name in (comparison.a, comparison.b))
        if first is not None and second:
            differences.append((kind.label, first / second - 1))
    if all(abs(share) < 5e-6 for _, share in differences):
        return "same " + ", ".join(label for label, _ in differences) if differences else ""
    return ", ".join(f"{label} {signed(100 * share, 1)} %" for label, share in differences)


def _by_seed(study: Study, comparison: Comparison) -> list[tuple[str, float]]:
    """Return name and difference of each seed; a seed that is unknown is named by its position."""
    seeds = [f"seed {seed}" for seed in study.shared_seeds(*comparison.arms)]
    if len(seeds) != len(comparison.per_seed):
        seeds = [f"seed no. {position}" for position in range(1, len(comparison.per_seed) + 1)]
    return list(zip(seeds, comparison.per_seed, strict=True))


def _strip(comparison: Comparison, by_seed: Sequence[tuple[str, float]], scale: Scale) -> Markup:
    frame = Frame(scale, Scale(0.0, 1.0), STRIP_HEIGHT)
    margin, mean = comparison.margin, comparison.difference
    low, width = frame.across(-margin), f"{100 * (scale(margin) - scale(-margin)):.2f}%"
    marks = [
        tag("rect", class_="margin", x=low, width=width, y="0", height=STRIP_HEIGHT),
        tag("line", class_="zero", x1=frame.across(0.0), x2=frame.across(0.0), y1="0", y2=STRIP_HEIGHT),
    ]
    if comparison.interval:
        left, right = (frame.across(end) for end in comparison.interval)
        marks.append(tag("line", class_="interval", x1=left, x2=right, y1=MEAN_Y, y2=MEAN_Y))
    if mean is not None:
        marks.append(tag("circle", class_="mean", cx=frame.across(mean), cy=MEAN_Y, r="5.5"))
    for name, value in by_seed:
        tooltip = tag("title", f"{name}: {signed(value, decimals(comparison.margin) + 1)}{_unit(comparison)}")
        marks.append(tag("circle", tooltip, class_="seed", cx=frame.across(value), cy=SEED_Y, r="3.2"))
    title = f"{_name(comparison)}: {comparison.verdict}"
    return drawing(title, _description(comparison, by_seed), STRIP_HEIGHT, *marks, kind="strip")


def _name(comparison: Comparison) -> str:
    if comparison.c is None:
        return f"{comparison.a} minus {comparison.b}"
    return f"({comparison.a} minus {comparison.b}) minus ({comparison.c} minus {comparison.d})"


def _description(comparison: Comparison, by_seed: Sequence[tuple[str, float]]) -> str:
    interval, unit, digits = comparison.interval, _unit(comparison), decimals(comparison.margin)
    parts = [f"difference {signed(comparison.difference, digits)}{unit}"]
    if interval:
        low, high = (signed(end, digits) for end in interval)
        parts.append(f"90 % interval {low} to {high}{unit}")
    else:
        parts.append("no interval")
    parts.append(f"margin ±{tick(comparison.margin)}{unit}")
    parts.extend(f"{name} {signed(value, digits)}{unit}" for name, value in by_seed)
    return "; ".join(parts)


def _axis(scale: Scale, unit: str) -> Markup:
    frame = Frame(scale, Scale(0.0, 1.0), 1)
    labels = frame.axes(scale.ticks(6), [])
    rule = tag("line", class_="base", x1="0", x2="100%", y1="0", y2="0")
    return drawing(
        "Axis of the differences",
        f"in{unit}" if unit else "without unit",
        24,
        rule,
        labels,
        kind="strip axis",
    )
