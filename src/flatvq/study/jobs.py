"""The jobs of a study on a cluster, as its folder records them: STUDY/jobs/SUBMISSION.json.

The record of a submission is written before it is submitted. A study that was killed in between finds out by
the name of the submission whether its jobs exist.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from flatvq.engines.attempts import record_submission
from flatvq.engines.engine import Engine, State, Unit
from flatvq.errors import FlatvqError
from flatvq.files import write_json
from flatvq.recipe import ClusterRecipe
from flatvq.records import Record, read_record
from flatvq.records.reading import Format1, Several

__all__ = ["Jobs"]

_READABLE = 40


class _Submission(Record):
    """The content of a record."""

    format: Format1 = 1
    engine: str
    runs: Several[str]
    """The folders of the trials, relative to that of the study."""


class Jobs:
    """The jobs of a study. One process at a time may use them.

    Args:
        engine: the cluster.
        kind: the name of the engine.
        folder: the folder of the study.
        cluster: the section `cluster` of the recipe.

    Raises:
        FlatvqError: if the study has jobs of another engine, or a record is damaged.
    """

    def __init__(self, engine: Engine, kind: str, folder: Path, cluster: ClusterRecipe) -> None:
        self.engine, self.kind, self.folder, self.cluster = engine, kind, folder.resolve(), cluster
        self._jobs = self.folder / "jobs"
        self._submissions: dict[str, tuple[str, ...]] = {}
        self._places: dict[str, tuple[str, int]] = {}
        for path in sorted(self._jobs.glob("*.json"), key=lambda path: (path.stat().st_mtime_ns, path.name)):
            record = read_record(_Submission, path, "cancel its jobs and remove it")
            if record.engine != kind:
                what = f"the study has jobs on {record.engine!r}, not on {kind!r}"
                raise FlatvqError(what, f"use --on {record.engine}, or cancel them with --cancel first")
            self._add(path.stem, record.runs)

    def __contains__(self, run: Path) -> bool:
        """Return whether a trial has a job that may not have ended."""
        return run.as_posix() in self._places

    def submit(self, runs: Sequence[Path], name: str, *, again: bool = False) -> None:
        """Submit trials.

        Args:
            runs: their folders, relative to that of the study. They exist.
            name: the name of the study.
            again: whether earlier failures of these trials still count.

        Raises:
            FlatvqError: if the cluster refuses them.
        """
        parts = [
            runs[start : start + self.engine.largest] for start in range(0, len(runs), self.engine.largest)
        ]
        readable = re.sub(r"[^A-Za-z0-9_-]", "-", name)[:_READABLE]
        for part in parts:
            submission = f"{readable}-{secrets.token_hex(5)}"
            record = _Submission(engine=self.kind, runs=tuple(run.as_posix() for run in part))
            path = self._jobs / f"{submission}.json"
            if not again:
                for run in part:
                    record_submission(self.folder / run, submission)
            write_json(path, record.model_dump(mode="json"))
            units = [Unit(self.folder / run, ("flatvq", "train", str(self.folder / run))) for run in part]
            try:
                running = max(1, self.cluster.max_running // len(parts))
                self.engine.submit(submission, units, self._jobs, running)
            except FlatvqError:
                path.unlink()
                raise
            self._add(submission, record.runs)

    def states(self) -> dict[str, State] | None:
        """Return the states of the trials with jobs, by folder; None if the cluster does not answer."""
        if not self._submissions:
            return {}
        found = self.engine.states(list(self._submissions))
        if found is None:
            return None
        return {run: found.get(name, {}).get(index, "ended") for run, (name, index) in self._places.items()}

    def settle(self, run: Path) -> None:
        """Forget the job of a trial, and the submission once all its jobs are forgotten."""
        name, _ = self._places.pop(run.as_posix())
        if name not in {name for name, _ in self._places.values()}:
            del self._submissions[name]
            with suppress(FlatvqError):  # a cluster that does not answer keeps a job that has ended
                self.engine.cancel([name])
            (self._jobs / f"{name}.json").unlink(missing_ok=True)

    def cancel(self) -> int:
        """End all jobs; return the number of trials that had one."""
        count = len(self._places)
        self.engine.cancel(list(self._submissions))
        for name in self._submissions:
            (self._jobs / f"{name}.json").unlink(missing_ok=True)
        self._submissions, self._places = {}, {}
        return count

    def log_of(self, run: Path) -> Path:
        """Return the file with the output of the job of a trial."""
        name, index = self._places[run.as_posix()]
        return self._jobs / f"{name}-{index}.log"

    def _add(self, name: str, runs: Sequence[str]) -> None:
        self._submissions[name] = tuple(runs)
        self._places |= {run: (name, index) for index, run in enumerate(runs)}
