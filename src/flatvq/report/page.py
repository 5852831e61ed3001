"""The page: one file with its style, charts and pictures inside. The same records give the same bytes."""

from __future__ import annotations

from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from flatvq.files import write_text
from flatvq.records import Study, load_search, load_study
from flatvq.report import formatting
from flatvq.report.arms import view_arm
from flatvq.report.bits import bits_rows
from flatvq.report.curves import loss_chart, validation_chart
from flatvq.report.forest import groups
from flatvq.report.palette import looks
from flatvq.report.runs import Run, load_run
from flatvq.report.samples import gallery
from flatvq.report.tuning import history_chart, importance_bars, tuning_sentence
from flatvq.report.usage import panels

__all__ = ["write_report", "write_tuning"]

MOST_FILES = 300
"""File file_statuses listed on the page; study.json has them all."""


def write_report(study_folder: str | Path) -> Path:
    """Write STUDY/report.html from a study's records.

    The page needs no network, no script and no tensor: it is drawn from study.json and the run folders'
    records, pictures and code counts. What is missing is said where it would have been.

    Args:
        study_folder: a study's folder, as laid out in docs/records.md.

    Returns:
        The page's path.

    Raises:
        FlatvqError: if study.json is missing or does not hold a study.
    """
    folder = Path(study_folder)
    study = load_study(folder)
    runs = [load_run(folder, trial) for trial in study.trials]
    return _written(folder, _environment().get_template("page.html").render(_context(study, runs)))


def write_tuning(folder: Path) -> Path:
    """Write SEARCH/report.html from a search's tune.json.

    Args:
        folder: a search's folder.

    Returns:
        The page's path.

    Raises:
        FlatvqError: if tune.json is missing or does not hold a search.
    """
    search = load_search(folder)
    context = {
        "tuning": search,
        "trials": sorted(search.trials, key=lambda trial: trial.number),
        "counts": Counter(trial.state for trial in search.trials),
        "sentence": tuning_sentence(search.confirmed),
        "history": history_chart(search),
        "importance": importance_bars(search),
    }
    return _written(folder, _environment().get_template("tune.html").render(context))


def _written(folder: Path, text: str) -> Path:
    target = folder / "report.html"
    write_text(target, text)
    return target


@cache
def _environment() -> Environment:
    """Return the templates, compiled once."""
    loader = PackageLoader("flatvq", "report")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    names = ("amount", "brief", "number", "percent", "said", "signed")
    environment.filters.update({name: getattr(formatting, name) for name in names})
    return environment


def _context(study: Study, runs: list[Run]) -> dict[str, Any]:
    look_of = looks(study.arms)
    names = [arm.name for arm in study.arms]
    return {
        "study": study,
        "arms": [view_arm(study, arm, look_of[arm.name]) for arm in study.arms],
        "looks": look_of,
        "seeds": sorted({trial.seed for trial in study.trials}),
        "failed": [trial for trial in study.trials if not trial.done],
        "groups": groups(study),
        "validation": validation_chart(runs, look_of),
        "loss": loss_chart(runs, look_of),
        "panels": {
            arm.name: panels(
                study, arm, [run for run in runs if run.trial.arm == arm.name], look_of[arm.name]
            )
            for arm in study.arms
        },
        "bits": bits_rows(study, look_of),
        "gallery": gallery(names, runs),
        "file_statuses": Counter(file.status for file in study.data.files),
        "most_files": MOST_FILES,
        "notes": [(run.trial, note) for run in runs for note in run.notes],
    }
