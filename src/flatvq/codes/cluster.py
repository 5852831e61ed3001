"""Encodes on a cluster: a job for each part of the shards, then a last job that verifies all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from flatvq.codes.dataset import complete_manifest
from flatvq.codes.manifest import NAME, CodeManifest, read_manifest
from flatvq.codes.parts import Part
from flatvq.engines.attempts import ended_well
from flatvq.engines.jobs import Commands, Jobs, jobs_of, require_one_process
from flatvq.engines.waiting import failure_of, run_units
from flatvq.files import remove_folder
from flatvq.recipe import ClusterRecipe

__all__ = ["ClusterEncoding"]

_JOBS = "jobs"
_LAST = Path(_JOBS, "last")


@dataclass
class ClusterEncoding:
    """An encoding on a cluster.

    Args:
        kind: the name of the engine.
        cluster: the section `cluster`.
        folder: the folder of the codes.
        command: the module that encodes all images, and its arguments, such as `("flatvq", "encode", ...)`.
        parts: the number of jobs that share the shards.

    Raises:
        FlatvqError: if a job would have several processes, or there cannot be so many parts.
    """

    kind: str
    cluster: ClusterRecipe
    folder: Path
    command: tuple[str, ...]
    parts: int

    def __post_init__(self) -> None:
        require_one_process(self.cluster, "encode")
        parts = [Part(number, self.parts) for number in range(self.parts)]
        self._commands: Commands = {
            part.folder: (*self.command, "--part", f"{part.number}/{part.count}") for part in parts
        }

    def submit(self) -> int:
        """Submit the parts that are not done and have no job; or the last job, if all parts are done.

        Returns:
            The number of jobs that were submitted.

        Raises:
            FlatvqError: if the cluster refuses them, or another number of parts has jobs.
            NoAnswerError: if it does not answer.
            BusyError: if another process submits these jobs, or waits for them.
        """
        with self._jobs() as jobs:
            jobs.settle_ended()
            units = self._missing(jobs) or {_LAST: self.command}
            new = {unit: command for unit, command in units.items() if unit not in jobs}
            jobs.submit(new, self._name)
            return len(new)

    def run(self, watch: Callable[[Counter[str]], None], notice: Callable[[str], None]) -> CodeManifest:
        """Encode all images. Jobs that an earlier call submitted are found again.

        Args:
            watch: called about twice a second with the number of jobs in each state.
            notice: called with one line when the cluster stops answering, and when it answers again.

        Returns:
            The complete manifest.

        Raises:
            FlatvqError: if a job fails; see also `submit`.
            BusyError: see `submit`.
        """
        with self._jobs() as jobs:
            for units in (self._missing(jobs), {_LAST: self.command}):
                errors = run_units(jobs, self._name, units, watch, notice)
                if errors:
                    raise failure_of(errors, len(units), "jobs")
        manifest = complete_manifest(self.folder)
        remove_folder(self.folder / _JOBS)  # a finished folder has nothing but shards and manifest.json
        return manifest

    def cancel(self) -> int:
        """End all jobs; return the number of those that may not have ended."""
        with jobs_of(self.kind, self.folder, self.cluster) as jobs:
            return jobs.cancel()

    @property
    def _name(self) -> str:
        return f"encode-{self.folder.name}"

    def _jobs(self) -> AbstractContextManager[Jobs]:
        return jobs_of(self.kind, self.folder, self.cluster, {*self._commands, _LAST}, "--parts")

    def _missing(self, jobs: Jobs) -> Commands:
        """Return the commands of the parts that are not done."""
        if _LAST in jobs or ((self.folder / NAME).exists() and read_manifest(self.folder).complete):
            return {}
        return {
            unit: command
            for unit, command in self._commands.items()
            if unit in jobs or not ended_well(self.folder / unit)
        }
