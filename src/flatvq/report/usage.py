"""How each codebook was used: counts by rank, perplexity over time, replacements, init."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from flatvq.records import Arm, Study, TrialLevel
from flatvq.report.curves import Line, over_steps
from flatvq.report.formatting import level_name, number, percent, said
from flatvq.report.palette import Look
from flatvq.report.points import Point, points
from flatvq.report.runs import Run
from flatvq.report.summary import mean, mean_curve, thin
from flatvq.report.svg import Frame, Scale, drawing, polyline

__all__ = ["Panel", "panels"]

HEIGHT = 112
MOST_POINTS = 60
_KINDS = {
    "codes": "the encoder’s vectors share few codes; dead-code replacement mends that",
    "latents": "the encoder gives few different vectors, so that none are left to replace codes with; "
    "a weaker commitment or a longer warm-up may help",
}


@dataclass(frozen=True)
class Panel:
    """One codebook of one arm: facts in words and up to four small drawings by heading."""

    heading: str
    facts: list[str]
    drawings: list[tuple[str, Markup | None]]


def panels(study: Study, arm: Arm, runs: Sequence[Run], look: Look) -> list[Panel]:
    """Show an arm's codebooks, from the bottom level to the top.

    Args:
        study: for the metrics of the arm's trials.
        arm: the arm.
        runs: its trials' records.
        look: its look.

    Returns:
        A panel per level; a drawing is None where its records are missing.
    """
    return [_panel(study, arm, level, runs, look) for level in range(len(arm.level_table))]


def _panel(study: Study, arm: Arm, level: int, runs: Sequence[Run], look: Look) -> Panel:
    built = arm.level_table[level]
    name = level_name(level, len(arm.level_table))
    where = f"{arm.name}, {name}"
    found = [t.levels[level] for t in study.done(arm.name) if t.levels and level < len(t.levels)]
    perplexity = _line(arm, look, runs, [run.level_curve(level, "perplexity") for run in runs])
    events = [run.of_level("replacement", level) for run in runs]
    replaced = _line(arm, look, runs, [points(rows, "replaced") for rows in events])
    survived = _line(arm, look, runs, [points(rows, "survived") for rows in events])
    most = max([1.0, *(value for curve in replaced.seeds for _, value in curve)])
    last = max([0.0, *(step for run in runs for step, _ in run.curve("validation", "step"))])
    drawings_of_replacement = [
        ("codes replaced over steps", _steps(f"Codes replaced in {where}", replaced, 1.05 * most, last)),
        ("share of new codes active at the next event", _steps(f"Survival in {where}", survived, 1.0, last)),
    ]
    return Panel(
        heading=f"{name}, grid {built.grid[0]} × {built.grid[1]}, K {built.codes}",
        facts=[*_facts(found), *_collapses(found), *_init(runs, level), *_replacements(events)],
        drawings=[
            ("times used, codes by rank", _histogram(where, level, runs, look)),
            (
                "perplexity over steps",
                _steps(f"Perplexity of {where}", perplexity, float(built.codebook_size), last),
            ),
            *(drawings_of_replacement if any(events) else []),
        ],
    )


def _facts(found: Sequence[TrialLevel]) -> list[str]:
    if not found:
        return ["no finished trial"]
    size = number(found[0].codebook_size)
    return [
        f"{percent(mean(level.usage for level in found), 1)} used",
        f"perplexity {number(mean(level.perplexity for level in found))} of {size}",
        f"99 % of the mass in {number(mean(level.codes_for_99 for level in found))} codes",
        f"quantisation error {number(mean(level.quantization_error for level in found), 3)}",
    ]


def _collapses(found: Sequence[TrialLevel]) -> list[str]:
    """Say in how many trials the level ended collapsed, and what that kind of collapse asks for."""
    kinds = [level.collapse for level in found]
    return [
        f"collapsed in {kinds.count(kind)} of {len(kinds)} trials: {what}"
        for kind, what in _KINDS.items()
        if kind in kinds
    ]


def _init(runs: Sequence[Run], level: int) -> list[str]:
    rows = [row for run in runs for row in run.of_level("init", level)]
    return list(dict.fromkeys(_initialized(row) for row in rows)) or ["no init record"]


def _initialized(row: dict[str, Any]) -> str:
    method = said(row.get("method")).removesuffix("Init").lower() or "an unnamed method"
    vectors, filled = (points([row], key) for key in ("vectors", "filled"))
    source = f" from {number(vectors[0][1])} vectors" if vectors and vectors[0][1] else ""
    made_up = f", {number(filled[0][1])} codes made up by jitter" if filled and filled[0][1] else ""
    return f"initialized by {method}{source}{made_up}"


def _replacements(events: Sequence[list[dict[str, Any]]]) -> list[str]:
    if not any(events):
        return ["no replacement event"]
    total = [sum(int(value) for _, value in points(rows, "replaced")) for rows in events if rows]
    alive = mean(value for rows in events for _, value in points(rows, "survived"))
    return [
        f"{number(mean(total))} codes replaced per trial, {percent(alive)} of them active at the next event"
    ]


def _line(arm: Arm, look: Look, runs: Sequence[Run], curves: Sequence[list[Point]]) -> Line:
    present = [
        (run.trial.done, thin(curve, MOST_POINTS)) for run, curve in zip(runs, curves, strict=True) if curve
    ]
    return Line(arm.name, look, [curve for _, curve in present], [curve for done, curve in present if done])


def _steps(title: str, line: Line, high: float, last: float) -> Markup | None:
    if not line.seeds:
        return None
    last = max([last, *(step for curve in line.seeds for step, _ in curve)])
    return over_steps(title, [line], Scale(0.0, high), last, "", HEIGHT)


def _histogram(where: str, level: int, runs: Sequence[Run], look: Look) -> Markup | None:
    """Draw how often codes were used, most used first; codes never used lie on the ground."""
    counts = [sorted(run.counts[level], reverse=True) for run in runs if level < len(run.counts)]
    counts = [ranked for ranked in counts if ranked and ranked[0] > 0]
    if not counts:
        return None
    size = max(len(ranked) for ranked in counts)
    frame = Frame(
        Scale(0.0, float(size)), Scale(0.5, 1.5 * max(ranked[0] for ranked in counts), log=True), HEIGHT
    )
    ranks = sorted({round(i * (size - 1) / (MOST_POINTS - 1)) for i in range(MOST_POINTS)} | {size})
    curves = [[(float(r), float(ranked[min(r, len(ranked) - 1)])) for r in ranks] for ranked in counts]
    average = mean_curve(curves)
    ground = [(0.0, 0.5), *average, (float(size), 0.5)]
    lines = [polyline(frame, ground, "area", look.css)]
    lines += [polyline(frame, curve, "line thin", look.css) for curve in curves]
    lines += [polyline(frame, average, "line strong", look.css)]
    unused = mean(float(sum(count == 0 for count in ranked)) for ranked in counts)
    title, told = f"Code counts of {where}", f"{number(unused)} of {number(size)} codes never used"
    return drawing(
        title, told, HEIGHT + 26, frame.axes(frame.x.ticks(3), frame.y.ticks(4)), frame.curves(*lines)
    )
