"""Progress of studies and tasks: live bars on a terminal, occasional lines elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from flatvq.cli.interrupts import interrupts, raise_interrupt
from flatvq.cli.tables import console, duration
from flatvq.study import Outcome, StudyProgress

__all__ = ["study_progress", "task_progress"]

_LINE_EVERY_SECONDS = 30.0
_BAR_WIDTH = 32
_ENDED = ("done", "failed")


@contextmanager
def study_progress() -> Iterator[Callable[[StudyProgress], None]]:
    """Show the progress of a study while the context is active.

    Yields:
        A function that shows the current progress.
    """
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            yield lambda progress: live.update(_bars(progress))
    else:
        yield _Lines().show


def _bars(progress: StudyProgress) -> Table:
    share = progress.work_done / progress.work
    table = Table.grid(padding=(0, 1))
    ended = sum(outcome.status in _ENDED for outcome in progress.outcomes)
    counts = f"{share:4.0%}  {ended} of {len(progress.outcomes)} trials, {_time_left(progress)}"
    table.add_row("study", _bar(share), counts)
    for outcome in progress.outcomes:
        if outcome.status == "running":
            table.add_row(_name(outcome), _bar(outcome.step / outcome.steps), _step(outcome))
    return table


def _bar(share: float) -> Text:
    filled = round(share * _BAR_WIDTH)
    return Text("━" * filled, style="green").append("━" * (_BAR_WIDTH - filled), style="bright_black")


def _name(outcome: Outcome) -> str:
    return f"{outcome.trial.recipe.arm} seed {outcome.trial.recipe.seed}"


def _step(outcome: Outcome) -> str:
    psnr = f"  {outcome.psnr_db:.2f} dB" if outcome.psnr_db is not None else ""
    return f"step {outcome.step} of {outcome.steps}{psnr}"


def _time_left(progress: StudyProgress) -> str:
    if progress.seconds_left is None:
        return "estimating the time left"
    return f"{duration(progress.seconds_left)} left"


class _Lines:
    """Prints a line when a trial ends, and at least every half minute."""

    def __init__(self) -> None:
        self.printed: set[str] = set()
        self.last_time = time.monotonic()

    def show(self, progress: StudyProgress) -> None:
        # Trials that an earlier call trained have no time.
        ended = {
            _name(outcome): outcome
            for outcome in progress.outcomes
            if outcome.status in _ENDED and outcome.seconds is not None
        }
        new = sorted(ended.keys() - self.printed)
        self.printed = set(ended)
        if not new and time.monotonic() - self.last_time < _LINE_EVERY_SECONDS:
            return
        self.last_time = time.monotonic()
        results = [f"{name} {ended[name].status}: {_result(ended[name])}" for name in new]
        share = progress.work_done / progress.work
        console.print("; ".join([f"{share:.0%}", *results, _time_left(progress)]), soft_wrap=True)


def _result(outcome: Outcome) -> str:
    return outcome.error or (f"{outcome.psnr_db:.3f} dB" if outcome.psnr_db is not None else "")


@contextmanager
def task_progress(
    description: str, total: int | None = None, unit: str = "steps"
) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of a task on stderr: a bar on a terminal, occasional lines elsewhere.

    stdout is left to results, such as those of `--json`. Under `torchrun`, only rank 0 shows the progress.

    Args:
        description: name of the task, such as `encoding`.
        total: number of steps, if known.
        unit: what the task counts, in the plural.

    Yields:
        A function that takes the number of finished steps and the total.
    """
    console = Console(stderr=True, markup=False, emoji=False)
    silent = os.environ.get("RANK", "0") != "0"
    columns = (TextColumn(description), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    bars = Progress(*columns, console=console, disable=silent or not console.is_terminal, transient=True)
    with interrupts(raise_interrupt), bars:
        task = bars.add_task("", total=total)
        if silent or console.is_terminal:
            yield lambda done, total: bars.update(task, completed=done, total=total)
        else:
            yield _TaskLines(console, description, unit)


class _TaskLines:
    """Prints a line at least every half minute."""

    def __init__(self, console: Console, description: str, unit: str) -> None:
        self.console = console
        self.description = description
        self.unit = unit
        self.start: tuple[float, int] | None = None
        self.last_time = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if self.start is None:
            self.start = now, done
        if now - self.last_time < _LINE_EVERY_SECONDS:
            return
        self.last_time = now
        start_time, start_done = self.start
        left = ""
        if done > start_done:
            seconds = (total - done) * (now - start_time) / (done - start_done)
            left = f", {duration(seconds)} left"
        text = f"{self.description}: {done:,} of {total:,} {self.unit}{left}"
        self.console.print(text, soft_wrap=True)
