"""The frame of a program that measures one thing and writes one record."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flatvq.versions import VERSION, commit

__all__ = ["make_record"]

_RESULTS = Path(__file__).parents[1] / "results"


def make_record(
    name: str,
    about: str | None,
    option: str,
    default: int,
    explanation: str,
    measure: Callable[[int, Path], Mapping[str, Any]],
) -> None:
    """Read the options of `python -m benchmarks.NAME`, measure, and write results/NAME.json.

    Args:
        name: the name of the program and of the record.
        about: what it does, for its help.
        option: the name of the number that it takes.
        default: its default.
        explanation: its help.
        measure: called with the number and an empty folder; returns the content of the record.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument(f"--{option}", dest="number", type=int, default=default, help=explanation)
    parser.add_argument("--out", type=Path, default=_RESULTS / f"{name}.json", help="the record")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix=f"flatvq-{name}-") as workspace:
        measured = measure(asked.number, Path(workspace))
    record = {
        "format": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"python -m benchmarks.{name} --{option} {asked.number}",
        "version": VERSION,
        "commit": commit(),
        **measured,
    }
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record, indent=1))
