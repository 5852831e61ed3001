"""Two ways to run a `flatvq` command under the killer.

Imports take longer than the small trainings of the matrix. `Forked` imports everything once and runs each
command in a child of that process; `command` runs `python -m flatvq` as a user does.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from benchmarks.crashes.killer import Killer

__all__ = ["IMPORTS", "OUTPUT", "Forked", "Program", "command", "run_here"]

Program = Callable[[Sequence[str], Path], int]
"""Runs `flatvq` with some arguments in a folder, until it ends or is killed.

Returns the exit code, negative for a signal. What it prints goes to output.txt in that folder.
"""

OUTPUT = "output.txt"
IMPORTS = (
    "flatvq.cli.tuning",
    "flatvq.levels",
    "flatvq.study.worker",
    "flatvq.tune",
    "pandas",
    "pyarrow.parquet",
    "scipy.special",
    "scipy.stats",
    "tensorboard.summary.writer.record_writer",
    "torch._dynamo",
)
_PR_SET_CHILD_SUBREAPER = 36


def command(killer: Killer) -> Program:
    """Make what runs `python -m flatvq`."""

    def run(arguments: Sequence[str], folder: Path) -> int:
        with (folder / OUTPUT).open("wb") as output:
            command = [sys.executable, "-m", "flatvq", *arguments]
            environment = _environment(killer)
            done = subprocess.run(command, cwd=folder, env=environment, stdout=output, stderr=output)
            return done.returncode

    return run


class Forked:
    """Runs each command in a child of one process that has imported everything: a `Program`."""

    def __init__(self, killer: Killer) -> None:
        self.killer = killer

    def __enter__(self) -> Self:
        """Start the process."""
        command = [sys.executable, "-m", "benchmarks.crashes.programs"]
        pipe, root = subprocess.PIPE, Path(__file__).parents[2]
        self._server = subprocess.Popen(
            command, cwd=root, env=_environment(self.killer), stdin=pipe, stdout=pipe, text=True
        )
        return self

    def __call__(self, arguments: Sequence[str], folder: Path) -> int:
        """Run a command.

        Raises:
            RuntimeError: if the process has ended, such as at its imports.
        """
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        print(json.dumps([list(arguments), str(folder)]), file=self._server.stdin, flush=True)
        answer = self._server.stdout.readline()
        if not answer:
            raise RuntimeError("the process that runs commands has ended; its error is printed above")
        return int(answer)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        with self._server:  # this closes its standard input, which ends it
            pass


def _environment(killer: Killer) -> dict[str, str]:
    # One thread, so that processes that are forked from one another share no pool of threads.
    return {**killer.environment, "OMP_NUM_THREADS": "1"}


def _serve() -> None:
    """Run the commands that standard input names, one a line, and print their exit codes."""
    from flatvq import processes

    for module in IMPORTS:
        import_module(module)
    # A command's workers are forked from it, not from another process that imports everything again.
    processes._context = lambda: get_context("fork")
    # Workers that outlive their command become children of this process.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
    for line in sys.stdin:
        arguments, folder = json.loads(line)
        child = os.fork()
        if child == 0:
            run_here(arguments, folder)
        print(_exit_code(child), flush=True)
    os._exit(0)  # taking all the modules apart takes seconds


def run_here(arguments: Sequence[str], folder: str) -> NoReturn:
    """Run a command in this process, and end it with the exit code of the command.

    Args:
        arguments: after `flatvq`.
        folder: becomes the working folder. What the command prints goes to output.txt there.
    """
    from flatvq.cli import main

    os.chdir(folder)
    output = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = ["flatvq", *arguments]
    code = 1
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _exit_code(child: int) -> int:
    """Wait for a child, and for all workers that outlived this or an earlier one if it was not killed."""
    process, code = 0, 0
    while process != child:
        process, status = os.wait()
        code = os.waitstatus_to_exitcode(status)
    with suppress(ChildProcessError):
        while code >= 0:
            os.wait()
    return code


if __name__ == "__main__":
    _serve()
