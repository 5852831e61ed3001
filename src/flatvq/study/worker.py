"""One trial in a process of its own: it trains what RUN/recipe.json says, and ends with the study.

A crash, even of the interpreter, then takes one trial and not the study; and each trial gets its own threads.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from flatvq import processes
from flatvq.errors import FlatvqError
from flatvq.recipe import TrialRecipe, parse
from flatvq.train import run_trial

__all__ = ["start", "train"]


def start(run: Path, threads: int, gpu: str | None) -> BaseProcess:
    """Start a trial.

    Args:
        run: its folder, with a recipe.json; what it prints goes to log.txt there.
        threads: that it may compute with.
        gpu: the only one that it sees, as CUDA_VISIBLE_DEVICES names it; None for those that the study sees.

    Returns:
        Its process. The exit code: 0 done, 3 stopped on request, 2 a user's error, negative for a signal.
    """
    return processes.start(_work, run, threads, gpu)


def _work(run: Path, threads: int, gpu: str | None) -> None:
    log = os.open(run / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C then reaches the study alone, which passes it on once
    torch.set_num_threads(threads)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    threading.Thread(target=_end_with_the_study, daemon=True).start()
    sys.exit(train(run))


def train(run: Path) -> int:
    """Train the run's recipe, whatever becomes of the parent."""
    try:
        recipe = parse(TrialRecipe, json.loads((run / "recipe.json").read_text()), str(run / "recipe.json"))
        return 0 if run_trial(recipe, run) else 3
    except FlatvqError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 2


def _end_with_the_study() -> None:
    """Turn the study's death, even by SIGKILL, into SIGTERM for this process: no training goes on unseen."""
    study = parent_process()
    assert study is not None
    study.join()
    os.kill(os.getpid(), signal.SIGTERM)
