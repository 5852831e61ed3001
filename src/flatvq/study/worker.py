"""One trial in a process of its own: `python -m flatvq.study.worker RUN` trains what RUN/recipe.json says.

A crash, even of the interpreter, then takes one trial and not the study; and each trial gets its own threads.
"""

from __future__ import annotations

import ctypes
import json
import platform
import signal
import sys
from pathlib import Path

from flatvq.errors import FlatvqError
from flatvq.recipe import TrialRecipe, parse
from flatvq.train import run_trial

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1


def main(run: Path) -> int:
    """Train the run's recipe; return the exit code: 0 done, 3 stopped on request, 2 for a user's error."""
    _stop_with_parent()
    try:
        recipe = parse(TrialRecipe, json.loads((run / "recipe.json").read_text()), str(run / "recipe.json"))
        return 0 if run_trial(recipe, run) else 3
    except FlatvqError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2


def _stop_with_parent() -> None:
    """Ask the kernel for SIGTERM when the study dies, so that no training goes on unseen."""
    if platform.system() == "Linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
