"""Charts as SVG files of their own: lines, markers and intervals, with axes and a legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from flatvq.report.formatting import tick
from flatvq.report.palette import HUES
from flatvq.report.svg import Scale, tag

__all__ = ["Axis", "Series", "figure"]

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 190, 40, 52
_LEGEND_STEP = 22
# The hues of the report in light and in dark mode, which colour-blind readers can distinguish.
_LIGHT = ("#0567b1", "#aa4606", "#047453", "#ab3782", "#016f82", "#7b6101", "#744fc0", "#61656b")
_DARK = ("#68b3fe", "#fe925f", "#45c395", "#fe83cd", "#54bbd2", "#ceaa3e", "#b89eff", "#aaaeb4")
_DASHES = ("none", "7 3", "2 3", "9 3 2 3")


@dataclass(frozen=True)
class Axis:
    """An axis: its scale, its label, and its ticks by their texts if they are not round numbers."""

    scale: Scale
    label: str
    ticks: Mapping[str, float] | None = None

    @property
    def marks(self) -> Mapping[str, float]:
        """The ticks by their texts."""
        return self.ticks or {tick(value): value for value in self.scale.ticks(7)}


@dataclass(frozen=True)
class Series:
    """A named series of points, drawn with a line through them or as markers only."""

    name: str
    points: Sequence[tuple[float, float]]
    intervals: Sequence[tuple[float, float] | None] = field(default=())
    """The interval of each point in y; empty for none."""
    line: bool = True
    """Whether to join the points."""


def figure(title: str, x: Axis, y: Axis, series: Sequence[Series]) -> str:
    """Draw a chart.

    Args:
        title: its title.
        x: the horizontal axis.
        y: the vertical axis.
        series: what to draw; points outside of the axes are cut off.

    Returns:
        The content of an SVG file, with a light and a dark mode.

    Example:
        >>> axis = Axis(Scale(0.0, 10.0), "seconds")
        >>> drawn = figure("Speed", axis, axis, [Series("car", [(1.0, 2.0), (9.0, 8.0)])])
        >>> drawn.startswith("<svg"), drawn.count("<polyline")
        (True, 1)
    """
    right, low = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    area = {"x": _LEFT, "y": _TOP, "width": right - _LEFT, "height": low - _TOP}
    clip = tag("clipPath", tag("rect", **area), id="area")
    drawn = [
        tag("title", title),
        tag("style", Markup(_style())),
        tag("rect", class_="paper", width=_WIDTH, height=_HEIGHT),
        clip,
        tag("text", title, class_="title", x=_LEFT, y=_TOP - 16),
        *_grid(x, y, right, low),
        tag("g", *_curves(x, y, series, right, low), clip_path="url(#area)"),
        *_legend(series, right),
    ]
    box = {"viewBox": f"0 0 {_WIDTH} {_HEIGHT}", "role": "img", "width": _WIDTH, "height": _HEIGHT}
    return str(tag("svg", *drawn, xmlns="http://www.w3.org/2000/svg", **box)) + "\n"


def _grid(x: Axis, y: Axis, right: int, low: int) -> list[Markup]:
    parts = []
    for text, value in y.marks.items():
        down = round(low - (low - _TOP) * y.scale(value), 1)
        parts.append(tag("line", class_="rule", x1=_LEFT, x2=right, y1=down, y2=down))
        parts.append(tag("text", text, x=_LEFT - 8, y=down, dy="0.32em", text_anchor="end"))
    for text, value in x.marks.items():
        across = round(_LEFT + (right - _LEFT) * x.scale(value), 1)
        parts.append(tag("line", class_="rule", x1=across, x2=across, y1=_TOP, y2=low))
        parts.append(tag("text", text, x=across, y=low + 18, text_anchor="middle"))
    middle = (_TOP + low) // 2
    turned = f"rotate(-90 16 {middle})"
    parts.append(
        tag("text", x.label, class_="label", x=(_LEFT + right) // 2, y=low + 40, text_anchor="middle")
    )
    parts.append(tag("text", y.label, class_="label", x=16, y=middle, text_anchor="middle", transform=turned))
    return parts


def _curves(x: Axis, y: Axis, series: Sequence[Series], right: int, low: int) -> list[Markup]:
    parts = []
    for number, each in enumerate(series):
        css = f"c{number % HUES}"
        places = [
            (
                round(_LEFT + (right - _LEFT) * x.scale(across), 1),
                round(low - (low - _TOP) * y.scale(up), 1),
            )
            for across, up in each.points
        ]
        if each.line:
            text = " ".join(f"{across},{down}" for across, down in places)
            parts.append(tag("polyline", points=text, class_=css, stroke_dasharray=_dash(number)))
        for (across, _), interval in zip(places, each.intervals, strict=False):
            if interval is not None:
                ends = (round(low - (low - _TOP) * y.scale(end), 1) for end in interval)
                top, bottom = ends
                parts.append(tag("line", class_=css, x1=across, x2=across, y1=top, y2=bottom))
        parts += [_marker(css, across, down, each.line) for across, down in places]
    return parts


def _legend(series: Sequence[Series], right: int) -> list[Markup]:
    parts = []
    for number, each in enumerate(series):
        down, css = _TOP + 10 + _LEGEND_STEP * number, f"c{number % HUES}"
        if each.line:
            ends = {"x1": right + 14, "x2": right + 38, "y1": down, "y2": down}
            parts.append(tag("line", class_=css, stroke_dasharray=_dash(number), **ends))
        parts.append(_marker(css, right + 26, down, each.line))
        parts.append(tag("text", each.name, class_="label", x=right + 46, y=down, dy="0.32em"))
    return parts


def _marker(css: str, across: float, down: float, small: bool) -> Markup:
    return tag("circle", class_=css, cx=across, cy=down, r=2.6 if small else 5.5)


def _dash(number: int) -> str:
    return _DASHES[number // HUES % len(_DASHES)] if number >= HUES else _DASHES[number % len(_DASHES)]


def _style() -> str:
    def colours(paper: str, ink: str, rule: str, hues: Sequence[str]) -> str:
        lines = [f".paper{{fill:{paper}}} text{{fill:{ink}}} .rule{{stroke:{rule}}}"]
        for number, hue in enumerate(hues):
            lines.append(f"circle.c{number}{{fill:{hue}}} line.c{number},polyline.c{number}{{stroke:{hue}}}")
        return " ".join(lines)

    fonts = "text{font:12px sans-serif} .title{font-size:15px;font-weight:600} .label{font-size:13px}"
    lines = "polyline{fill:none;stroke-width:2} line{stroke-width:2} .rule{stroke-width:1}"
    dark = colours("#14171a", "#e8e6e1", "#30363c", _DARK)
    light = colours("#ffffff", "#1c2126", "#e2dfd7", _LIGHT)
    return f"{fonts} {lines} {light} @media (prefers-color-scheme:dark){{{dark}}}"
