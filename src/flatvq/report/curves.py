"""Values over steps: the mean over seeds as a strong line, each seed as a thin one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from flatvq.report.formatting import number, short
from flatvq.report.palette import Look
from flatvq.report.points import Point
from flatvq.report.runs import Run
from flatvq.report.summary import mean_curve, thin
from flatvq.report.svg import Frame, Scale, drawing, polyline, span

__all__ = ["Chart", "Line", "loss_chart", "over_steps", "validation_chart"]

MOST_POINTS = 120
HEIGHT = 260


@dataclass(frozen=True)
class Line:
    """An arm's curves.

    Attributes:
        name: of the arm.
        look: its look.
        seeds: a curve per seed.
        finished: those of `seeds` that count for the mean; a failed trial's curve is shown, not averaged.
    """

    name: str
    look: Look
    seeds: list[list[Point]]
    finished: list[list[Point]]


@dataclass(frozen=True)
class Chart:
    """A drawing, and what the reader should know about it."""

    picture: Markup | None
    note: str


def lines_of(runs: Sequence[Run], looks: dict[str, Look], kind: str, key: str) -> list[Line]:
    """Collect the arms' curves of one value."""
    found = []
    for name, look in looks.items():
        mine = [
            (run.trial.done, thin(run.curve(kind, key), MOST_POINTS)) for run in runs if run.trial.arm == name
        ]
        present = [(done, curve) for done, curve in mine if curve]
        if present:
            seeds = [curve for _, curve in present]
            found.append(Line(name, look, seeds, [curve for done, curve in present if done]))
    return found


def validation_chart(runs: Sequence[Run], looks: dict[str, Look]) -> Chart:
    """Draw validation PSNR over steps; the first quarter may leave the picture below, and that is said."""
    lines = lines_of(runs, looks, "validation", "psnr_db")
    every = [point for line in lines for curve in line.seeds for point in curve]
    if not every:
        return Chart(None, "No validation records.")
    last = max(step for step, _ in every)
    late = [value for step, value in every if 4 * step >= last]
    y = span([*late, max(value for _, value in every)])
    hidden = sum(value < y.low for _, value in every)
    note = f"{hidden} early values below {number(y.low, 1)} dB are not drawn." if hidden else ""
    title = "Validation PSNR over training steps"
    return Chart(over_steps(title, lines, y, last, "dB"), note)


def loss_chart(runs: Sequence[Run], looks: dict[str, Look]) -> Chart:
    """Draw the training loss over steps on a logarithmic axis."""
    lines = lines_of(runs, looks, "train", "loss")
    every = [(step, value) for line in lines for curve in line.seeds for step, value in curve if value > 0]
    if not every:
        return Chart(None, "No training records.")
    values = [value for _, value in every]
    y = Scale(min(values) / 1.1, max(values) * 1.1, log=True)
    return Chart(over_steps("Training loss over steps", lines, y, max(step for step, _ in every), ""), "")


def over_steps(
    title: str, lines: Sequence[Line], y: Scale, last: float, unit: str, height: int = HEIGHT
) -> Markup:
    """Draw curves from step 0 to the last.

    Args:
        title: of the drawing.
        lines: the arms.
        y: the vertical axis.
        last: the last step.
        unit: of the values, for the description.
        height: of the plotting area, in pixels.

    Returns:
        The drawing.
    """
    frame = Frame(Scale(0.0, max(last, 1.0)), y, height)
    thin_lines = [
        polyline(frame, curve, "line thin", line.look.css) for line in lines for curve in line.seeds
    ]
    means = [(line, mean_curve(line.finished)) for line in lines]
    strong = [polyline(frame, curve, "line strong", line.look.css) for line, curve in means if curve]
    most = 3 if height < HEIGHT else 6
    axes = frame.axes(frame.x.ticks(most), y.ticks(most))
    ends = [
        f"{line.name} ends at {short(float(f'{curve[-1][1]:.4g}'))} {unit}" for line, curve in means if curve
    ]
    return drawing(title, "; ".join(ends), height + 26, axes, frame.curves(*thin_lines, *strong))
