"""One trial in a process of its own: `python -m flatvq.study.worker RUN PARENT`.

It trains what RUN/recipe.json says, and ends with PARENT, the study's process. A crash, even of the
interpreter, then takes one trial and not the study; and each trial gets its own threads.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import signal
import sys
from pathlib import Path

from flatvq.errors import FlatvqError
from flatvq.recipe import TrialRecipe, parse
from flatvq.train import run_trial

__all__ = ["main", "train"]

_PR_SET_PDEATHSIG = 1


def main(run: Path, parent: int) -> int:
    """Train as a part of a study; return the exit code: 0 done, 3 stopped on request, 2 a user's error."""
    return train(run) if _bound_to(parent) else 3


def train(run: Path) -> int:
    """Train the run's recipe, whatever becomes of the parent."""
    try:
        recipe = parse(TrialRecipe, json.loads((run / "recipe.json").read_text()), str(run / "recipe.json"))
        return 0 if run_trial(recipe, run) else 3
    except FlatvqError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2


def _bound_to(parent: int) -> bool:
    """Ask the kernel for SIGTERM when the study dies, so that no training goes on unseen.

    Returns:
        False if it died before this could be asked for.
    """
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
