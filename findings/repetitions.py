"""Repetitions of the default study with other seeds (results/repetitions.json)."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

__all__ = ["repetitions_sentence"]


def repetitions_sentence(path: Path) -> str:
    """State how often a repetition of the default study was settled, and how.

    Args:
        path: results/repetitions.json.

    Returns:
        Sentences; empty if there is no record.
    """
    if not path.is_file():
        return ""
    repetitions = json.loads(path.read_text(encoding="utf-8"))["repetitions"]
    verdicts = Counter(one["verdict"] for one in repetitions)
    number = len(repetitions)
    settled = number - verdicts.pop("inconclusive", 0)
    listed = ", ".join(f"*{verdict}* in {times}" for verdict, times in verdicts.most_common())
    limited = sum(one["isa"] == "AVX2" for one in repetitions)
    counted = f"All {number}" if settled == number else f"{settled} of the {number}"
    return (
        f"The study was repeated {number} times with other seeds, {limited} times with float32 on AVX2 "
        f"alone. {counted} were settled at the first look: {listed}."
    )
