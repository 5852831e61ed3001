"""What a trial wrote while it ran: curves, init, replacements, code counts, samples. Each may be absent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flatvq.errors import FlatvqError
from flatvq.records import JsonLines, Trial, read_codes, read_rows
from flatvq.report.points import Point, last_of, points

__all__ = ["Run", "load_run"]

T = TypeVar("T")

Counts = tuple[tuple[int, ...], ...]
NO_COUNTS: Counts = ()

KINDS = ("validation", "train", "init", "replacement")


@dataclass(frozen=True)
class Run:
    """The records of a trial.

    Attributes:
        trial: the trial's line in study.json.
        samples: folder of its sample pictures, None if there is none.
        records: validation, train, init and replacement records, by kind.
        counts: how often each code was used, by level; empty where codes.json is missing.
        notes: what is missing or damaged, for the reader of the page.
    """

    trial: Trial
    samples: Path | None
    records: dict[str, list[dict[str, Any]]]
    counts: Counts
    notes: tuple[str, ...]

    def curve(self, kind: str, key: str) -> list[Point]:
        """Return a value over steps."""
        return points(self.records[kind], key)

    def level_curve(self, level: int, key: str) -> list[Point]:
        """Return a value of one level over the validation steps."""
        rows = []
        for row in self.records["validation"]:
            levels = row.get("levels")
            if isinstance(levels, list) and level < len(levels) and isinstance(levels[level], dict):
                rows.append({"step": row["step"], key: levels[level].get(key)})
        return points(rows, key)

    def of_level(self, kind: str, level: int) -> list[dict[str, Any]]:
        """Return the init or replacement records of one level."""
        return [row for row in self.records[kind] if row.get("level", 0) == level]


def load_run(study_folder: Path, trial: Trial) -> Run:
    """Read what a trial wrote.

    Args:
        study_folder: the folder that `trial.run` is relative to.
        trial: the trial's line in study.json.

    Returns:
        Its records; what is missing or damaged is said in `notes` and left empty.
    """
    try:
        folder = trial.folder(study_folder)
    except FlatvqError as error:
        return _nothing(trial, error.what)
    if not folder.is_dir():
        return _nothing(trial, f"its folder {trial.run!r} is missing")
    notes: list[str] = []
    lines = _or_note(lambda: read_rows(folder / "records.jsonl"), JsonLines([], truncated=False), notes)
    if lines.truncated:
        notes.append("the last line of records.jsonl was cut off and is dropped")
    counts = _or_note(lambda: _counts(folder), NO_COUNTS, notes) if trial.done else NO_COUNTS
    samples = folder / "samples"
    return Run(
        trial=trial,
        samples=samples if samples.is_dir() else None,
        records={kind: last_of(lines.rows, kind) for kind in KINDS},
        counts=counts,
        notes=tuple(notes),
    )


def _nothing(trial: Trial, note: str) -> Run:
    return Run(trial, samples=None, records={kind: [] for kind in KINDS}, counts=(), notes=(note,))


def _or_note(read: Callable[[], T], otherwise: T, notes: list[str]) -> T:
    try:
        return read()
    except FlatvqError as error:
        notes.append(error.what)
        return otherwise


def _counts(run: Path) -> Counts:
    return tuple(level.counts for level in read_codes(run).levels)
