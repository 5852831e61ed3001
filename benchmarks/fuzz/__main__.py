"""Mutated files for every reader: `python -m benchmarks.fuzz` writes results/fuzz.json, in a few hours.

    python -m benchmarks.fuzz --only images --count 1000    a part of it; writes fuzz-part.json
    python -m benchmarks.fuzz --again images 0 1234         reads input 1234 of seed 0, and leaves its files
                                                            in the folder fuzz-input

The record states for each target the commit of flatvq that was tested. A target that the record has already,
with the same seed, as many inputs and the same versions of other packages, is skipped unless `--only` names
it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.fuzz.child import LIMIT_SECONDS, Batch, files_of, made
from benchmarks.fuzz.runner import ROOT, batches_of, merged, run, write_corpus_in
from benchmarks.fuzz.targets import TARGETS
from flatvq.versions import VERSION, commit

RECORD = ROOT / "results" / "fuzz.json"
PACKAGES = (
    "constriction",
    "numpy",
    "pillow",
    "pyarrow",
    "pydantic",
    "PyYAML",
    "safetensors",
    "torch",
)
COUNT = 100_000
_FAULTS_KEPT = 100


def main() -> None:
    """Read the inputs of all targets, or one input again."""
    asked = _arguments()
    # In memory: an input costs a few writes.
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        corpus = write_corpus_in(Path(name))
        if asked.again:
            target, seed, number = asked.again
            again(corpus, Path(name) / "again", Batch(target, int(seed), int(number), 1))
            return
        record = json.loads(asked.out.read_text(encoding="utf-8")) if asked.out.is_file() else {}
        head = _head()
        known = {result["target"]: result for result in record.get("targets", [])}
        if not record.get("packages", {}).items() <= head["packages"].items():
            known = {}
        for target in asked.only or TARGETS:
            if not asked.only and _has(known.get(target), asked.seed, asked.count):
                continue
            print(f"fuzz: {target}", file=sys.stderr, flush=True)
            known[target] = _target_record(corpus, Path(name) / "work", target, asked.seed, asked.count)
            record = {**head, "targets": [known[name] for name in TARGETS if name in known]}
            asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print("\n".join(f"{one['target']}: {one['outcomes']}" for one in record["targets"]))


def again(corpus: Path, folder: Path, batch: Batch) -> None:
    """Read one input in this process, and leave its files in the folder `fuzz-input`."""
    kept = Path("fuzz-input").resolve()
    folder.mkdir()
    target = made(batch.target, corpus, folder)
    files = files_of(target, batch, batch.first)
    shutil.rmtree(kept, ignore_errors=True)
    for path, content in files.items():
        (kept / path).parent.mkdir(parents=True, exist_ok=True)
        (kept / path).write_bytes(content)
        path.write_bytes(content)
        print(kept / path, f"{len(content)} bytes", flush=True)
    try:
        print(target.read(list(files)))
    finally:
        os.chdir(kept)


def _has(result: dict[str, Any] | None, seed: int, count: int) -> bool:
    return result is not None and result["seed"] == seed and result["count"] >= count


def _target_record(corpus: Path, folder: Path, target: str, seed: int, count: int) -> dict[str, Any]:
    result = merged([result for _, result in run(corpus, folder, batches_of(target, seed, 0, count))])
    faults = [{"number": number, "fault": fault} for number, fault in sorted(result.faults.items())]
    return {
        "target": target,
        "reads": (TARGETS[target].__doc__ or "").splitlines()[0],
        "flatvq": VERSION,
        "commit": commit(),
        "seed": seed,
        "count": sum(result.outcomes.values()),
        "outcomes": dict(sorted(result.outcomes.items())),
        "faults": faults[:_FAULTS_KEPT],
        "seconds": round(result.seconds, 1),
        "process_bytes": result.process_bytes,
        "input_bytes": result.input_bytes,
        "limit_bytes": TARGETS[target].limit_bytes,
    }


def _head() -> dict[str, Any]:
    from flatvq.study.results import machine_record

    return {
        "format": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_record(),
        "packages": {name: version(name) for name in PACKAGES},
        "limit_seconds": LIMIT_SECONDS,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", nargs="*", choices=list(TARGETS), help="these targets")
    parser.add_argument("--count", type=int, default=COUNT, help="inputs of each target")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="the record; results/fuzz.json if all is asked for")
    parser.add_argument("--again", nargs=3, metavar=("TARGET", "SEED", "NUMBER"), help="read one input again")
    asked = parser.parse_args()
    asked.out = asked.out or (RECORD if asked.count >= COUNT else Path("fuzz-part.json"))
    return asked


if __name__ == "__main__":
    main()
