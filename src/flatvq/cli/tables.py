"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from flatvq.metrics import LEVEL_METRICS, PRIMARY, TRIAL_METRICS, Metric, shown_in
from flatvq.number_format import decimals
from flatvq.records import Comparison, Curves, Study
from flatvq.study import Outcome, Plan
from flatvq.study.estimates import mean_interval

__all__ = [
    "console",
    "duration",
    "new_table",
    "show_comparisons",
    "show_estimate",
    "show_failures",
    "show_look",
    "show_metrics",
    "show_next_look",
    "show_study",
]

# Names, titles and error messages come from the user, so they are not parsed as markup.
console = Console(markup=False, emoji=False)

_MAX_FILES = 20
_WIDTH_OF_NAMES = 22


def show_look(plan: Plan, look: int) -> None:
    """Print which look a study runs."""
    looks = plan.recipe.looks
    trials = len(plan.trials_at(look))
    console.print(
        f"Look {looks.index(look) + 1} of {len(looks)}: {look} seeds, {trials} trials", style="bold"
    )


def show_next_look(look: int, seconds: float | None, continues: bool) -> None:
    """Print the seeds and the estimated time of the next look.

    Args:
        look: the number of seeds of the next look.
        seconds: the estimated wall time; None if it is not known.
        continues: whether the study continues by itself.
    """
    time = f", about {duration(seconds)}" if seconds is not None else ""
    how = "" if continues else ". Run the same command again to go on"
    console.print(f"Next look: {look} seeds{time}{how}.")


def show_estimate(plan: Plan, seconds: float) -> None:
    """Print how long the first look of a study will take."""
    console.print(
        f"Estimated time of the first look ({plan.recipe.looks[0]} seeds) on this machine: "
        f"{duration(seconds)} (measured on a few steps of each arm)"
    )


def show_failures(outcomes: Iterable[Outcome]) -> None:
    """Print the error of each failed trial."""
    for outcome in outcomes:
        if outcome.status == "failed":
            trial = outcome.trial.recipe
            text = f"failed: {trial.arm} seed {trial.seed}: {outcome.error}"
            console.print(text, style="red", soft_wrap=True)


def show_study(study: Study) -> None:
    """Print the results of a study."""
    compared = TRIAL_METRICS[study.design.metric if study.design else PRIMARY]
    metrics = [metric for metric in shown_in("terminal", TRIAL_METRICS) if metric.key != compared.key]
    level_metrics = shown_in("terminal", LEVEL_METRICS)
    # Two tables, because a terminal of 80 characters cuts the headings of a wider one.
    headings = [metric.heading for metric in metrics]
    fidelity = new_table("Fidelity on held-out crops", "arm", compared.heading, "90 % interval", *headings)
    level_headings = [*(metric.heading for metric in level_metrics), "ms per training step"]
    codebooks = new_table("Codebooks on held-out crops, bottom level first", "arm", *level_headings)
    for arm in study.arms:
        trials = study.done(arm.name)
        if not trials:
            fidelity.add_row(arm.name, "failed", "", *("" for _ in headings))
            codebooks.add_row(arm.name, "failed", *("" for _ in level_headings[1:]))
            continue
        mean, interval = _over_seeds(
            compared, [value for trial in trials if (value := trial.value(compared.key)) is not None]
        )
        values = [metric.format(_mean(trial.value(metric.key) for trial in trials)) for metric in metrics]
        level_values = [
            " / ".join(
                metric.format(_mean(level.value(metric.key) for level in levels))
                for levels in zip(*(trial.levels or () for trial in trials), strict=True)
            )
            for metric in level_metrics
        ]
        seconds = _mean(trial.seconds_per_step for trial in trials)
        fidelity.add_row(arm.name, mean, interval, *values)
        codebooks.add_row(arm.name, *level_values, _milliseconds(seconds))
    console.print(fidelity)
    console.print(codebooks)
    primary = [comparison for comparison in study.comparisons if comparison.primary]
    secondary = [comparison for comparison in study.comparisons if not comparison.primary]
    show_comparisons(f"Primary comparison of {compared.label}", primary)
    show_comparisons(
        f"{'Secondary comparisons' if primary else 'Comparisons'} of {compared.label}", secondary
    )
    show_curves(study.curves, decimals(study.margin))
    if study.mixed_precision:
        console.print(study.mixed_precision, style="yellow", soft_wrap=True)
    console.print(study.verdict.lead or study.verdict.sentence, style="bold")
    if study.verdict.lead and study.verdict.rest:
        console.print(study.verdict.rest)


def _milliseconds(seconds: float | None) -> str:
    return "–" if seconds is None else f"{1000 * seconds:.3g}"


def _over_seeds(metric: Metric, values: Sequence[float]) -> tuple[str, str]:
    """Return the mean over seeds and its 90 % interval."""
    over_seeds = mean_interval(values)
    if not over_seeds.interval:
        return metric.format(over_seeds.mean), "one seed"
    low, high = map(metric.format, over_seeds.interval)
    return metric.format(over_seeds.mean), f"{low} to {high}"


def show_comparisons(title: str, comparisons: Sequence[Comparison]) -> None:
    """Print differences between arms, with their verdicts.

    Args:
        title: title of the table.
        comparisons: the comparisons; nothing is printed if there are none.
    """
    if not comparisons:
        return
    metric = TRIAL_METRICS[comparisons[0].metric or PRIMARY]
    unit = f", {metric.unit}" if metric.unit else ""
    digits = decimals(comparisons[0].margin)
    table = new_table(title, "a\nminus b", f"difference{unit}", "90 % interval", "verdict")
    table.columns[2].no_wrap = table.columns[3].no_wrap = True
    for comparison in comparisons:
        interval = comparison.interval
        spread = f"{interval[0]:+.{digits}f} to {interval[1]:+.{digits}f}" if interval else "one seed"
        difference = "" if comparison.difference is None else f"{comparison.difference:+.{digits}f}"
        table.add_row(_names(comparison), difference, spread, comparison.verdict)
    console.print(table)


def show_curves(curves: Sequence[Curves], digits: int) -> None:
    """Print how rate curves compare at equal bits, and at an equal metric; nothing if there are none.

    Args:
        curves: the comparisons.
        digits: digits of the metric after the decimal point.
    """
    if not curves:
        return
    metric = TRIAL_METRICS[curves[0].metric]
    unit = f", {metric.unit}" if metric.unit else ""
    headings = (f"{metric.label} at\nequal bits{unit}", "verdict", f"extra bits at\nequal {metric.label}")
    table = new_table("Rate curves, with 90 % intervals", "a\nminus b", "bits", *headings)
    table.columns[0].max_width = _WIDTH_OF_NAMES
    table.columns[2].no_wrap = table.columns[4].no_wrap = True
    for each in curves:
        a, b = (",\n".join(arms) for arms in (each.a, each.b))
        names = f"{a}\nminus {b}"
        gain, extra = each.difference, each.extra_bits_percent
        if gain is None or extra is None:
            reason = fill(each.reason or "", _WIDTH_OF_NAMES)
            table.add_row(f"{names}\n{reason}", each.bits, "–", "–", "–")
            continue
        cells = _with_interval(gain, each.interval90, digits), each.verdict or ""
        if each.shared_bits and each.shared_metric:
            (fewest, most), (low, high) = each.shared_bits, each.shared_metric
            names += f"\n{fewest:.3g} to {most:.3g} bits per pixel"
            names += f"\n{low:.{digits}f} to {high:.{digits}f} {metric.unit}"
        table.add_row(names, each.bits, *cells, _with_interval(extra, each.extra_bits_interval90, 0, " %"))
    console.print(table)


def _with_interval(value: float, interval: tuple[float, float] | None, digits: int, unit: str = "") -> str:
    ends = "one seed" if interval is None else f"{interval[0]:+.{digits}f} to {interval[1]:+.{digits}f}"
    return f"{value:+.{digits}f}{unit}\n{ends}"


def _names(comparison: Comparison) -> str:
    if comparison.c is None:
        return f"{comparison.a}\nminus {comparison.b}"
    return f"({comparison.a}\n minus {comparison.b})\nminus ({comparison.c}\n minus {comparison.d})"


def show_metrics(metrics: dict[str, Any], folder: Path | str) -> None:
    """Print the metrics of one run.

    Args:
        metrics: the content of `metrics.json`.
        folder: folder of the run, or the name of a tokenizer.
    """
    table = new_table(str(folder), "metric", "value")
    for key, value in metrics.items():
        if value is None:
            table.add_row(key, "whole images" if key == "crop" else "undefined")
        elif isinstance(value, int | float | str) and key != "run":
            table.add_row(key, f"{value:.6g}" if isinstance(value, float) else str(value))
    for number, level in enumerate(metrics["levels"]):
        usage = f"{level['usage']:.1%} of {level['codebook_size']} codes"
        table.add_row(f"level {number}", f"{usage}, perplexity {level['perplexity']:.1f}")
    console.print(table)
    files = metrics.get("files", [])
    for file in files[:_MAX_FILES]:
        console.print(f"  {file['status']}: {file['name']}: {file['reason']}")
    if len(files) > _MAX_FILES:
        console.print(f"  and {len(files) - _MAX_FILES} more files")


def duration(seconds: float) -> str:
    """Format a duration.

    Example:
        >>> duration(42), duration(200), duration(7300)
        ('42 s', '3 min 20 s', '2 h 1 min')
    """
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60} min"


def new_table(title: str, first: str, *others: str) -> Table:
    """Create a compact table: the first column is not wrapped, the others are right-aligned.

    Args:
        title: title of the table.
        first: heading of the first column.
        *others: headings of the other columns.
    """
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right")
    return table


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None if there are none."""
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None
