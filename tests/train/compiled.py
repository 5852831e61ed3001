"""Trains a recipe twice, the second time with a stop halfway: `python compiled.py RECIPE.json FOLDER`."""

import json
import os
import signal
import sys
from pathlib import Path

from flatvq.recipe import TrialRecipe, parse
from flatvq.train import run_trial

if __name__ == "__main__":
    recipe = parse(TrialRecipe, json.loads(Path(sys.argv[1]).read_text()), sys.argv[1])
    folder, half = Path(sys.argv[2]), recipe.train.steps // 2

    def stop(done: int, total: int) -> None:
        if done == half:
            os.kill(os.getpid(), signal.SIGTERM)

    assert run_trial(recipe, folder / "whole")
    assert not run_trial(recipe, folder / "halved", progress=stop)
    assert run_trial(recipe, folder / "halved")
