"""Trains one trial in a process: the recipe in RUN/recipe.json. The process ends when the study does.

A crash, even of the interpreter, then stops one trial and not the study. Each process also has its own number
of threads.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing import Pipe, parent_process
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from flatvq import processes
from flatvq.recipe import load_trial
from flatvq.train import run_trial
from flatvq.train.launch import forget_launch
from flatvq.translation import cause_of, explained

__all__ = ["received_error", "start", "train"]

# Characters of an error message. It must fit into the pipe's buffer, since the study reads it only after the
# trial has ended.
_MAX_MESSAGE = 4000


def start(run: Path, threads: int, gpu: str | None) -> tuple[BaseProcess, Connection]:
    """Start a process that trains a trial.

    Args:
        run: the folder of the trial, with a recipe.json. Output of the process is appended to log.txt there.
        threads: the number of threads to compute with.
        gpu: the only GPU that the process sees, as CUDA_VISIBLE_DEVICES names it; None for all that the study
            sees.

    Returns:
        The process, and the pipe from which `received_error` reads why it failed. The error goes through a
        pipe because a trial may fail when the disk is full. Exit codes: 0 done, 3 stopped on request, 2 an
        error of the user, 74 a full or broken disk, 1 a bug in flatvq, negative for a signal.
    """
    receiver, sender = Pipe(duplex=False)
    with sender:
        return processes.start(_work, run, threads, gpu, sender), receiver


def received_error(receiver: Connection) -> str | None:
    """Return, in one line, why a trial that has ended failed; None if it sent no error."""
    with receiver, suppress(EOFError):
        # Poll first: a child process of the trial may still hold the other end open.
        return receiver.recv_bytes().decode() if receiver.poll() else None
    return None


def _work(run: Path, threads: int, gpu: str | None, errors: Connection) -> None:
    try:
        log = os.open(run / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        if hasattr(os, "setsid"):
            os.setsid()  # Ctrl-C then reaches only the study, which sends one SIGTERM to each trial
        torch.set_num_threads(threads)
        if gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        forget_launch()
        threading.Thread(target=_stop_when_study_ends, daemon=True).start()
        code = train(run)
    except Exception as error:
        errors.send_bytes(cause_of(error)[:_MAX_MESSAGE].encode())
        explanation = explained(error)
        if explanation is None:
            raise
        with suppress(OSError):  # log.txt may be on the full disk
            print(explanation, file=sys.stderr, flush=True)  # noqa: T201
        code = explanation.exit_code
    sys.exit(code)


def train(run: Path) -> int:
    """Train the recipe of a run in this process. The parent process does not matter.

    Returns:
        0 if the trial is done, 3 if it was stopped on request.
    """
    return 0 if run_trial(load_trial(run), run) else 3


def _stop_when_study_ends() -> None:
    """Send SIGTERM to this process when the study ends, even by SIGKILL. No training outlives its study."""
    study = parent_process()
    assert study is not None
    study.join()
    os.kill(os.getpid(), signal.SIGTERM)
