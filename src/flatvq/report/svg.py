"""SVG elements, scales with round ticks, and chart frames whose text keeps its size at any width.

Horizontal positions are percentages of the width and vertical positions are pixels, so a chart fits narrow
and wide screens without scaled text. Polylines do not support percentages. They lie in a nested SVG that is
stretched, with strokes that are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from markupsafe import Markup, escape

from flatvq.report.formatting import tick
from flatvq.report.points import Point

__all__ = ["Frame", "Scale", "drawing", "polyline", "span", "tag"]


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """Return an element. Text and attributes are escaped, markup is not; empty attributes are left out.

    Example:
        >>> tag("text", "a < b", x="50%", text_anchor="middle", class_="tick")
        Markup('<text x="50%" text-anchor="middle" class="tick">a &lt; b</text>')
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for key, value in attributes.items()
        if value != ""
    )
    return Markup(f"<{name}{pairs}>{''.join(map(escape, children))}</{name}>")


def drawing(title: str, description: str, height: int, *children: str, kind: str = "plot") -> Markup:
    """Return a drawing of full width, with a title and a description for screen readers."""
    labels = (tag("title", title), tag("desc", description))
    return tag("svg", *labels, *children, class_=kind, role="img", width="100%", height=height)


@dataclass(frozen=True)
class Scale:
    """Maps [low, high] to [0, 1], linearly or logarithmically.

    Example:
        >>> Scale(0.0, 600.0)(150.0), Scale(1.0, 100.0, log=True)(10.0), Scale(22.1, 25.4).ticks(4)
        (0.25, 0.5, [23.0, 24.0, 25.0])
    """

    low: float
    high: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a value."""
        if self.log:
            return Scale(log10(self.low), log10(self.high))(log10(max(value, self.low)))
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 5) -> list[float]:
        """Return round values in the range: at least two, and about `most` at most."""
        if self.log:
            return self._log_ticks(most)
        rough = (self.high - self.low) / most
        power = 10.0 ** floor(log10(rough))
        steps = [m * power for m in (0.5, 1, 2, 5, 10)]
        index = next(index for index, step in enumerate(steps) if step >= rough * (1 - 1e-9))
        ticks = self._multiples(steps[index])
        return ticks if len(ticks) > 1 else self._multiples(steps[index - 1])

    def _multiples(self, step: float) -> list[float]:
        first, last = ceil(self.low / step - 1e-9), floor(self.high / step + 1e-9)
        return [round(n * step, 12) for n in range(first, last + 1)]

    def _log_ticks(self, most: int) -> list[float]:
        """Return powers of ten, or every n-th power, or powers with their multiples by 2 and 5."""
        powers = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
        inside = [10.0**power for power in powers if self.low <= 10.0**power <= self.high]
        if len(inside) >= min(3, most):
            return inside[:: ceil(len(inside) / most)]
        finer = [round(m * 10.0**power, 12) for power in powers for m in (1, 2, 5)]
        return [value for value in finer if self.low <= value <= self.high]


def span(values: Iterable[float], room: float = 0.06) -> Scale:
    """Return a linear scale that holds the values with some room at both ends."""
    present = list(values)
    low, high = min(present), max(present)
    extra = room * (high - low) or max(abs(low), 1.0) * room
    return Scale(low - extra, high + extra)


def percent_of(position: float) -> str:
    """Return a position in [0, 1] as a percentage of the width of the drawing."""
    return f"{100 * position:.2f}%"


@dataclass(frozen=True)
class Frame:
    """The axes of a chart.

    Attributes:
        x, y: scales of the horizontal and the vertical axis.
        height: height of the plotting area in pixels.
    """

    x: Scale
    y: Scale
    height: int

    def axes(self, x_ticks: Sequence[float], y_ticks: Sequence[float]) -> Markup:
        """Draw horizontal rules at the ticks of y, and the labels of both axes."""
        parts: list[str] = []
        for value in y_ticks:
            down = f"{self.height * (1 - self.y(value)):.1f}"
            parts.append(tag("line", class_="rule", x1="0", x2="100%", y1=down, y2=down))
            parts.append(
                tag("text", tick(value), class_="tick", x="-8", y=down, dy="0.32em", text_anchor="end")
            )
        for value in x_ticks:
            across = percent_of(self.x(value))
            parts.append(
                tag("text", tick(value), class_="tick", x=across, y=self.height + 18, text_anchor="middle")
            )
        return Markup().join(parts)

    def curves(self, *lines: str) -> Markup:
        """Wrap polylines so that they are stretched to the frame and clipped to it."""
        box = {"viewBox": "0 0 1000 1000", "preserveAspectRatio": "none"}
        return tag("svg", *lines, x="0", y="0", width="100%", height=self.height, **box)

    def across(self, value: float) -> str:
        """Return the horizontal position of a value as a percentage."""
        return percent_of(self.x(value))

    def down(self, value: float) -> str:
        """Return the vertical position of a value in pixels from the top."""
        return f"{self.height * (1 - self.y(value)):.1f}"


def polyline(frame: Frame, line: Sequence[Point], css: str, style: str = "") -> Markup:
    """Draw a curve, for use inside `Frame.curves`; a single point becomes a short dash."""
    positions = [(round(1000 * frame.x(x)), round(1000 * (1 - frame.y(y)))) for x, y in line]
    if len(positions) == 1:
        positions = [(positions[0][0] - 8, positions[0][1]), (positions[0][0] + 8, positions[0][1])]
    text = " ".join(f"{across},{down}" for across, down in positions)
    return tag("polyline", points=text, class_=css, style=style, vector_effect="non-scaling-stroke")
