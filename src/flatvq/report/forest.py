"""The comparisons, one strip each: difference, 90 % interval, the seeds' own differences, the margin band."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from flatvq.records import Comparison, Study
from flatvq.report.formatting import short, signed
from flatvq.report.svg import Frame, Scale, drawing, span, tag

__all__ = ["Group", "Row", "groups"]

HEADINGS = {
    "hierarchy": "Does the hierarchy help? Same codebook treatment, other levels",
    "intervention": "Does the codebook’s treatment help? Same model, other codebook",
    "asked": "Asked for by name",
}
STRIP = 40
MEAN_LINE, SEED_LINE = 14, 29


@dataclass(frozen=True)
class Row:
    """A comparison, its strip, and how much more or less the first arm may spend than the second."""

    comparison: Comparison
    strip: Markup
    mismatch: str


@dataclass(frozen=True)
class Group:
    """Comparisons of one kind, on one axis.

    Attributes:
        heading: the question that they answer.
        rows: the comparisons.
        axis: the axis below the strips.
    """

    heading: str
    rows: list[Row]
    axis: Markup


def groups(study: Study) -> list[Group]:
    """Draw the study's comparisons, question by question.

    Args:
        study: the study; each difference is a minus b in decibels.

    Returns:
        A group per question, the hierarchy first. Groups have axes of their own, since a collapsed codebook
        costs decibels where a hierarchy is worth tenths.
    """
    questions = sorted({c.question for c in study.comparisons}, key=lambda q: ([*HEADINGS, q].index(q), q))
    return [_group(question, study) for question in questions]


def _group(question: str, study: Study) -> Group:
    members = [c for c in study.comparisons if c.question == question]
    ends = [
        end for c in members for end in (*(c.interval or ()), *c.per_seed, -1.5 * c.margin, 1.5 * c.margin)
    ]
    scale = span([0.0, *ends, *(c.difference for c in members if c.difference is not None)])
    rows = [Row(c, _strip(c, _by_seed(study, c), scale), _mismatch(study, c)) for c in members]
    return Group(HEADINGS.get(question, question), rows, _axis(scale))


def _mismatch(study: Study, comparison: Comparison) -> str:
    """Say how the capacities of the first arm differ from the second's; empty if an arm is unknown."""
    arms = {arm.name: arm for arm in study.arms}
    if not {comparison.a, comparison.b} <= set(arms):
        return ""
    parts = []
    for words, key in (
        ("bits", "bits_per_image"),
        ("parameters", "parameters"),
        ("multiply-adds", "multiply_adds"),
    ):
        first, second = getattr(arms[comparison.a], key), getattr(arms[comparison.b], key)
        if first is not None and second:
            parts.append((words, first / second - 1))
    if all(abs(share) < 5e-6 for _, share in parts):
        return "same " + ", ".join(words for words, _ in parts) if parts else ""
    return ", ".join(f"{words} {signed(100 * share, 1)} %" for words, share in parts)


def _by_seed(study: Study, comparison: Comparison) -> list[tuple[str, float]]:
    """Name each per-seed difference; by number only where the trials do not say which seeds they are."""
    seeds = [f"seed {seed}" for seed in study.shared_seeds(comparison.a, comparison.b)]
    if len(seeds) != len(comparison.per_seed):
        seeds = [f"seed no. {place}" for place in range(1, len(comparison.per_seed) + 1)]
    return list(zip(seeds, comparison.per_seed, strict=True))


def _strip(comparison: Comparison, by_seed: Sequence[tuple[str, float]], scale: Scale) -> Markup:
    frame = Frame(scale, Scale(0.0, 1.0), STRIP)
    margin, mean = comparison.margin, comparison.difference
    low, width = frame.across(-margin), f"{100 * (scale(margin) - scale(-margin)):.2f}%"
    marks = [
        tag("rect", class_="margin", x=low, width=width, y="0", height=STRIP),
        tag("line", class_="zero", x1=frame.across(0.0), x2=frame.across(0.0), y1="0", y2=STRIP),
    ]
    if comparison.interval:
        left, right = (frame.across(end) for end in comparison.interval)
        marks.append(tag("line", class_="interval", x1=left, x2=right, y1=MEAN_LINE, y2=MEAN_LINE))
    if mean is not None:
        marks.append(tag("circle", class_="mean", cx=frame.across(mean), cy=MEAN_LINE, r="5.5"))
    for name, value in by_seed:
        said = tag("title", f"{name}: {signed(value, 3)} dB")
        marks.append(tag("circle", said, class_="seed", cx=frame.across(value), cy=SEED_LINE, r="3.2"))
    title = f"{comparison.a} minus {comparison.b}: {comparison.verdict}"
    return drawing(title, _described(comparison, by_seed), STRIP, *marks, kind="strip")


def _described(comparison: Comparison, by_seed: Sequence[tuple[str, float]]) -> str:
    interval = comparison.interval
    parts = [f"difference {signed(comparison.difference)} dB"]
    parts.append(
        f"90 % interval {signed(interval[0])} to {signed(interval[1])} dB" if interval else "no interval"
    )
    parts.append(f"margin {short(comparison.margin)} dB to both sides")
    parts.extend(f"{name} {signed(value)} dB" for name, value in by_seed)
    return "; ".join(parts)


def _axis(scale: Scale) -> Markup:
    frame = Frame(scale, Scale(0.0, 1.0), 1)
    labels = frame.axes(scale.ticks(6), [])
    rule = tag("line", class_="base", x1="0", x2="100%", y1="0", y2="0")
    return drawing("Axis of the differences", "in decibels", 24, rule, labels, kind="strip axis")
