"""Compares flatvq with the libraries that people use today: results/bench.json and docs/performance.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import render
from benchmarks.suites import memory, study

ROOT = Path(__file__).parents[1]
PHOTOGRAPHS = ROOT.parent / "shared" / "imagenet-sample" / "train"
GPU = ROOT / "results" / "gpu-h100.json"
# Earlier records, of machines with other processors.
OTHERS = sorted((ROOT / "results").glob("bench-*.json"))
PACKAGES = ("torch", "faiss-cpu", "vector-quantize-pytorch", "numpy", "pillow")


def main() -> None:
    """Measure, write the record, and render it."""
    asked = _arguments()
    if asked.render or asked.only:
        bench = json.loads(asked.out.read_text(encoding="utf-8"))
    if asked.only:
        bench = _again(bench, asked)
    elif not asked.render:
        bench = measure(asked)
    if not asked.render:
        asked.out.parent.mkdir(parents=True, exist_ok=True)
        asked.out.write_text(json.dumps(bench, indent=1) + "\n", encoding="utf-8")
    print("\n".join([*render.table(bench), "", *render.peaks(bench)]))
    if not asked.quick:
        others = [json.loads(path.read_text(encoding="utf-8")) for path in OTHERS]
        gpu = json.loads(GPU.read_text(encoding="utf-8"))
        render.page(bench, others, gpu, ROOT / "docs" / "performance.md")
        render.plots(bench, ROOT / "docs")


def measure(asked: argparse.Namespace) -> dict[str, Any]:
    """Run every suite, one after the other, each in its own process."""
    cases = []
    for thresholds in (True,) if asked.quick else (True, False):
        for suite in ("quantizer", "trained", "step"):
            cases += [
                {**case, "thresholds": thresholds}
                for case in _child(suite=suite, quick=asked.quick, thresholds=thresholds)
            ]
    cases += _pipeline(asked)
    peaks = [_peaks(*case) for case in (memory.QUICK if asked.quick else memory.CASES)]
    whole_study = None if asked.quick else study.run(asked.studies)
    return {
        "format": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": asked.quick,
        "machine": _machine(),
        "packages": {name: version(name) for name in PACKAGES},
        "cases": [*cases, *([{**whole_study, "thresholds": True}] if whole_study else [])],
        "memory": peaks,
        "curves": [] if asked.quick else _child(suite="scaling", thresholds=True),
    }


def _again(bench: dict[str, Any], asked: argparse.Namespace) -> dict[str, Any]:
    """Measure some cases again, or the curves, and replace the old results."""
    if asked.only == "curves":
        return {**bench, "curves": _child(suite="scaling", thresholds=True)}
    replaced = {}
    if asked.only == "study":
        if whole_study := study.run(asked.studies):
            replaced[whole_study["case"], True] = {**whole_study, "thresholds": True}
    elif asked.only == "pipeline":
        replaced = {(case["case"], True): case for case in _pipeline(asked)}
    else:
        for thresholds in (True, False):
            for suite in ("quantizer", "trained"):
                for case in _child(suite=suite, quick=False, only=asked.only, thresholds=thresholds):
                    replaced[case["case"], thresholds] = {**case, "thresholds": thresholds}
    cases = [replaced.pop((case["case"], case["thresholds"]), case) for case in bench["cases"]]
    return {**bench, "cases": [*cases, *replaced.values()]}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="in 3 minutes; leaves the documents as they are")
    parser.add_argument("--render", action="store_true", help="measure nothing; render the record again")
    parser.add_argument(
        "--only",
        default="",
        help="measure again the quantizers' cases with this in their title, 'study', 'pipeline' or 'curves'",
    )
    parser.add_argument("--out", type=Path, help="the record; results/bench.json if not given")
    parser.add_argument("--photographs", type=Path, default=PHOTOGRAPHS, help="a folder of JPEG files")
    parser.add_argument(
        "--studies", type=int, default=1, help="rounds of the default study and its first version"
    )
    asked = parser.parse_args()
    asked.out = asked.out or (Path("bench-quick.json") if asked.quick else ROOT / "results" / "bench.json")
    if (asked.render or asked.only) and not asked.out.is_file():
        parser.error(
            f"there is no record {asked.out} to go on from; measure one first, without --render and --only"
        )
    return asked


def _pipeline(asked: argparse.Namespace) -> list[dict[str, Any]]:
    if not asked.photographs.is_dir():
        _tell(f"no photographs in {asked.photographs}: the input pipeline is left out (--photographs)")
        return []
    options = {"quick": asked.quick, "folder": str(asked.photographs), "thresholds": True}
    return [{**case, "thresholds": True} for case in _child(suite="pipeline", **options)]


def _peaks(levels: int, size: int, dim: int) -> dict[str, Any]:
    case = {"levels": levels, "size": size, "dim": dim}
    sides = {side: _child(suite="memory", side=side, **case) for side in ("flatvq", "other")}
    return memory.summary(levels, size, dim, sides)


def _child(**asked: Any) -> Any:
    _tell(" ".join(f"{key}={value}" for key, value in asked.items()))
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.child", json.dumps(asked)]
    with tempfile.TemporaryDirectory() as cache:  # so that what compiles does so anew
        environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
        done = subprocess.run(command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"bench: suite {asked['suite']} ended as is said above; nothing is written, start again")
    return json.loads(done.stdout.splitlines()[-1])


def _tell(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr, flush=True)


def _machine() -> dict[str, Any]:
    from flatvq.nearest import status
    from flatvq.study.results import machine_record
    from flatvq.train.machine import cpu_has

    return {
        **machine_record(),
        "libc": " ".join(platform.libc_ver()),
        "instructions": [flag for flag in render.INSTRUCTIONS if cpu_has(flag)],
        "search": status(),
    }


if __name__ == "__main__":
    main()
