"""Rendering of the reports: one HTML file with style sheet, charts and pictures. It is deterministic."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from flatvq import number_format
from flatvq.capacities import CAPACITIES
from flatvq.files import write_text
from flatvq.metrics import LEVEL_METRICS, PRIMARY, TRIAL_METRICS, Metric, shown_in
from flatvq.records import Study, load_search, load_study
from flatvq.report.arms import arm_columns, view_arm
from flatvq.report.bits import bits_rows
from flatvq.report.curves import loss_chart, validation_chart
from flatvq.report.forest import groups
from flatvq.report.formatting import as_text, setting
from flatvq.report.palette import styles_of
from flatvq.report.runs import Run, load_run
from flatvq.report.samples import gallery
from flatvq.report.sections import REPORT_SECTIONS
from flatvq.report.tuning import history_chart, importance_bars, tuning_sentence
from flatvq.report.usage import panels

__all__ = ["write_report", "write_tuning"]

MAX_FILES = 300
"""Number of files listed on the page; `study.json` lists all."""


def write_report(study_folder: str | Path) -> Path:
    """Write `report.html` from the records of a study.

    The page needs neither network nor scripts. It shows `study.json` and the records, sample pictures and
    code counts of the runs. Where records are missing, the page says so.

    Args:
        study_folder: folder of the study, as described in docs/records.md.

    Returns:
        The path of the page.

    Raises:
        FlatvqError: if `study.json` is missing or does not hold a study.

    Example:
        >>> write_report("nowhere")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: no study.json in 'nowhere': give the folder that `flatvq study` wrote
    """
    folder = Path(study_folder)
    study = load_study(folder)
    runs = [load_run(folder, trial) for trial in study.trials]
    return _write(folder, _environment().get_template("page.html").render(_context(study, runs)))


def write_tuning(folder: Path) -> Path:
    """Write `report.html` from the `tune.json` of a search.

    Args:
        folder: folder of the search.

    Returns:
        The path of the page.

    Raises:
        FlatvqError: if `tune.json` is missing or does not hold a search.
    """
    search = load_search(folder)
    context = {
        "search": search,
        "trials": sorted(search.trials, key=lambda trial: trial.number),
        "counts": Counter(trial.state for trial in search.trials),
        "sentence": tuning_sentence(search.confirmed),
        "history": history_chart(search),
        "importance": importance_bars(search),
    }
    return _write(folder, _environment().get_template("tune.html").render(context))


def _write(folder: Path, text: str) -> Path:
    target = folder / "report.html"
    write_text(target, text)
    return target


@cache
def _environment() -> Environment:
    """Return the environment of the templates; it is created once."""
    loader = PackageLoader("flatvq", "report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters = (number_format.number, number_format.percent, number_format.signed, as_text, setting)
    environment.filters.update({function.__name__: function for function in filters})
    return environment


def _trial_columns(study: Study) -> list[Metric]:
    """Return the metrics with a column in the table of trials: those that some trial has, or else all."""
    metrics = shown_in("trials", TRIAL_METRICS)
    present = [each for each in metrics if any(trial.value(each.key) is not None for trial in study.trials)]
    return present or metrics


def _context(study: Study, runs: list[Run]) -> dict[str, Any]:
    styles = styles_of(study.arms)
    names = [arm.name for arm in study.arms]
    metric = TRIAL_METRICS.get(study.design.metric if study.design else PRIMARY) or TRIAL_METRICS[PRIMARY]
    arms = [view_arm(study, arm, styles[arm.name]) for arm in study.arms]
    return {
        "study": study,
        "looks": _looks(study),
        "metric_label": metric.label,
        "unit": f" {metric.unit}" if metric.unit else "",
        "digits": number_format.decimals(study.margin),
        "higher_is_better": metric.higher_is_better is not False,
        "arms": arms,
        "arm_columns": arm_columns(arms, metric),
        "level_columns": shown_in("arms", LEVEL_METRICS),
        "trial_columns": _trial_columns(study),
        "capacities": list(CAPACITIES.values()),
        "matched_capacities": [CAPACITIES[key].label for key in study.match.capacities if key in CAPACITIES],
        "styles": styles,
        "seeds": sorted({trial.seed for trial in study.trials}),
        "failed": [trial for trial in study.trials if not trial.done],
        "groups": groups(study),
        "validation": validation_chart(runs, styles),
        "loss": loss_chart(runs, styles),
        "panels": {
            arm.name: panels(study, arm, [run for run in runs if run.trial.arm == arm.name], styles[arm.name])
            for arm in study.arms
        },
        "sections": _sections(study, runs),
        "bits": bits_rows(study, styles),
        "gallery": gallery(names, runs),
        "file_counts": Counter(file.status for file in study.data.files),
        "max_files": MAX_FILES,
        "has_runs": any(run.has_folder for run in runs),
        "notes": [(run.trial, note) for run in runs for note in run.notes],
    }


def _looks(study: Study) -> list[dict[str, Any]]:
    """Return the seeds, the time and the primary comparison of each look."""
    primary = study.design.primary if study.design else ()
    return [
        {"seeds": look.seeds, "created": look.created, "primary": comparison}
        for look in study.looks
        for comparison in look.comparisons
        if comparison.arms == primary
    ]


def _sections(study: Study, runs: list[Run]) -> list[tuple[str, str, Markup]]:
    """Render the sections of other packages: name, title and content of each."""
    return [
        (
            name,
            section.title,
            Markup(_environment().from_string(section.template).render(section.variables(study, runs))),
        )
        for name, section in REPORT_SECTIONS.items()
    ]
