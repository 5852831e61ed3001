"""One trial in a process of its own: it trains what RUN/recipe.json says, and ends with the study.

A crash, even of the interpreter, then takes one trial and not the study; and each trial gets its own threads.
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

__all__ = ["received", "start", "train"]

# Characters; what fits into a pipe that is read only when the trial has ended.
_LONGEST = 4000


def start(run: Path, threads: int, gpu: str | None) -> tuple[BaseProcess, Connection]:
    """Start a trial.

    Args:
        run: its folder, with a recipe.json; what it prints goes to log.txt there.
        threads: that it may compute with.
        gpu: the only one that it sees, as CUDA_VISIBLE_DEVICES names it; None for those that the study sees.

    Returns:
        Its process, and where `received` gets the cause of its failure, which may be that nothing can be
        written. The exit code: 0 done, 3 stopped on request, 2 a user's error, 74 a full or broken disk, 1 a
        fault of flatvq, negative for a signal.
    """
    receiver, sender = Pipe(duplex=False)
    with sender:
        return processes.start(_work, run, threads, gpu, sender), receiver


def received(receiver: Connection) -> str | None:
    """Return why a trial that has ended failed, in one line; None if it did not say."""
    with receiver, suppress(EOFError):
        # A process that the trial left behind may hold the other end open.
        return receiver.recv_bytes().decode() if receiver.poll() else None
    return None


def _work(run: Path, threads: int, gpu: str | None, cause: Connection) -> None:
    try:
        log = os.open(run / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        if hasattr(os, "setsid"):
            os.setsid()  # Ctrl-C then reaches the study alone, which passes it on once
        torch.set_num_threads(threads)
        if gpu is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = gpu
        forget_launch()
        threading.Thread(target=_end_with_the_study, daemon=True).start()
        code = train(run)
    except Exception as error:
        cause.send_bytes(cause_of(error)[:_LONGEST].encode())
        known = explained(error)
        if known is None:
            raise
        with suppress(OSError):  # the disk that log.txt is on may be full
            print(known, file=sys.stderr, flush=True)  # noqa: T201
        code = known.exit_code
    sys.exit(code)


def train(run: Path) -> int:
    """Train the run's recipe, whatever becomes of the parent.

    Returns:
        0 if it is done, 3 if it was stopped on request.
    """
    return 0 if run_trial(load_trial(run), run) else 3


def _end_with_the_study() -> None:
    """Turn the study's death, even by SIGKILL, into SIGTERM for this process: no training goes on unseen."""
    study = parent_process()
    assert study is not None
    study.join()
    os.kill(os.getpid(), signal.SIGTERM)
