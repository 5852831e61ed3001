"""Workers of a search as jobs of a cluster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from flatvq.engines.jobs import Commands, Jobs, has_jobs, jobs_of, require_one_process
from flatvq.engines.waiting import failure_of, run_units
from flatvq.recipe import ClusterRecipe
from flatvq.tune.search import Search
from flatvq.tune.worker import worker_folder

__all__ = ["ClusterSearch"]


@dataclass
class ClusterSearch:
    """The workers of a search on a cluster.

    Args:
        kind: the name of the engine.
        cluster: the section `cluster`.
        search: the search.
        command: the module of a worker and its arguments without its number.
        workers: the number of workers.

    Raises:
        FlatvqError: if a worker would have several processes, or there are too many.
    """

    kind: str
    cluster: ClusterRecipe
    search: Search
    command: tuple[str, ...]
    workers: int

    def __post_init__(self) -> None:
        require_one_process(self.cluster, "tune")
        worker_folder(self.workers - 1)
        self.folder = self.search.folder

    def submit(self) -> int:
        """Submit the workers that have no job, if trials of the search are missing.

        Returns:
            The number of workers that were submitted.

        Raises:
            FlatvqError: if the cluster refuses them, or another number of workers has jobs.
            NoAnswerError: if it does not answer.
            BusyError: if another process submits these jobs, or waits for them.
        """
        with self._jobs() as jobs:
            jobs.settle_ended()
            new = {unit: command for unit, command in self._commands(jobs).items() if unit not in jobs}
            jobs.submit(new, self._name)
            return len(new)

    def run(self, watch: Callable[[Counter[str]], None], notice: Callable[[str], None]) -> Search:
        """Run the workers to their end, including workers that an earlier call submitted.

        Args:
            watch: called about twice a second with the number of workers in each state.
            notice: called with one line when the cluster stops answering, and when it answers again.

        Returns:
            The search, with as many trials as its recipe sets.

        Raises:
            FlatvqError: if workers failed and trials are missing; see also `submit`.
            BusyError: see `submit`.
        """
        with self._jobs() as jobs:
            errors = run_units(jobs, self._name, self._commands(jobs), watch, notice)
        if errors and self.search.needs_trials(0):
            raise failure_of(errors, self.workers, "workers")
        return self.search

    def cancel(self) -> int:
        """End all jobs of the search and of its confirmation; return their number."""
        count = 0
        for folder in (self.folder, self.folder / "confirm"):
            if has_jobs(folder):
                with jobs_of(self.kind, folder, self.cluster) as jobs:
                    count += jobs.cancel()
        return count

    @property
    def _name(self) -> str:
        return f"tune-{self.search.settings.name}"

    def _jobs(self) -> AbstractContextManager[Jobs]:
        return jobs_of(self.kind, self.folder, self.cluster, self._all(), "--workers")

    def _all(self) -> Commands:
        return {
            worker_folder(number): (*self.command, "--worker", str(number)) for number in range(self.workers)
        }

    def _commands(self, jobs: Jobs) -> Commands:
        """Return the workers to wait for: all, or those that still have a job if no trial is missing."""
        incomplete = self.search.needs_trials(0)
        return {unit: command for unit, command in self._all().items() if incomplete or unit in jobs}
