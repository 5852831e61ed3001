"""The seam between studies and clusters: what an engine has to do, and the engines by name.

A unit is a command that can be run again at any time and then resumes, such as `flatvq train RUN`. It keeps
its state in its folder. An engine knows submissions: lists of units under a name that its caller chooses
before it submits them, so that a caller that was killed finds its units again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from flatvq.recipe import ClusterRecipe
from flatvq.registry import Registry

__all__ = ["ENGINES", "Engine", "EngineKind", "State", "Unit"]

State = Literal["waiting", "running", "ended", "cancelled"]
"""Of a unit. Whether a unit that has ended is done stands in its folder."""


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
            name: the name of the submission, unlike that of any other one.
            units: at most `largest`.
            folder: an existing folder for the engine's own files, on a disk that all hosts share.
            running: the largest number of these units that run at a time.

        Raises:
            FlatvqError: if the cluster refuses them.
        """

    def states(self, names: Sequence[str]) -> dict[str, dict[int, State]] | None:
        """Return the states of units by submission and by their position in it.

        Units that the cluster has forgotten have ended, and are not listed. None: the cluster does not answer
        at the moment.
        """

    def cancel(self, names: Sequence[str]) -> None:
        """End all units of submissions, and free what the cluster keeps of them.

        Raises:
            FlatvqError: if the cluster does not answer.
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
