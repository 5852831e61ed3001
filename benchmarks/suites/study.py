"""The default study against its first version: whole processes, from the command to the report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.timing import compared

__all__ = ["FIRST", "run"]

FIRST = "11fb8a5fbcd9877478a8fc2bbdc8690fade5412f"
"""The commit of the first version whose default study was complete."""
ROOT = Path(__file__).parents[2]


def run(rounds: int) -> dict[str, Any] | None:
    """Run both versions in turn.

    Args:
        rounds: of both.

    Returns:
        Times and verdicts, or None where the first version is not in the clone's history.
    """
    if subprocess.run(["git", "cat-file", "-e", FIRST], cwd=ROOT, capture_output=True).returncode:
        return None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = subprocess.run(["git", "archive", FIRST, "src"], cwd=ROOT, capture_output=True, check=True)
        subprocess.run(["tar", "-x"], cwd=folder, input=archive.stdout, check=True)
        taken: dict[str, list[float]] = {"flatvq": [], "other": []}
        verdicts: dict[str, dict[str, Any]] = {}
        for number in range(rounds):
            for side, source in (("other", folder / "src"), ("flatvq", ROOT / "src")):
                out = folder / f"{side}-{number}"
                taken[side].append(_seconds(source, out))
                verdicts[side] = json.loads((out / "study.json").read_text())["verdict"]
    return {
        "case": "flatvq study photographs, wall time",
        "against": f"its first version, {FIRST[:7]}",
        "target": 1.5,
        "same": f"healthy pair: {verdicts['flatvq']['healthy']} now, {verdicts['other']['healthy']} then",
        **compared(taken),
    }


def _seconds(source: Path, out: Path) -> float:
    command = [sys.executable, "-m", "flatvq", "study", "photographs", "--out", str(out)]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    started = time.perf_counter()
    subprocess.run(command, env=environment, cwd=out.parent, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started
