"""The record of the crash matrix: `python -m benchmarks.crashes` writes results/crashes.json."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.crashes.killer import Killer, missing
from benchmarks.crashes.matrix import Instant, Matrix, Undisturbed
from benchmarks.crashes.programs import Forked, command
from benchmarks.crashes.scenarios import SCENARIOS
from flatvq.versions import commit

RECORD = Path(__file__).parents[2] / "results" / "crashes.json"
_PACKAGES = ("flatvq", "torch", "safetensors", "numpy", "pyarrow", "pillow", "optuna", "tensorboard")
# The command is killed at every so many of its writes.
_EVERY = {"train": 1, "study": 7, "tune": 12, "report": 1, "pack": 1, "levels": 1}
# The same for `python -m flatvq` itself, whose imports take longer than all else.
_EVERY_AS_A_USER = {"train": 29, "study": 61, "tune": 250}


def main() -> None:
    """Make the record; exit with 1 if anything was wrong after an accident."""
    asked = _arguments()
    if what := missing():
        sys.exit(f"crashes: this needs {what}")
    with tempfile.TemporaryDirectory() as name:
        killer = Killer(Path(name))
        with Forked(killer) as forked:
            matrix = Matrix(Path(name) / "forked", killer, forked)
            measured = [_measured(matrix, one, every) for one, every in _EVERY.items()]
        matrix = Matrix(Path(name) / "command", killer, command(killer))
        again = [_measured(matrix, one, every) for one, every in _EVERY_AS_A_USER.items()]
    record = {
        "format": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": "python -m benchmarks.crashes",
        "commit": commit(),
        "machine": _machine(),
        "packages": {name: version(name) for name in _PACKAGES},
        "forked": measured,
        "as_a_user": again,
    }
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    faults = [fault for part in (*measured, *again) for fault in part["faults"]]
    print(f"{sum(part['instants'] for part in (*measured, *again))} instants, {len(faults)} with faults")
    sys.exit(1 if faults else 0)


def _measured(matrix: Matrix, name: str, every: int) -> dict[str, Any]:
    """Kill a command at every so many of its writes; at some of them, kill it again or fill the disk."""
    run = matrix.undisturbed(SCENARIOS[name])
    instants = []
    for turn, number in enumerate(range(1, len(run.writes) + 1, every)):
        kill = run.scenario.kills[turn % len(run.scenario.kills)]
        # The second kill comes at a write that has nothing to do with the first.
        instants.append(matrix.disturb(run, kill, number, 1 + 7 * number % 40 if turn % 3 == 2 else 0))
        if turn % 4 == 0:
            instants.append(matrix.disturb(run, "disk full", number))
    for one in instants:
        for fault in one.faults:
            print(f"crashes: {name}, {one.accident} at write {one.number}: {fault}", file=sys.stderr)
    print(f"crashes: {name}: {len(instants)} instants", file=sys.stderr, flush=True)
    return _summary(run, instants)


def _summary(run: Undisturbed, instants: Sequence[Instant]) -> dict[str, Any]:
    wrong = [one for one in instants if one.faults]
    return {
        "command": " ".join(("flatvq", *run.scenario.arguments)),
        "writes": len(run.writes),
        "instants": len(instants),
        "accidents": Counter(one.accident for one in instants),
        "calls": Counter(one.write.call for one in instants if one.write),
        "ended_before": sum(one.write is None for one in instants),
        "twice": sum(one.times == 2 for one in instants),
        "as_undisturbed": len(instants) - len(wrong),
        "faults": [{"write": one.number, "accident": one.accident, "faults": one.faults} for one in wrong],
    }


def _machine() -> dict[str, Any]:
    from flatvq.study.results import machine_record

    return {**machine_record(), "libc": " ".join(platform.libc_ver())}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crashes", description=__doc__)
    parser.add_argument("--out", type=Path, default=RECORD, help="the record")
    return parser.parse_args()


if __name__ == "__main__":
    main()
