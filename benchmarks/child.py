"""Runs one suite in its own process: `python -m benchmarks.child '{"suite": ...}'` prints JSON.

With `thresholds`, glibc's malloc keeps freed memory for every contender in the process, as in flatvq's
trainings. Without, all contenders use the default allocator.
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.suites import memory, pipeline, quantizer, scaling, step, trained
from flatvq.train.machine import keep_freed_memory


def run_suite(asked: dict[str, Any]) -> Any:
    """Run a suite and return its measurements."""
    if asked.get("thresholds"):
        keep_freed_memory()
    gc.collect()
    gc.freeze()  # what the imports left behind is no contender's to collect
    match asked["suite"]:
        case "quantizer":
            return quantizer.run(asked["quick"], asked.get("only", ""))
        case "trained":
            return trained.run(asked["quick"], asked.get("only", ""))
        case "step":
            return step.run(asked["quick"])
        case "scaling":
            return scaling.run()
        case "memory":
            return memory.run(asked["side"], asked["levels"], asked["size"], asked["dim"])
        case "pipeline":
            return pipeline.run(asked["quick"], Path(asked["folder"]))
    raise ValueError(asked)


if __name__ == "__main__":
    print(json.dumps(run_suite(json.loads(sys.argv[1]))))
    gc.unfreeze()  # or libraries that look for leaks when they are unloaded find these
