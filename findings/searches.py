"""The searches that chose the values of the tuned arms."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from findings.records import Record

__all__ = ["Search", "read_searches", "searches_table"]

Search = dict[str, Any]
"""The content of a tune.json."""


def read_searches(folder: Path) -> dict[str, Search]:
    """Read the searches of a study, by arm."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def searches_table(record: Record, searches: Mapping[str, Search]) -> str:
    """Return the number of trials of each search, and the values of the arm with its best trial."""
    lines = [
        "| arm | trials: finished, pruned | codebook sizes | code dimensions | commitment weights "
        "| learning rate | decay | replacement: every, below |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for arm in record.arms:
        states = [trial["state"] for trial in searches[arm]["trials"]]
        recipe = record.recipes[arm]
        levels, train, codebook = recipe["model"]["levels"], recipe["train"], recipe["codebook"]
        weights = [
            train["commitment_weight"] if level["commitment_weight"] is None else level["commitment_weight"]
            for level in levels
        ]
        cells = (
            arm,
            f"{states.count('done')}, {states.count('pruned')}",
            " + ".join(f"{level['codebook_size']:,}" for level in levels),
            " + ".join(str(level["code_dim"]) for level in levels),
            " + ".join(f"{weight:.2g}" for weight in weights),
            f"{train['learning_rate']:.2g}",
            f"{codebook['update']['decay']:.2g}",
            f"{codebook['replacement']['every']} steps, {codebook['replacement']['fraction']:.2g}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
