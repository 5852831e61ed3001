"""The use of each codebook: counts by rank, perplexity over steps, replacement events, initialization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from flatvq.metrics import LEVEL_METRICS
from flatvq.number_format import number, percent
from flatvq.records import Arm, Study, TrialLevel
from flatvq.report.curves import Line, over_steps
from flatvq.report.formatting import as_text, level_name
from flatvq.report.palette import Style
from flatvq.report.points import Point, points
from flatvq.report.runs import Run
from flatvq.report.summary import mean, mean_curve, thin
from flatvq.report.svg import Frame, Scale, drawing, polyline

__all__ = ["Panel", "panels"]

HEIGHT = 112
_OUT_OF_K = {"perplexity", "used_codes", "codes_for_99"}
_INITIALIZATIONS = {"KMeans": "k-means", "Data": "data samples", "Random": "random samples"}
MAX_POINTS = 60
_COLLAPSES = {
    "codes": "the encoder outputs share few codes; dead-code replacement helps against this",
    "latents": "the encoder outputs hardly differ, so dead-code replacement has no vectors to draw from; "
    "a smaller commitment weight or a longer warm-up may help",
}


@dataclass(frozen=True)
class Panel:
    """One codebook of one arm: facts, and up to four small charts with their headings."""

    heading: str
    facts: list[str]
    drawings: list[tuple[str, Markup | None]]


def panels(study: Study, arm: Arm, runs: Sequence[Run], style: Style) -> list[Panel]:
    """Describe and draw the codebooks of an arm, from the bottom level to the top.

    Args:
        study: the study, which holds the metrics of the trials.
        arm: the arm.
        runs: the records of its trials.
        style: its style.

    Returns:
        A panel per level. A chart is None if its records are missing.
    """
    return [_panel(study, arm, level, runs, style) for level in range(len(arm.level_table))]


def _panel(study: Study, arm: Arm, level: int, runs: Sequence[Run], style: Style) -> Panel:
    structure = arm.level_table[level]
    name = level_name(level, len(arm.level_table))
    where = f"{arm.name}, {name}"
    levels = [t.levels[level] for t in study.done(arm.name) if t.levels and level < len(t.levels)]
    perplexity = _line(arm, style, runs, [run.level_curve(level, "perplexity") for run in runs])
    events = [run.of_level("replacement", level) for run in runs]
    replaced = _line(arm, style, runs, [points(rows, "replaced") for rows in events])
    survived = _line(arm, style, runs, [points(rows, "survived") for rows in events])
    highest = max([1.0, *(value for curve in replaced.seeds for _, value in curve)])
    last = max([0.0, *(step for run in runs for step, _ in run.curve("validation", "step"))])
    replacement_charts = [
        ("codes replaced over steps", _steps(f"Codes replaced in {where}", replaced, 1.05 * highest, last)),
        ("share still active at the next event", _steps(f"Survival in {where}", survived, 1.0, last)),
    ]
    rows, columns = structure.grid
    return Panel(
        heading=f"{name}, grid {rows} × {columns}, K {structure.codebook_sizes}",
        facts=[*_facts(levels), *_collapses(levels), *_init(runs, level), *_replacements(events)],
        drawings=[
            ("uses per code, codes sorted by use", _histogram(where, level, runs, style)),
            (
                "perplexity over steps",
                _steps(f"Perplexity of {where}", perplexity, float(structure.codebook_size), last),
            ),
            *(replacement_charts if any(events) else []),
        ],
    )


def _facts(levels: Sequence[TrialLevel]) -> list[str]:
    if not levels:
        return ["no finished trial"]
    out_of = f" of {number(levels[0].codebook_size)}"
    means = {
        key: (metric, mean(level.value(key) for level in levels)) for key, metric in LEVEL_METRICS.items()
    }
    return [
        f"{metric.label} {metric.format(value)}{out_of if key in _OUT_OF_K else ''}"
        for key, (metric, value) in means.items()
    ]


def _collapses(levels: Sequence[TrialLevel]) -> list[str]:
    """Return in how many trials the codebook collapsed, with the cause and a remedy."""
    kinds = [level.collapse for level in levels]
    return [
        f"collapsed in {kinds.count(kind)} of {len(kinds)} trials: {cause}"
        for kind, cause in _COLLAPSES.items()
        if kind in kinds
    ]


def _init(runs: Sequence[Run], level: int) -> list[str]:
    rows = [row for run in runs for row in run.of_level("init", level)]
    return list(dict.fromkeys(_initialized(row) for row in rows)) or ["no record of the initialization"]


def _initialized(row: dict[str, Any]) -> str:
    method = as_text(row.get("method")).removesuffix("Init") or "an unknown method"
    vectors, filled = (points([row], key) for key in ("vectors", "filled"))
    source = f" from {number(vectors[0][1])} vectors" if vectors and vectors[0][1] else ""
    jittered = f", {number(filled[0][1])} codes are jittered copies" if filled and filled[0][1] else ""
    return f"initialized by {_INITIALIZATIONS.get(method, method)}{source}{jittered}"


def _replacements(events: Sequence[list[dict[str, Any]]]) -> list[str]:
    if not any(events):
        return ["no replacement events"]
    total = [sum(int(value) for _, value in points(rows, "replaced")) for rows in events if rows]
    alive = mean(value for rows in events for _, value in points(rows, "survived"))
    return [
        f"{number(mean(total))} codes replaced per trial; "
        f"{percent(alive)} of them still active at the next event"
    ]


def _line(arm: Arm, style: Style, runs: Sequence[Run], curves: Sequence[list[Point]]) -> Line:
    present = [
        (run.trial.done, thin(curve, MAX_POINTS)) for run, curve in zip(runs, curves, strict=True) if curve
    ]
    return Line(arm.name, style, [curve for _, curve in present], [curve for done, curve in present if done])


def _steps(title: str, line: Line, high: float, last: float) -> Markup | None:
    if not line.seeds:
        return None
    last = max([last, *(step for curve in line.seeds for step, _ in curve)])
    return over_steps(title, [line], Scale(0.0, high), last, "", HEIGHT)


def _histogram(where: str, level: int, runs: Sequence[Run], style: Style) -> Markup | None:
    """Draw the uses of each code, most used first. Unused codes lie on the base line."""
    counts = [sorted(run.counts[level], reverse=True) for run in runs if level < len(run.counts)]
    counts = [ranked for ranked in counts if ranked and ranked[0] > 0]
    if not counts:
        return None
    size = max(len(ranked) for ranked in counts)
    frame = Frame(
        Scale(0.0, float(size)), Scale(0.5, 1.5 * max(ranked[0] for ranked in counts), log=True), HEIGHT
    )
    ranks = sorted({round(i * (size - 1) / (MAX_POINTS - 1)) for i in range(MAX_POINTS)} | {size})
    curves = [[(float(r), float(ranked[min(r, len(ranked) - 1)])) for r in ranks] for ranked in counts]
    average = mean_curve(curves)
    area = [(0.0, 0.5), *average, (float(size), 0.5)]
    lines = [polyline(frame, area, "area", style.css)]
    lines += [polyline(frame, curve, "line thin", style.css) for curve in curves]
    lines += [polyline(frame, average, "line strong", style.css)]
    unused = mean(float(sum(count == 0 for count in ranked)) for ranked in counts)
    title, description = f"Code counts of {where}", f"{number(unused)} of {number(size)} codes never used"
    return drawing(
        title, description, HEIGHT + 26, frame.axes(frame.x.ticks(3), frame.y.ticks(4)), frame.curves(*lines)
    )
