"""Spawn worker processes from a preloaded forkserver, and count the cores that they may use.

Importing flatvq's dependencies takes longer than hundreds of training steps of a small model. This module
imports nothing heavy itself, so that a program can start the server before it imports anything else.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, get_all_start_methods, get_context
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

__all__ = ["cores", "serve", "start"]

# Everything that a trial imports. Optimizers import torch's compiler; pyarrow imports pandas if installed.
_PRELOADED = ["flatvq.study.worker", "torch._dynamo", "pyarrow.parquet", "pandas"]


def cores() -> int:
    """Return the number of processor cores that this process may use.

    Only Linux reports the cores of a process. Elsewhere this is the number of cores of the machine.

    Example:
        >>> cores() >= 1
        True
    """
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def serve() -> None:
    """Start the server in the background, unless it runs already or this system has no forkserver."""
    context = _context()
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(_PRELOADED)
        with _empty_main_module(), _ignoring_interrupts():
            forkserver.ensure_running()


def start(target: Callable[..., None], *args: object) -> BaseProcess:
    """Run a function in a new process, which does not run the caller's own script again.

    Args:
        target: a function at the top level of a module.
        *args: its arguments. They must be picklable.

    Returns:
        The started process.
    """
    serve()
    process: BaseProcess = _context().Process(target=target, args=args)
    with _empty_main_module():
        process.start()
    return process


def _context() -> Any:
    return get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C while the context lasts. A process that is started in it ignores Ctrl-C from its start.

    The server ignores Ctrl-C by itself only after its imports.
    """
    if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _empty_main_module() -> Iterator[None]:
    """Replace `__main__` by an empty module, so that new processes do not run the program's script again."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
