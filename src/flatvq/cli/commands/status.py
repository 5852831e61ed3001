"""The command `status`."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from flatvq.cli.app import AsJson, StudyFolder

if TYPE_CHECKING:
    from flatvq.engines.silence import Silence
    from flatvq.engines.status import TrialState

__all__ = ["status"]

_WATCH_SECONDS = 2.0
_ENDED = ("done", "failed")
_HEADINGS = ("arm", "seed", "state", "host", "step", "s/step", "left", "attempts", "last error")


def status(
    study: StudyFolder,
    as_json: AsJson = False,
    watch: Annotated[bool, typer.Option("--watch", help="Repeat until all trials have ended.")] = False,
) -> None:
    """Show every trial of a study, wherever it runs: state, step, pace, time left, attempts and last error.

    The command only reads the folder of the study. It does not query the cluster, and changes nothing. If the
    cluster does not answer a command that waits for the trials, it shows since when.
    """
    from dataclasses import asdict

    from flatvq.engines.silence import silence_of
    from flatvq.engines.status import trial_states

    while True:
        states, silence = trial_states(study), silence_of(study)
        if as_json:
            tree = {
                "study": str(study),
                "no_answer": asdict(silence) if silence else None,
                "trials": [asdict(state) for state in states],
            }
            typer.echo(json.dumps(tree))
        else:
            if watch:
                typer.echo("\033[2J\033[H", nl=False)
            typer.echo(_table(states, silence))
        if not watch or all(state.state in _ENDED for state in states):
            return
        time.sleep(_WATCH_SECONDS)


def _table(states: list[TrialState], silence: Silence | None) -> str:
    """Return a table as plain text, which is fast with thousands of rows."""
    rows = [_HEADINGS, *map(_row, states)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS) - 1)]
    lines = [
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[-1]]).rstrip()
        for row in rows
    ]
    kinds = dict.fromkeys(state.state for state in states)
    counts = ", ".join(f"{sum(state.state == kind for state in states)} {kind}" for kind in sorted(kinds))
    lines.append(f"{len(states)} trials: {counts}")
    if silence:
        lines.append(
            f"No answer from the cluster since {silence.start} ({silence.error}). Last query: {silence.end}."
        )
    return "\n".join(lines)


def _row(state: TrialState) -> tuple[str, ...]:
    step = f"{state.step}/{state.steps}" if state.steps else "-"
    speed = f"{state.seconds_per_step:.3g}" if state.seconds_per_step else "-"
    left = _clock(state.seconds_left) if state.seconds_left is not None else "-"
    host = state.host or "-"
    return (
        state.arm,
        str(state.seed),
        state.state,
        host,
        step,
        speed,
        left,
        str(state.attempts),
        state.error or "",
    )


def _clock(seconds: float) -> str:
    """Return hours, minutes and seconds.

    Example:
        >>> _clock(3725.4)
        '1:02:05'
    """
    total = round(seconds)
    return f"{total // 3600}:{total // 60 % 60:02d}:{total % 60:02d}"
