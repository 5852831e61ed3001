"""What differs when a run resumes on other hardware or with another number of processes.

The images and the random draws of a step depend only on the recipe and the step. So a run may resume with any
number of processes that divides its batch, and on another device.
"""

from __future__ import annotations

from pathlib import Path

from flatvq.errors import FlatvqError
from flatvq.records import read_rows
from flatvq.train.machine import Machine

__all__ = ["resume_notice"]


def resume_notice(records: Path, machine: Machine) -> str:
    """Describe how the processes of a run differ from its processes before the interruption.

    Args:
        records: the file `records.jsonl` of the run, before this start is recorded.
        machine: the processes of this start.

    Returns:
        One line; empty if nothing differs or the run has not started before.
    """
    try:
        rows = read_rows(records).rows if records.exists() else []
    except FlatvqError:  # damaged lines are reported elsewhere
        return ""
    now = {"world_size": machine.world_size, "device": str(machine.device), "precision": machine.precision}
    starts = [row for row in rows if row.get("kind") == "start"]
    before: dict[str, object] = starts[-1] if starts else {}
    changed = [key for key in now if key in before and before[key] != now[key]]
    if not changed:
        return ""
    differences = ", ".join(f"{_text(now[key])} instead of {_text(before[key])}" for key in changed)
    effect = "the precision" if "precision" in changed else "rounding"
    constant = "images and random draws of each step stay the same"
    return f"resumes with {differences}: {constant}, results differ by {effect}"


def _text(value: object) -> str:
    return f"{value} process{'' if value == 1 else 'es'}" if isinstance(value, int) else str(value)
