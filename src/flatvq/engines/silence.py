"""How long a cluster has not answered: FOLDER/jobs/no-answer, which `flatvq status` shows.

The command that waits for jobs writes the file at each query without an answer, and removes it at the next
answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from flatvq.engines.engine import NoAnswerError
from flatvq.files import write_json
from flatvq.unvalidated import json_object, number_in, text_in

__all__ = ["Silence", "SilenceWatch", "silence_of"]

_FILE = Path("jobs", "no-answer")


@dataclass(frozen=True)
class Silence:
    """A time without an answer, on the clock of the command that waits."""

    since: float
    """The first query without an answer, in seconds since 1970."""
    until: float
    """The latest query without an answer."""
    error: str
    """Its error."""

    @property
    def start(self) -> str:
        """The first query without an answer, in local time."""
        return _clock(self.since)

    @property
    def end(self) -> str:
        """The latest query without an answer, in local time."""
        return _clock(self.until)


def silence_of(folder: Path) -> Silence | None:
    """Read since when a cluster has not answered; None if it answered the latest query.

    Args:
        folder: the folder of the jobs, such as that of a study.
    """
    with suppress(OSError):
        tree = json_object((folder / _FILE).read_bytes())
        since, until, error = number_in(tree, "since"), number_in(tree, "until"), text_in(tree, "error")
        if since is not None and until is not None and error is not None:
            return Silence(since, until, error)
    return None


class SilenceWatch:
    """Notes whether a cluster answers, and limits how long a command waits for an answer.

    Args:
        folder: the folder of the jobs.
        limit: seconds without an answer after which `note` raises an error.
        interval: seconds between two queries.
        notice: called with one line when the cluster stops answering, and when it answers again.
    """

    def __init__(self, folder: Path, limit: float, interval: float, notice: Callable[[str], None]) -> None:
        self._folder, self._limit, self._interval, self._notice = folder, limit, interval, notice
        self._silence: Silence | None = None
        self._start = 0.0

    def note(self, error: NoAnswerError) -> None:
        """Note a query without an answer.

        Raises:
            NoAnswerError: if there has been no answer for longer than the limit.
        """
        now = time.time()
        if self._silence is None:
            self._start = time.monotonic()
            then = f"next query in {self._interval:g} s, for at most {self._limit:g} s"
            self._notice(
                f"No answer from the cluster since {_clock(now)} ({error.what}): {then}. No job was ended."
            )
        self._silence = Silence(self._silence.since if self._silence else now, now, error.what)
        with suppress(OSError):  # the file only informs people
            write_json(self._folder / _FILE, asdict(self._silence))
        if time.monotonic() - self._start >= self._limit:
            what = f"the cluster has not answered since {self._silence.start} ({error.what})"
            raise NoAnswerError(
                what, "no job was ended; run the same command again to wait for them"
            ) from None

    def end(self) -> None:
        """Note an answer."""
        with suppress(OSError):  # also that of an earlier command
            (self._folder / _FILE).unlink()
        if self._silence is not None:
            self._silence = None
            self._notice(f"The cluster answers again after {time.monotonic() - self._start:.0f} seconds.")


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
