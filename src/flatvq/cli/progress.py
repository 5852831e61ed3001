"""Live progress: bars with an honest time left on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from flatvq.cli.interrupts import interrupts, raise_interrupt
from flatvq.cli.tables import console, duration
from flatvq.study import Outcome, Plan, StudyProgress

__all__ = ["steps", "watching"]

_LINE_EVERY_SECONDS = 30.0
_BAR = 32


@contextmanager
def watching(plan: Plan) -> Iterator[Callable[[StudyProgress], None]]:
    """Show a study's progress while the context lasts."""
    if console.is_terminal:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            yield lambda progress: live.update(_picture(progress))
    else:
        yield _Lines().show


def _picture(progress: StudyProgress) -> Table:
    share = progress.work_done / progress.work
    left = progress.seconds_left
    table = Table.grid(padding=(0, 1))
    done = sum(outcome.status in ("done", "failed") for outcome in progress.outcomes)
    remaining = f"{duration(left)} left" if left is not None else "measuring the pace"
    table.add_row(
        "study", _bar(share), f"{share:4.0%}  {done} of {len(progress.outcomes)} trials, {remaining}"
    )
    for outcome in progress.outcomes:
        if outcome.status == "running":
            table.add_row(_name(outcome), _bar(outcome.step / outcome.steps), _standing(outcome))
    return table


def _bar(share: float) -> Text:
    filled = round(share * _BAR)
    return Text("━" * filled, style="green").append("━" * (_BAR - filled), style="bright_black")


def _name(outcome: Outcome) -> str:
    return f"{outcome.trial.recipe.arm} seed {outcome.trial.recipe.seed}"


def _standing(outcome: Outcome) -> str:
    psnr = f"  {outcome.psnr_db:.2f} dB" if outcome.psnr_db is not None else ""
    return f"step {outcome.step} of {outcome.steps}{psnr}"


class _Lines:
    """Plain lines, for logs: each trial's end, and the standing every half minute."""

    def __init__(self) -> None:
        self.ended: set[str] | None = None
        self.spoke = time.monotonic()

    def show(self, progress: StudyProgress) -> None:
        ended = {_name(o): o for o in progress.outcomes if o.status in ("done", "failed")}
        news = ended.keys() - (self.ended or set())
        self.ended = set(ended)
        due = time.monotonic() - self.spoke >= _LINE_EVERY_SECONDS
        if not news and not due:
            return
        self.spoke = time.monotonic()
        left = progress.seconds_left
        remaining = f"{duration(left)} left" if left is not None else "measuring the pace"
        told = [f"{name} {ended[name].status}: {_result(ended[name])}" for name in sorted(news)]
        share = progress.work_done / progress.work
        console.print("; ".join([f"{share:.0%}", *told, remaining]), soft_wrap=True)


def _result(outcome: Outcome) -> str:
    return outcome.error or (f"{outcome.psnr_db:.3f} dB" if outcome.psnr_db is not None else "")


@contextmanager
def steps(what: str, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
    """Show the progress of something that goes step by step, in the first process alone.

    Args:
        what: what to call it.
        total: how many steps, as far as it is known.
    """
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    silent = not console.is_terminal or os.environ.get("RANK", "0") != "0"
    bars = Progress(*columns, console=console, disable=silent, transient=True)
    with interrupts(raise_interrupt), bars:
        task = bars.add_task("", total=total)
        yield lambda done, total: bars.update(task, completed=done, total=total)
