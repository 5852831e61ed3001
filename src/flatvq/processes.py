"""Starts worker processes, forked from a server that has imported everything once.

The imports take longer than hundreds of steps of a small model. This module itself imports nothing large, so
that the server can start before everything else.
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

# The imports of a trial. Optimizers import the compiler; pyarrow imports pandas if it is installed.
_IMPORTS = ["flatvq.study.worker", "torch._dynamo", "pyarrow.parquet", "pandas"]


def serve() -> None:
    """Start the server in the background, if the system supports it and it is not running."""
    context = _context()
    if context.get_start_method() == "forkserver":
        context.set_forkserver_preload(_IMPORTS)
        with _nameless_main(), _ignoring_interrupts():
            forkserver.ensure_running()


def start(target: Callable[..., None], *args: object) -> BaseProcess:
    """Run a function of a module in a new process.

    The script of this program is not imported there, unlike with `multiprocessing.Process`.

    Args:
        target: the function.
        args: its arguments.

    Returns:
        The running process.
    """
    serve()
    process: BaseProcess = _context().Process(target=target, args=args)
    with _nameless_main():
        process.start()
    return process


def _context() -> Any:
    return get_context("forkserver" if "forkserver" in get_all_start_methods() else "spawn")


@contextmanager
def _ignoring_interrupts() -> Iterator[None]:
    """Ignore Ctrl-C while the server starts. The server itself ignores it only after its imports."""
    if threading.current_thread() is not threading.main_thread():  # only it can set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _nameless_main() -> Iterator[None]:
    """Hide the script of this program, so that a new process does not import it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
