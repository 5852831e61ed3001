"""The record of the faults, which grows by one disturbed study at a time."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.faults.study import Disturbance
from flatvq.files import write_json
from flatvq.versions import commit

__all__ = ["FaultRecord", "nth_fault"]


class FaultRecord:
    """The file.

    Args:
        path: the file; it need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def has(self, site: str, seed: int, number: int) -> bool:
        """Return whether it has a disturbed study."""
        key = [site, seed, number]
        return any([one["site"], one["seed"], one["number"]] == key for one in self._disturbances())

    def add(self, site: str, version: str, seed: int, number: int, disturbance: Disturbance) -> None:
        """Add a disturbed study. Other programs may have added some since the last one."""
        where = {"site": site, "version": version, "commit": commit(), "seed": seed, "number": number}
        all_of_them = [*self._disturbances(), {**where, **asdict(disturbance)}]
        all_of_them.sort(key=lambda one: (one["site"], one["seed"], one["number"]))
        write_json(self.path, {"format": 2, "disturbances": all_of_them})

    def _disturbances(self) -> list[dict[str, Any]]:
        if not self.path.exists():
            return []
        return list(json.loads(self.path.read_text(encoding="utf-8"))["disturbances"])


def nth_fault(names: Sequence[str], seed: int, number: int) -> tuple[str, random.Random]:
    """Choose the fault of a disturbed study: each comes once before one comes again.

    Args:
        names: the faults.
        seed: of the record.
        number: of the study, from 0.

    Returns:
        The fault, and what draws its instant.

    Example:
        >>> sorted(nth_fault(["full disk", "preemption"], 0, number)[0] for number in range(2))
        ['full disk', 'preemption']
    """
    turn, position = divmod(number, len(names))
    order = random.Random(f"{seed} {turn}").sample(sorted(names), len(names))
    return order[position], random.Random(f"{seed} {number}")
