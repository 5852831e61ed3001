"""Repeat the default study with fresh seeds: `python -m benchmarks.repetitions` (results/repetitions.json).

Each repetition is the first look of `flatvq study photographs` with seeds that no other repetition uses. An
interrupted run continues where it stopped: finished repetitions are in the record. With `--isa AVX2`, oneDNN
uses AVX2 instructions only and the trainings compute in float32, as on an old processor.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from flatvq.recipe import load_recipe
from flatvq.study.results import machine_record
from flatvq.versions import VERSION, commit

RECORD = Path(__file__).parents[1] / "results" / "repetitions.json"
RECIPE = "photographs"
# Seeds below were used to choose the recipe.
FIRST_SEED = 10_000


def overrides_of(number: int, isa: str | None) -> list[str]:
    """Return the overrides of one repetition: its seeds, and float32 if the instructions are limited."""
    recipe = load_recipe(RECIPE)
    first = FIRST_SEED + number * len(recipe.seeds)
    seeds = f"seeds={list(range(first, first + len(recipe.seeds)))}"
    return [seeds, "train.precision=float32"] if isa else [seeds]


def repeat(number: int, isa: str | None) -> dict[str, Any]:
    """Run the first look of one repetition, and return its result."""
    environment = {**os.environ, **({"ONEDNN_MAX_CPU_ISA": isa} if isa else {})}
    with tempfile.TemporaryDirectory() as folder:
        overrides = [word for override in overrides_of(number, isa) for word in ("--set", override)]
        command = [sys.executable, "-m", "flatvq", "study", RECIPE, *overrides, "--out", folder]
        start = time.monotonic()
        subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - start
        study = json.loads((Path(folder) / "study.json").read_text(encoding="utf-8"))
    primary = next(comparison for comparison in study["comparisons"] if comparison["primary"])
    trials = [trial for trial in study["trials"] if trial["arm"] in (primary["a"], primary["b"])]
    return {
        "number": number,
        "isa": isa,
        "seeds": [trial["seed"] for trial in trials if trial["arm"] == primary["a"]],
        "seconds": round(seconds),
        "difference": primary["difference"],
        "interval90": primary["interval90"],
        "verdict": primary["verdict"],
        "values": {
            arm: [trial[primary["metric"]] for trial in trials if trial["arm"] == arm]
            for arm in (primary["a"], primary["b"])
        },
        "collapsed": sum(any(level["collapse"] for level in trial["levels"]) for trial in trials),
        "flatvq": VERSION,
        "commit": commit(),
        "machine": machine_record(),
    }


def main() -> None:
    """Run the repetitions that the record does not have yet."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repetitions", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--count", type=int, default=20, help="repetitions of this kind")
    parser.add_argument(
        "--first", type=int, default=0, help="number of the first one, which decides its seeds"
    )
    parser.add_argument("--isa", help="limit oneDNN to these instructions, for example AVX2")
    parser.add_argument("--out", type=Path, default=RECORD)
    asked = parser.parse_args()
    empty: dict[str, Any] = {"format": 1, "recipe": RECIPE, "repetitions": []}
    record = json.loads(asked.out.read_text(encoding="utf-8")) if asked.out.is_file() else empty
    done = {one["number"] for one in record["repetitions"]}
    for number in range(asked.first, asked.first + asked.count):
        if number in done:
            continue
        record["repetitions"].append(repeat(number, asked.isa))
        asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        last = record["repetitions"][-1]
        print(
            number,
            last["verdict"],
            last["difference"],
            last["interval90"],
            f"{last['seconds']} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
