"""Runs a unit, and records its attempts: `python -m flatvq.engines.attempts LIMIT FOLDER COMMAND`.

    FOLDER/attempts.jsonl   an object per event: submitted, start or end
    FOLDER/log.txt          the output of the command
    FOLDER/progress         written by a command without checkpoints: a number that grows as it makes progress

A unit is tried again if it was stopped, killed or lost with its host, but not if its input is invalid, if it
failed twice in the same way without progress in between, or if it failed as often as the limit. Engines on
any cluster run this module, so that the record and the rule are the same everywhere. It imports no heavy
library.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from flatvq.translation import explained
from flatvq.unvalidated import count_in, json_object, number_in, text_in

__all__ = [
    "AGAIN",
    "Attempt",
    "Attempts",
    "attempts_of",
    "ended_well",
    "record_submission",
    "run",
    "why_not_again",
]

AGAIN = 75
"""Exit code if the unit should be tried again."""

_NAME = "attempts.jsonl"
_INVALID = 2  # the exit code of flatvq for invalid input
_STOPPED = {3, 75, 130, 143}  # stopped on request, or its folder belongs to another process
_MESSAGE = 500


@dataclass(frozen=True)
class Attempt:
    """One attempt."""

    host: str
    job: str
    start: float
    """On the clock of the host, in seconds."""
    first_step: int
    """The newest checkpoint, or the number in `progress`, at its start."""
    last_step: int
    """The same at its end."""
    end: float | None = None
    code: int | None = None
    """None if the attempt runs, or its host ended before it could record the end."""
    error: str | None = None
    key: str = ""
    """Its random name in the record."""

    @property
    def failure(self) -> tuple[object, ...]:
        """The failure: equal for two attempts that failed in the same way."""
        return self.code, self.error, self.last_step

    @property
    def failed(self) -> bool:
        """Whether it counts as failed; a request to stop counts if there was no progress before it."""
        stopped = self.code in _STOPPED and self.last_step > self.first_step
        return self.code != 0 and not stopped


@dataclass(frozen=True)
class Attempts:
    """The attempts of a unit."""

    total: int
    """Number of attempts of all submissions."""
    latest: tuple[Attempt, ...]
    """The attempts of the latest submission."""
    seconds: float
    """Wall time of all attempts whose end is recorded."""
    submitted: bool
    """Whether the unit was ever submitted to a cluster."""


def record_submission(folder: Path, name: str) -> None:
    """Record that a unit was submitted, so that its earlier failures no longer count."""
    _append(folder, event="submitted", name=name)


def attempts_of(folder: Path) -> Attempts:
    """Read the attempts of a unit.

    Args:
        folder: the folder of the unit.
    """
    total, seconds, submitted = 0, 0.0, False
    latest: list[Attempt] = []
    for event in _events(folder / _NAME):
        kind, when, step = event.get("event"), number_in(event, "time"), count_in(event, "step") or 0
        if kind == "submitted":
            latest, submitted = [], True
        elif when is None:
            continue
        elif kind == "start":
            if latest and latest[-1].end is None:  # its host ended before it could record the end
                latest[-1] = replace(latest[-1], last_step=step)
            total += 1
            host, job = text_in(event, "host") or "", text_in(event, "job") or ""
            latest.append(Attempt(host, job, when, first_step=step, last_step=step, key=_key_in(event)))
        elif kind == "end" and (code := _code_in(event)) is not None:
            # An attempt that lost its lease may end after the start of the next one, or after a submission.
            keys = [attempt.key for attempt in latest]
            if _key_in(event) in keys:
                place = len(keys) - 1 - keys[::-1].index(_key_in(event))
                error = text_in(event, "error")
                latest[place] = replace(latest[place], last_step=step, end=when, code=code, error=error)
                seconds += max(0.0, when - latest[place].start)
    if latest and latest[-1].end is None:
        latest[-1] = replace(latest[-1], last_step=_progress(folder))
    return Attempts(total, tuple(latest), seconds, submitted)


def ended_well(folder: Path) -> bool:
    """Return whether the latest attempt of a unit ended with exit code 0."""
    latest = attempts_of(folder).latest
    return bool(latest) and latest[-1].code == 0


def _key_in(event: dict[str, Any]) -> str:
    """Return the random name of an attempt; empty in records of earlier versions."""
    return text_in(event, "key") or ""


def _code_in(event: dict[str, Any]) -> int | None:
    """Return an exit code, negative for a signal; None if there is none."""
    code = event.get("code")
    return code if type(code) is int and abs(code) < 2**31 else None


def why_not_again(attempts: tuple[Attempt, ...], limit: int) -> str | None:
    """Decide whether a unit that has ended is tried again.

    Args:
        attempts: the attempts of the latest submission, all ended.
        limit: the number of failures after which the unit is not tried again.

    Returns:
        The reason not to try it again, in one line; None to try it again.

    Example:
        >>> killed = Attempt("a", "1", 0.0, first_step=0, last_step=40, end=9.0, code=-9, error="killed")
        >>> why_not_again((killed,), limit=3) is None
        True
        >>> why_not_again((killed, killed), limit=3)
        'failed twice in the same way: killed'
    """
    failures = [attempt for attempt in attempts if attempt.failed]
    if not failures or failures[-1] is not attempts[-1]:
        return None
    last = failures[-1]
    error = last.error or "its host ended, or its job was killed"
    if last.code == _INVALID:
        return error
    if len(failures) >= limit:
        return f"failed {len(failures)} times, last: {error}"
    if last.code not in _STOPPED and [attempt.failure for attempt in attempts[-2:]] == [last.failure] * 2:
        return f"failed twice in the same way: {error}"
    return None


def run(folder: Path, command: list[str], limit: int) -> int:
    """Run a unit once, and record it.

    Args:
        folder: the folder of the unit.
        command: a program and its arguments. Its output is appended to log.txt.
        limit: as for `why_not_again`.

    Returns:
        0 if the unit is done, `AGAIN` if it should be tried again, otherwise its exit code or 1.
    """
    earlier = attempts_of(folder).latest
    if earlier and (reason := why_not_again(earlier, limit)):
        sys.stderr.write(f"flatvq: not tried again: {reason}\n")
        return 1
    this = {"key": secrets.token_hex(4), "job": _job()}
    _append(folder, event="start", **this, host=socket.gethostname(), step=_progress(folder))
    code = _wait_for(folder, command)
    error = None if code == 0 else _error(folder, code)
    _append(folder, event="end", **this, step=_progress(folder), code=code, error=error)
    if code == 0:
        return 0
    again = why_not_again(attempts_of(folder).latest, limit) is None
    return AGAIN if again else max(code, 1)


def _wait_for(folder: Path, command: list[str]) -> int:
    """Run a command, and pass SIGTERM on to it; return its exit code, negative for a signal."""
    with (folder / "log.txt").open("ab") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

        def forward(number: int, frame: FrameType | None) -> None:
            child.send_signal(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, forward)
        code = child.wait()
    return 128 - code if code == -signal.SIGTERM else code


def _error(folder: Path, code: int) -> str:
    """Describe in one line why a command failed."""
    if code < 0 or code > 128 + 2:
        number = -code if code < 0 else code - 128
        with suppress(ValueError):
            return f"killed by {signal.Signals(number).name}; see {folder / 'log.txt'}"
    if code in _STOPPED - {AGAIN}:
        return "stopped on request"
    with suppress(OSError):
        with (folder / "log.txt").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            lines = file.read().decode(errors="replace").splitlines()
        for line in reversed(lines):
            if line.startswith("flatvq: "):
                return line.removeprefix("flatvq: ")[:_MESSAGE]
    return f"ended with exit code {code}; see {folder / 'log.txt'}"


def _job() -> str:
    """Return the ID of the job, as the cluster's commands take it; empty outside of a cluster."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array else os.environ.get("RAY_JOB_ID", "")


def _progress(folder: Path) -> int:
    """Return the step of the newest checkpoint, or the number in the file `progress`; 0 without either."""
    with suppress(FileNotFoundError):
        names = [path.name for path in (folder / "checkpoints").iterdir()]
        return max(
            (int(name[5:]) for name in names if name[:5] == "step-" and name[5:].isdecimal()), default=0
        )
    with suppress(OSError, ValueError):
        return int((folder / "progress").read_text())
    return 0


def _append(folder: Path, **event: Any) -> None:
    """Append an event. It starts on a new line, even if a kill or a full disk cut off the last one.

    Raises:
        OSError: if it cannot be written. It names the file.
    """
    path = folder / _NAME
    line = json.dumps({"time": time.time(), **event}) + "\n"
    try:
        with path.open("a+b") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            cut = file.read(1) not in (b"", b"\n")
            file.write(b"\n" * cut + line.encode())
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _events(path: Path) -> list[dict[str, Any]]:
    """Read the events of a file; a kill may have cut off a line."""
    with suppress(FileNotFoundError):
        return [event for line in path.read_bytes().splitlines() if (event := json_object(line))]
    return []


def _main() -> int:
    try:
        return run(Path(sys.argv[2]), sys.argv[3:], int(sys.argv[1]))
    except OSError as error:  # such as a full disk; then there may be no record, but the log of the job
        known = explained(error)
        if known is None:
            raise
        sys.stderr.write(f"flatvq: {known}\n")
        return known.exit_code


if __name__ == "__main__":
    sys.exit(_main())
