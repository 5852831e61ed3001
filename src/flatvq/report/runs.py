"""The files of a trial: records, code counts and sample pictures. Each may be missing."""

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
        trial: the trial in `study.json`.
        samples: folder of the sample pictures; None if it is missing.
        records: validation, train, init and replacement records, by kind.
        counts: number of uses of each code, by level; empty if `codes.json` is missing.
        notes: missing and damaged files, for the report.
        has_folder: whether the folder of the run exists.
    """

    trial: Trial
    samples: Path | None
    records: dict[str, list[dict[str, Any]]]
    counts: Counts
    notes: tuple[str, ...]
    has_folder: bool = True

    def curve(self, kind: str, key: str) -> list[Point]:
        """Return a value of the run over steps."""
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
    """Read the records of a trial.

    Args:
        study_folder: the folder that `trial.run` is relative to.
        trial: the trial in `study.json`.

    Returns:
        The records. Missing and damaged files are empty and listed in `notes`.
    """
    try:
        folder = trial.folder(study_folder)
    except FlatvqError as error:
        return _empty(trial, error.what)
    if not folder.is_dir():
        return _empty(trial, f"the folder {trial.run!r} is missing")
    notes: list[str] = []
    lines = _read_or_note(lambda: read_rows(folder / "records.jsonl"), JsonLines([], truncated=False), notes)
    if lines.truncated:
        notes.append("the incomplete last line of records.jsonl was dropped")
    counts = _read_or_note(lambda: _counts(folder), NO_COUNTS, notes) if trial.done else NO_COUNTS
    samples = folder / "samples"
    return Run(
        trial=trial,
        samples=samples if samples.is_dir() else None,
        records={kind: last_of(lines.rows, kind) for kind in KINDS},
        counts=counts,
        notes=tuple(notes),
    )


def _empty(trial: Trial, note: str) -> Run:
    records: dict[str, list[dict[str, Any]]] = {kind: [] for kind in KINDS}
    return Run(trial, samples=None, records=records, counts=(), notes=(note,), has_folder=False)


def _read_or_note(read: Callable[[], T], default: T, notes: list[str]) -> T:
    try:
        return read()
    except FlatvqError as error:
        notes.append(error.what)
        return default


def _counts(run: Path) -> Counts:
    return tuple(level.counts for level in read_codes(run).levels)
