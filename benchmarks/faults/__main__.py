"""Disturb small studies by faults at random instants, and add them to results/faults.json.

The same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.faults import local, ray, slurm
from benchmarks.faults.disk import Disk
from benchmarks.faults.record import FaultRecord, nth_fault
from benchmarks.faults.sites import Site
from benchmarks.faults.study import SmallStudy
from benchmarks.faults.table import FAULTS, faults_on

RECORD = Path(__file__).parents[2] / "results" / "faults.json"
_SITES: dict[str, tuple[Callable[[], str | None], Callable[[Path], Site]]] = {
    "local": (local.missing, local.Local),
    "slurm": (slurm.missing, slurm.started),
    "slurm-gang": (slurm.missing, slurm.started),
    "ray": (ray.missing, ray.Ray),
}


def main() -> None:
    """Disturb studies; exit with 1 if anything was wrong after a fault."""
    asked = _arguments()
    missing, start = _SITES[asked.on]
    if what := missing():
        sys.exit(f"faults: this needs {what}")
    record, wrong = FaultRecord(asked.out), 0
    with _workspace() as root:
        site = start(root)
        disk = Disk(root / "disk") if asked.on in ("local", "slurm") else None
        folder = disk.folder / "study" if disk else None
        nodes = 2 if asked.on == "slurm-gang" else 1
        study = SmallStudy(root / "study", site, asked.steps, asked.seeds, nodes, folder)
        try:
            faults, undisturbed = faults_on(asked.on, disk), study.undisturbed()
            for number in range(asked.count):
                name, randomness = nth_fault(list(faults), asked.seed, number)
                if record.has(asked.on, asked.seed, number) or (asked.only and name not in asked.only):
                    continue
                one = study.disturb(name, faults[name], undisturbed, randomness)
                record.add(asked.on, site.version, asked.seed, number, one)
                wrong += bool(one.faults)
                print(f"faults: {number}: {one}", file=sys.stderr, flush=True)
        finally:
            study.stop()
            site.stop()
            if disk:
                disk.unmount()
    sys.exit(1 if wrong else 0)


@contextmanager
def _workspace() -> Iterator[Path]:
    """Yield a temporary folder. SIGTERM ends the program as an error does, so that clusters are stopped."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    root = Path(tempfile.mkdtemp(prefix="flatvq-faults-", dir="/tmp"))  # a short path, for sockets
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--on", choices=list(FAULTS), default="local", help="where the studies run")
    parser.add_argument("--count", type=int, default=18, help="number of disturbed studies of this seed")
    parser.add_argument("--seed", type=int, default=0, help="of the random faults and instants")
    parser.add_argument("--steps", type=int, default=120, help="training steps of a trial")
    parser.add_argument("--seeds", type=int, default=1, help="trials of each of the two arms")
    parser.add_argument("--only", action="append", choices=_names(), help="these faults alone")
    parser.add_argument("--out", type=Path, default=RECORD, help="the record")
    return parser.parse_args()


def _names() -> list[str]:
    return sorted({name for site in FAULTS for name in [*FAULTS[site], "full disk", "read-only mount"]})


if __name__ == "__main__":
    main()
