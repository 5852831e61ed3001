"""The interface between studies and clusters: what an engine does, and the engines by name.

A unit is a command that can be run again at any time and then resumes, such as `flatvq train RUN`. It keeps
its state in its folder. A submission is a list of units. Its caller chooses its name before it submits the
units, so that a caller that was killed can find them again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from flatvq.errors import FlatvqError
from flatvq.recipe import ClusterRecipe
from flatvq.registry import Registry

__all__ = ["ENGINES", "Engine", "EngineKind", "NoAnswerError", "State", "Unit"]

State = Literal["waiting", "running", "ended", "cancelled", "lost"]
"""The state of a unit. The folder of a unit that has ended shows whether it is done.

A unit is lost if the cluster does not know its job, which may have ended some time ago, or could not start it
and does not try again.
"""


class NoAnswerError(FlatvqError):
    """The cluster does not answer at the moment. Its jobs may go on."""

    exit_code = 69  # EX_UNAVAILABLE of sysexits.h


@dataclass(frozen=True)
class Unit:
    """A command that can be run again at any time and then resumes."""

    folder: Path
    """The absolute path of its folder, on a disk that all hosts share."""
    module: tuple[str, ...]
    """The Python module that it runs and its arguments, such as `("flatvq", "train", RUN)`."""


class Engine(Protocol):
    """Places units on a cluster."""

    largest: int
    """The largest number of units of one submission."""

    def submit(self, name: str, units: Sequence[Unit], folder: Path, running: int) -> None:
        """Submit units.

        Args:
            name: the name of the submission, different from all others.
            units: at most `largest`.
            folder: an existing folder for the engine's own files, on a disk that all hosts share.
            running: the largest number of these units that run at a time.

        Raises:
            FlatvqError: if the cluster refuses them, or does not answer.
        """

    def states(self, names: Sequence[str]) -> dict[str, dict[int, State]]:
        """Return the states of units by submission and by their position in it.

        Units that the cluster does not know are left out.

        Raises:
            NoAnswerError: if the cluster does not answer.
        """

    def limit(self, name: str, running: int) -> None:
        """Change how many units of a submission run at a time. Units that run go on."""

    def cancel(self, names: Sequence[str]) -> None:
        """End all units of submissions, and remove what the cluster keeps for them.

        Raises:
            NoAnswerError: if the cluster does not answer.
        """


class EngineKind(Protocol):
    """Makes an engine from the section `cluster` of a recipe."""

    def __call__(self, cluster: ClusterRecipe) -> Engine:
        """Return the engine.

        Raises:
            FlatvqError: if its programs or packages are missing.
        """


ENGINES: Registry[EngineKind] = Registry(
    "engine",
    "flatvq.engines",
    {"slurm": "flatvq.engines.slurm:Slurm", "ray": "flatvq.engines.ray:Ray"},
)
"""The engines by name, as `flatvq study --on NAME` reads them."""
