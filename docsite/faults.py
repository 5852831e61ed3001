"""The table of the faults that were tried, from results/faults.json."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

__all__ = ["faults"]

_RECORD = Path(__file__).parents[1] / "results" / "faults.json"
_SITES = {
    "local": "this machine",
    "slurm": "Slurm",
    "slurm-gang": "Slurm, two nodes for each trial",
    "ray": "Ray",
}


def faults() -> str:
    """Return the table: how often each fault came, on each site."""
    tried = json.loads(_RECORD.read_text(encoding="utf-8"))["disturbances"]
    counts = Counter((one["fault"], one["site"]) for one in tried)
    rows = [["fault", *_SITES.values()], ["---"] * (len(_SITES) + 1)]
    rows += [
        [name, *(str(counts[name, site] or "") for site in _SITES)]
        for name in sorted({one["fault"] for one in tried})
    ]
    rows.append(["all", *(str(sum(one["site"] == site for one in tried)) for site in _SITES)])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)
