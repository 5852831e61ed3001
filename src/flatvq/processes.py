"""How other processes come about: forked from a server that has imported everything once.

Imports take longer than hundreds of steps of a small model. This module imports nothing heavy itself, so that
the server can be started before anything else is.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, get_all_start_methods, get_context
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

__all__ = ["serve", "start"]

# What a trial imports in the end: optimisers import the compiler, pyarrow imports pandas if it is there.
_IMPORTS = ["flatvq.study.worker", "torch._dynamo", "pyarrow.parquet", "pandas"]


def serve() -> None:
    """Start the server in the background, if this system has any and it does not run yet."""
    context = _context()
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(_IMPORTS)
        with _nameless_main(), _ignoring_interrupts():
            forkserver.ensure_running()


def start(target: Callable[..., None], *args: object) -> BaseProcess:
    """Run a function of a module in a new process; the caller's own script is not run again there."""
    serve()
    process: BaseProcess = _context().Process(target=target, args=args)
    with _nameless_main():
        process.start()
    return process


def _context() -> Any:
    return get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Start a process that ignores Ctrl-C, as the server does once its imports are done."""
    if threading.current_thread() is not threading.main_thread():  # which alone may set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _nameless_main() -> Iterator[None]:
    """Keep a new process from running the program's own script again: it needs nothing of it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
