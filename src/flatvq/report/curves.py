"""Charts of values over training steps: a thin line per seed and a strong line for their mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from flatvq.number_format import number
from flatvq.report.formatting import tick
from flatvq.report.palette import Style
from flatvq.report.points import Point
from flatvq.report.runs import Run
from flatvq.report.summary import mean_curve, thin
from flatvq.report.svg import Frame, Scale, drawing, polyline, span

__all__ = ["Chart", "Line", "loss_chart", "over_steps", "validation_chart"]

MAX_POINTS = 120
HEIGHT = 260


@dataclass(frozen=True)
class Line:
    """The curves of one arm.

    Attributes:
        name: name of the arm.
        style: style of the arm.
        seeds: a curve per seed.
        finished: the curves of finished trials, which the mean is over. Failed trials are drawn but not
            averaged.
    """

    name: str
    style: Style
    seeds: list[list[Point]]
    finished: list[list[Point]]


@dataclass(frozen=True)
class Chart:
    """A chart and a note for the reader; without records there is no picture."""

    picture: Markup | None
    note: str


def lines_of(runs: Sequence[Run], styles: dict[str, Style], kind: str, key: str) -> list[Line]:
    """Collect the curves of one value for all arms that have records."""
    lines = []
    for name, style in styles.items():
        curves = [
            (run.trial.done, thin(run.curve(kind, key), MAX_POINTS)) for run in runs if run.trial.arm == name
        ]
        present = [(done, curve) for done, curve in curves if curve]
        if present:
            seeds = [curve for _, curve in present]
            lines.append(Line(name, style, seeds, [curve for done, curve in present if done]))
    return lines


def validation_chart(runs: Sequence[Run], styles: dict[str, Style]) -> Chart:
    """Draw validation PSNR over steps. Low values in the first quarter of the steps may be cut off."""
    lines = lines_of(runs, styles, "validation", "psnr_db")
    points = [point for line in lines for curve in line.seeds for point in curve]
    if not points:
        return Chart(None, "No validation records.")
    last = max(step for step, _ in points)
    late = [value for step, value in points if 4 * step >= last]
    y = span([*late, max(value for _, value in points)])
    hidden = sum(value < y.low for _, value in points)
    note = f"{hidden} early values below {number(y.low, 1)} dB are not shown." if hidden else ""
    title = "Validation PSNR over training steps"
    return Chart(over_steps(title, lines, y, last, "dB"), note)


def loss_chart(runs: Sequence[Run], styles: dict[str, Style]) -> Chart:
    """Draw the training loss over steps on a logarithmic axis."""
    lines = lines_of(runs, styles, "train", "loss")
    points = [(step, value) for line in lines for curve in line.seeds for step, value in curve if value > 0]
    if not points:
        return Chart(None, "No training records.")
    values = [value for _, value in points]
    y = Scale(min(values) / 1.1, max(values) * 1.1, log=True)
    return Chart(over_steps("Training loss over steps", lines, y, max(step for step, _ in points), ""), "")


def over_steps(
    title: str, lines: Sequence[Line], y: Scale, last: float, unit: str, height: int = HEIGHT
) -> Markup:
    """Draw curves over the steps from 0 to `last`.

    Args:
        title: title of the chart.
        lines: the curves of the arms.
        y: the vertical axis.
        last: the last step.
        unit: unit of the values, for the description.
        height: height of the plotting area in pixels.

    Returns:
        The chart as SVG.
    """
    frame = Frame(Scale(0.0, max(last, 1.0)), y, height)
    thin_lines = [
        polyline(frame, curve, "line thin", line.style.css) for line in lines for curve in line.seeds
    ]
    means = [(line, mean_curve(line.finished)) for line in lines]
    strong = [polyline(frame, curve, "line strong", line.style.css) for line, curve in means if curve]
    ticks = 3 if height < HEIGHT else 6
    axes = frame.axes(frame.x.ticks(ticks), y.ticks(ticks))
    ends = [
        f"{line.name} ends at {tick(float(f'{curve[-1][1]:.4g}'))} {unit}" for line, curve in means if curve
    ]
    return drawing(title, "; ".join(ends), height + 26, axes, frame.curves(*thin_lines, *strong))
