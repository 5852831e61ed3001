"""The record of the faults: `python -m benchmarks.faults` writes results/faults.json."""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.faults.cluster import Cluster, missing
from benchmarks.faults.study import FAULTS, Disturbance, StudyOnCluster
from flatvq.versions import commit

RECORD = Path(__file__).parents[2] / "results" / "faults.json"


def main() -> None:
    """Make the record; exit with 1 if anything was wrong after a fault."""
    asked = _arguments()
    if what := missing():
        sys.exit(f"faults: this needs {what}")
    place = Path(tempfile.mkdtemp(prefix="flatvq-faults-"))
    cluster = Cluster(place)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))  # so that the cluster is stopped
    try:
        cluster.start()
        version = cluster.slurm("sinfo", "--version")
        disturbances = _disturbed(
            StudyOnCluster(place / "study", cluster, asked.steps), asked.count, asked.seed, asked.only
        )
    finally:
        cluster.stop()
        shutil.rmtree(place, ignore_errors=True)
    record = {
        "format": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": f"python -m benchmarks.faults --count {asked.count} --seed {asked.seed}",
        "commit": commit(),
        "scheduler": version,
        "disturbances": [asdict(one) for one in disturbances],
    }
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    wrong = sum(bool(one.faults) for one in disturbances)
    print(f"{len(disturbances)} studies disturbed, {wrong} with faults")
    sys.exit(1 if wrong else 0)


def _disturbed(study: StudyOnCluster, count: int, seed: int, only: list[str]) -> list[Disturbance]:
    """Disturb a study again and again, by each fault in turn, at random instants."""
    undisturbed = study.undisturbed()
    randomness = random.Random(seed)
    names: list[str] = []
    disturbances = []
    for number in range(count):
        names = names or randomness.sample(only or list(FAULTS), len(only or FAULTS))
        shutil.rmtree(study.folder, ignore_errors=True)
        one = study.disturb(names.pop(), undisturbed, randomness)
        disturbances.append(one)
        print(f"faults: {number + 1}: {one}", file=sys.stderr, flush=True)
    return disturbances


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=18, help="number of disturbed studies")
    parser.add_argument("--seed", type=int, default=0, help="of the random faults and instants")
    parser.add_argument("--steps", type=int, default=1000, help="training steps of a trial")
    parser.add_argument(
        "--only", action="append", default=[], choices=list(FAULTS), help="these faults alone"
    )
    parser.add_argument("--out", type=Path, default=RECORD, help="the record")
    return parser.parse_args()


if __name__ == "__main__":
    main()
