"""Waits for units on a cluster, and resubmits units that ended before they were done."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from flatvq.engines.attempts import attempts_of, ended_well, why_not_again
from flatvq.engines.engine import NoAnswerError, State
from flatvq.engines.jobs import Commands, Jobs
from flatvq.engines.silence import SilenceWatch
from flatvq.errors import FlatvqError

__all__ = ["UnitStatus", "Watcher", "failure_of", "run_units"]

_WATCH_SECONDS = 0.5


class UnitStatus(NamedTuple):
    """The state of a unit at a poll."""

    state: Literal["waiting", "running", "unknown", "done", "failed"]
    """Unknown while the cluster does not answer."""
    error: str | None = None
    """Why it has failed."""


class Watcher:
    """Polls units, and resubmits units whose jobs ended before they were done.

    Args:
        jobs: the jobs of their folder.
        name: the name under which units are submitted again.
        commands: the units.
        is_done: whether the unit of a folder is done. It is called when its job has ended.
        notice: called with one line when the cluster stops answering, and when it answers again.
    """

    def __init__(
        self,
        jobs: Jobs,
        name: str,
        commands: Commands,
        is_done: Callable[[Path], bool],
        notice: Callable[[str], None],
    ) -> None:
        self.jobs, self.name, self.commands, self.is_done = jobs, name, commands, is_done
        cluster = jobs.cluster
        self._silence = SilenceWatch(jobs.folder, cluster.answer_seconds, cluster.poll_seconds, notice)
        self._gone: set[Path] = set()  # the job had ended at the last poll
        self._tried: dict[Path, int] = {}  # attempts when the unit was last submitted again
        self._lost: set[Path] = set()  # submitted again after a job that had not started was lost

    def poll(self, units: Iterable[Path]) -> dict[Path, UnitStatus]:
        """Ask the cluster once, and submit units again if `why_not_again` permits it.

        Returns:
            The status of units. A unit whose job has just ended is left out until the next poll. If the
            cluster does not answer, all are unknown.

        Raises:
            FlatvqError: if the cluster refuses a job.
            NoAnswerError: if the cluster has not answered for longer than `cluster.answer_seconds`.
        """
        units = list(units)
        try:
            states = self.jobs.states()
        except NoAnswerError as error:
            self._silence.note(error)
            return dict.fromkeys(units, UnitStatus("unknown"))
        self._silence.end()
        statuses: dict[Path, UnitStatus] = {}
        again = []
        for unit in units:
            if unit not in self.jobs:  # the cluster did not answer when it was to be submitted again
                statuses[unit] = UnitStatus("waiting")
                again.append(unit)
                continue
            state = states[unit.as_posix()]
            if state in ("waiting", "running"):  # even if it is done: its last attempt may not have ended
                statuses[unit] = UnitStatus("waiting" if state == "waiting" else "running")
            elif self.is_done(unit):
                statuses[unit] = UnitStatus("done")
            elif unit not in self._gone:
                # The files of the last attempt may reach this host after the end of its job.
                self._gone.add(unit)
                continue
            elif reason := self._why_failed(unit, state):
                statuses[unit] = UnitStatus("failed", reason)
            else:
                statuses[unit] = UnitStatus("waiting")
                again.append(unit)
            self._gone.discard(unit)
        ended = [unit for unit, status in statuses.items() if status.state in ("done", "failed")]
        for unit in (*again, *ended):
            self.jobs.settle(unit)
        return statuses | self._submit_again(again)

    def _submit_again(self, units: list[Path]) -> dict[Path, UnitStatus]:
        """Submit units again; return those of which it is unknown whether they have a job."""
        try:
            if units:
                self.jobs.submit({unit: self.commands[unit] for unit in units}, self.name, again=True)
        except NoAnswerError as error:
            self._silence.note(error)
            return dict.fromkeys(units, UnitStatus("unknown"))
        return {}

    def _why_failed(self, unit: Path, state: State) -> str | None:
        """Return why a unit whose job ended early has failed; None to submit it again."""
        latest = attempts_of(self.jobs.folder / unit).latest
        if state == "cancelled":
            return "its job was cancelled"
        if len(latest) <= self._tried.get(unit, 0):
            if state == "lost" and unit not in self._lost:
                self._lost.add(unit)
                return None
            return f"its job ended before its command started; see {self.jobs.log_of(unit)}"
        self._tried[unit] = len(latest)
        return why_not_again(latest, self.jobs.cluster.attempts)


def run_units(
    jobs: Jobs,
    name: str,
    commands: Commands,
    watch: Callable[[Counter[str]], None],
    notice: Callable[[str], None],
) -> dict[Path, str]:
    """Run units on a cluster to their end. Units that have a job are not submitted again.

    Args:
        jobs: the jobs of their folder.
        name: the name of the submission.
        commands: the units. A unit is done if its latest attempt ended with exit code 0.
        watch: called about twice a second with the number of units in each state.
        notice: see `Watcher`.

    Returns:
        The error of each failed unit.

    Raises:
        FlatvqError: see `Watcher.poll`.
    """
    jobs.submit({unit: command for unit, command in commands.items() if unit not in jobs}, name)
    watcher = Watcher(jobs, name, commands, lambda unit: ended_well(jobs.folder / unit), notice)
    statuses = dict.fromkeys(commands, UnitStatus("waiting"))
    missing, polled = list(commands), -jobs.cluster.poll_seconds
    while missing:
        if time.monotonic() - polled >= jobs.cluster.poll_seconds:
            polled = time.monotonic()
            statuses |= watcher.poll(missing)
            missing = [unit for unit in missing if statuses[unit].state not in ("done", "failed")]
        watch(Counter(each.state for each in statuses.values()))
        if missing:
            time.sleep(_WATCH_SECONDS)
    return {unit: each.error for unit, each in statuses.items() if each.error is not None}


def failure_of(errors: Mapping[Path, str], count: int, kind: str) -> FlatvqError:
    """Return the error of a command some of whose units failed. It names the first of them.

    Args:
        errors: the error of each failed unit; at least one.
        count: the number of all units.
        kind: what the units are, in plural.

    Example:
        >>> failure_of({Path("jobs/3"): "its job was cancelled"}, 8, "jobs").what
        '1 of 8 jobs failed, such as 3 (its job was cancelled)'
    """
    unit, error = next(iter(errors.items()))
    what = f"{len(errors)} of {count} {kind} failed, such as {unit.name} ({error})"
    return FlatvqError(what, "correct the cause, then run the same command again")
