"""The jobs of a folder on a cluster, as it records them: FOLDER/jobs/SUBMISSION.json.

The record of a submission is written before its jobs are submitted. If the command is killed in between, the
next command asks the cluster by the name of the submission whether the jobs exist.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from flatvq.engines.attempts import record_submission
from flatvq.engines.engine import ENGINES, Engine, NoAnswerError, State, Unit
from flatvq.errors import FlatvqError, suggestion
from flatvq.files import write_json
from flatvq.recipe import ClusterRecipe
from flatvq.records import Record, read_record
from flatvq.records.reading import Count, Format1, Several
from flatvq.train.lease import LeaseLostError, leased

__all__ = ["Commands", "Jobs", "has_jobs", "jobs_of", "require_engine", "require_one_process"]

Commands = Mapping[Path, tuple[str, ...]]
"""The module and arguments of each unit, by its folder relative to the folder of the jobs."""

_READABLE = 40
_LEASE_SECONDS = 1.0


class _Submission(Record):
    """The content of a record."""

    format: Format1 = 1
    number: Count = 0
    """It grows with each submission of a folder. The latest submission of a unit counts."""
    engine: str
    runs: Several[str]
    """The folders of the units, relative to the folder of the jobs."""


class Jobs:
    """The jobs of a folder. One process at a time may use them.

    Args:
        engine: the cluster.
        kind: the name of the engine.
        folder: the folder.
        cluster: the section `cluster` of the recipe.
        confirm: raises LeaseLostError if another process has taken the jobs over.

    Raises:
        FlatvqError: if the folder has jobs of another engine, or a record is damaged.
    """

    def __init__(
        self,
        engine: Engine,
        kind: str,
        folder: Path,
        cluster: ClusterRecipe,
        confirm: Callable[[], None] = lambda: None,
    ) -> None:
        self.engine, self.kind, self.folder, self.cluster = engine, kind, folder.resolve(), cluster
        self._confirm = confirm
        self._jobs = self.folder / "jobs"
        self._submissions: dict[str, tuple[str, ...]] = {}
        self._places: dict[str, tuple[str, int]] = {}
        self._unsettled: dict[str, int] = {}  # number of units of a submission that are not settled
        self._number = 0
        records = []
        for path in self._jobs.glob("*.json"):
            record = read_record(_Submission, path, "cancel its jobs and remove it")
            if record.engine != kind:
                what = f"'{folder}' has jobs on {record.engine!r}, not on {kind!r}"
                raise FlatvqError(what, f"use --on {record.engine}, or cancel them with --cancel first")
            records.append((record.number, path.stem, record.runs))
        for self._number, name, units in sorted(records):
            self._add(name, units)

    def __contains__(self, unit: Path) -> bool:
        """Return whether a unit has a job that may not have ended."""
        return unit.as_posix() in self._places

    def __iter__(self) -> Iterator[Path]:
        """Yield the units with a job that may not have ended."""
        return iter([Path(unit) for unit in self._places])

    def submit(self, commands: Commands, name: str, *, again: bool = False) -> None:
        """Submit units.

        Args:
            commands: the units. Their folders are created.
            name: the name of the study. Listings of the cluster show it.
            again: whether earlier failures of these units still count. If not, the present
                `cluster.max_running` also limits the jobs of earlier commands.

        Raises:
            FlatvqError: if the cluster refuses them.
            NoAnswerError: if it does not answer. Then it is not known whether the jobs exist.
        """
        if not again:
            self._limit_running()
        units, most = list(commands), self.engine.largest
        batches = [units[start : start + most] for start in range(0, len(units), most)]
        readable = re.sub(r"[^A-Za-z0-9_-]", "-", name)[:_READABLE]
        for batch in batches:
            submission = f"{readable}-{secrets.token_hex(5)}"
            self._number += 1
            runs = tuple(unit.as_posix() for unit in batch)
            record = _Submission(number=self._number, engine=self.kind, runs=runs)
            for unit in batch:
                (self.folder / unit).mkdir(parents=True, exist_ok=True)
                if not again:
                    record_submission(self.folder / unit, submission)
            write_json(self._jobs / f"{submission}.json", record.model_dump(mode="json"))
            placed = [Unit(self.folder / unit, commands[unit]) for unit in batch]
            self._submit_batch(submission, runs, placed, max(1, self.cluster.max_running // len(batches)))

    def _submit_batch(self, submission: str, runs: tuple[str, ...], units: list[Unit], running: int) -> None:
        """Submit units whose record is written. Remove the record if the cluster does not have them."""
        path = self._jobs / f"{submission}.json"
        try:
            self.engine.submit(submission, units, self._jobs, running)
        except (FlatvqError, OSError) as error:
            # They may exist all the same, if the cluster did not answer in time. If it does not answer
            # now, the record stays, so that the next query finds them.
            try:
                self.engine.cancel([submission])
            except NoAnswerError as silent:
                self._add(submission, runs)
                what = error.what if isinstance(error, FlatvqError) else str(error)
                raise NoAnswerError(what, silent.remedy) from None
            path.unlink()
            raise
        try:
            self._confirm()
        except LeaseLostError:
            if not path.exists():  # its successor did not find them, and submitted these units, too
                self.engine.cancel([submission])
            raise
        self._add(submission, runs)

    def states(self) -> dict[str, State]:
        """Return the states of the units with jobs, by folder.

        Raises:
            NoAnswerError: if the cluster does not answer.
            LeaseLostError: if another process has taken the jobs over, such as while this one was paused.
        """
        states = self.engine.states(list(self._submissions)) if self._submissions else {}
        self._confirm()
        return {unit: states.get(name, {}).get(index, "lost") for unit, (name, index) in self._places.items()}

    def settle_ended(self) -> None:
        """Forget the jobs that have ended, and those that the cluster does not know.

        Raises:
            NoAnswerError: if the cluster does not answer.
        """
        for unit, state in self.states().items():
            if state not in ("waiting", "running"):
                self.settle(Path(unit))

    def settle(self, unit: Path) -> None:
        """Forget the job of a unit, if it has one, and the submission once all its jobs are forgotten."""
        if unit not in self:
            return
        name, _ = self._places.pop(unit.as_posix())
        self._unsettled[name] -= 1
        if not self._unsettled[name]:
            del self._submissions[name]
            with suppress(FlatvqError):  # a cluster that does not answer keeps a job that has ended
                self.engine.cancel([name])
            (self._jobs / f"{name}.json").unlink(missing_ok=True)

    def cancel(self) -> int:
        """End all jobs; return the number of units that had one."""
        count = len(self._places)
        self.engine.cancel(list(self._submissions))
        for name in self._submissions:
            (self._jobs / f"{name}.json").unlink(missing_ok=True)
        self._submissions, self._places, self._unsettled = {}, {}, {}
        return count

    def log_of(self, unit: Path) -> Path:
        """Return the file with the output of the job of a unit."""
        name, index = self._places[unit.as_posix()]
        return self._jobs / f"{name}-{index}.log"

    def _limit_running(self) -> None:
        """Let the jobs of earlier commands run under the present `cluster.max_running`."""
        total = sum(map(len, self._submissions.values()))
        for name, units in self._submissions.items():
            self.engine.limit(name, max(1, self.cluster.max_running * len(units) // total))

    def _add(self, name: str, units: tuple[str, ...]) -> None:
        self._submissions[name] = units
        for index, unit in enumerate(units):
            if unit in self._places:
                self._unsettled[self._places[unit][0]] -= 1
            self._places[unit] = name, index
        self._unsettled[name] = len(units)


@contextmanager
def jobs_of(
    kind: str, folder: Path, cluster: ClusterRecipe, units: Container[Path] | None = None, option: str = ""
) -> Iterator[Jobs]:
    """Hold the jobs of a folder while the context lasts.

    Args:
        kind: the name of the engine.
        folder: the folder. It exists.
        cluster: the section `cluster` of a recipe.
        units: the units that may have jobs; None for any.
        option: the option of the command that determines them, such as `--parts`.

    Raises:
        FlatvqError: if there is no such engine, it cannot be used, or another unit has a job.
        BusyError: if another process submits jobs of this folder, or waits for them.
    """
    require_engine(kind)
    engine = ENGINES[kind](cluster)
    jobs_folder = folder.resolve() / "jobs"  # where `Jobs` writes
    jobs_folder.mkdir(parents=True, exist_ok=True)
    with leased(jobs_folder, _LEASE_SECONDS, "waiting for jobs") as lease:
        jobs = Jobs(engine, kind, folder, cluster, lease.confirm)
        other = None if units is None else next((unit for unit in jobs if unit not in units), None)
        if other is not None:
            what = f"'{folder}' has a job for {other.name}, which is not one of this command"
            raise FlatvqError(what, f"give the same {option}, or end the jobs with --cancel first")
        yield jobs


def has_jobs(folder: Path) -> bool:
    """Return whether a folder has jobs that may not have ended."""
    return any((folder / "jobs").glob("*.json"))


def require_engine(kind: str) -> None:
    """Refuse an unknown engine.

    Raises:
        FlatvqError: if no engine has this name.
    """
    if kind not in ENGINES:
        raise FlatvqError(f"no engine is named {kind!r}", suggestion(kind, ["local", *ENGINES]))


def require_one_process(cluster: ClusterRecipe, command: str) -> None:
    """Refuse resources of several processes for a command that runs in one.

    Raises:
        FlatvqError: if a job has several GPUs or nodes.
    """
    for key, value in (("gpus_per_trial", cluster.gpus_per_trial), ("nodes", cluster.nodes)):
        if value > 1:
            what = f"cluster.{key} is {value}, and each job of `flatvq {command}` is one process"
            raise FlatvqError(what, f"add --set cluster.{key}=1, and let more jobs run")
