"""One process that reads mutated inputs: `python -m benchmarks.fuzz.child CORPUS FOLDER BATCHES`.

It works in FOLDER, on copies of the corpus, under a limit of memory, with warnings as errors. BATCHES is a
list in JSON, and the output is a line of JSON for each batch. FOLDER/number holds the number of the input
that is being read, for the case that the process dies of it.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import resource
import shutil
import sys
import time
import traceback
import warnings
from dataclasses import asdict, dataclass, field
from importlib import import_module
from pathlib import Path
from random import Random

from benchmarks.fuzz.targets import TARGETS, Files, Target
from flatvq.errors import FlatvqError

__all__ = ["LIMIT_SECONDS", "Batch", "Result", "files_of", "made"]

LIMIT_SECONDS = 10
"""Time of the processor that an input may take."""
# Address space over memory: threads reserve it, and the allocator keeps it.
_ROOM = 2
# Bytes by which an input may raise the peak for all others.
_FORGOTTEN = 2**26
# Characters that an error may have: both of its halves are cut at 4,000.
_LONGEST = 9000


@dataclass(frozen=True)
class Batch:
    """Some inputs of a target: `count` of them from the number `first` on."""

    target: str
    seed: int
    first: int
    count: int


@dataclass
class Result:
    """What came of a batch."""

    outcomes: dict[str, int] = field(default_factory=dict)
    faults: dict[int, str] = field(default_factory=dict)
    seconds: float = 0.0
    process_bytes: int = 0
    """The peak of the process."""
    input_bytes: int = 0
    """The most by which one input raised that peak."""

    def add(self, number: int, outcome: str, fault: str) -> None:
        """Count an input."""
        word = "fault" if fault else outcome
        self.outcomes[word] = self.outcomes.get(word, 0) + 1
        if fault:
            self.faults[number] = fault


def files_of(target: Target, batch: Batch, number: int) -> Files:
    """Make the files of an input, from its target, seed and number alone."""
    return target.inputs(Random(f"{batch.target} {batch.seed} {number}"))


def made(name: str, corpus: Path, folder: Path) -> Target:
    """Make a target that works in a copy of the corpus, and see that the valid files are accepted."""
    workspace = folder / name
    shutil.copytree(corpus, workspace)
    os.chdir(workspace)
    target = _class_of(name)()
    target.read(list(target.valid)[:1])
    return target


def _class_of(name: str) -> type[Target]:
    """Return a target's class by its name, or by `module:Class` for one that is not in the record."""
    module, _, kind = name.rpartition(":")
    return getattr(import_module(module), kind) if module else TARGETS[name]


def main(corpus: Path, folder: Path, batches: list[Batch]) -> None:
    """Read all inputs of some batches."""
    folder.mkdir(parents=True, exist_ok=True)
    targets: dict[str, Target] = {}
    with _counter(folder / "number") as current:
        for batch in batches:
            _limit_memory(None)
            if batch.target not in targets:
                targets[batch.target] = made(batch.target, corpus, folder)
            os.chdir(folder / batch.target)
            _limit_memory(_ROOM * targets[batch.target].limit_bytes)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                print(json.dumps(asdict(_read_all(targets[batch.target], batch, current))), flush=True)


def _read_all(target: Target, batch: Batch, current: mmap.mmap) -> Result:
    result = Result()
    _forget_peak()
    started = time.perf_counter()
    for number in range(batch.first, batch.first + batch.count):
        current[:8] = number.to_bytes(8, "little")
        before = _peak()
        outcome, fault = _read(target, files_of(target, batch, number))
        result.add(number, outcome, fault)
        raised = _peak() - before
        result.input_bytes = max(result.input_bytes, raised)
        result.process_bytes = max(result.process_bytes, _peak())
        if raised > _FORGOTTEN:
            _forget_peak()
    result.seconds = time.perf_counter() - started
    return result


def _read(target: Target, files: Files) -> tuple[str, str]:
    """Read an input; return the outcome in one word, and the fault if it is one."""
    for path, content in files.items():
        path.write_bytes(content)
    peak, said, used = _peak(), _said(), time.process_time()
    outcome = fault = ""
    try:
        outcome = target.read(list(files))
    except FlatvqError as error:
        outcome, fault = "refused", _fault_of(str(error))
    except BaseException as error:
        fault = _described(error)
    finally:
        target.restore(list(files))
    seconds = time.process_time() - used
    if seconds > LIMIT_SECONDS:
        fault = f"takes {seconds:.0f} s"
    elif _peak() - peak > target.limit_bytes:
        fault = f"takes {(_peak() - peak) // 2**20} MiB"
    elif _said() != said:
        fault = fault or "prints on standard error"
    return outcome, fault


def _fault_of(message: str) -> str:
    """Say what is wrong with the text of a FlatvqError, if anything is."""
    if len(message) > _LONGEST or "\n" in message:
        return f"an error of {len(message)} characters"
    return f"an error that stands for a lack of memory: {message}" if "MemoryError" in message else ""


def _described(error: BaseException) -> str:
    """Name an exception, and the last line of flatvq that it passed."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/flatvq/" in frame.filename or "/fuzz/" in frame.filename]
    location = f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "?"
    return f"{type(error).__name__} in {location}: {str(error)[:200]}"


def _limit_memory(room: int | None) -> None:
    """Let allocations fail beyond what is taken by now and some room; or nowhere."""
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = resource.RLIM_INFINITY if room is None else taken + room
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _forget_peak() -> None:
    """Let the peak start at what is taken now, so that it does not hide what later inputs take."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak() -> int:
    """Return the peak memory of this process; the peak of `getrusage` includes the parent's memory."""
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert peak is not None
    return int(peak[1]) * 1024


def _said() -> int:
    """Return how many bytes this process wrote to standard error, which is a file."""
    return os.fstat(2).st_size


def _counter(path: Path) -> mmap.mmap:
    path.write_bytes(bytes(8))
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), 8)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Batch(**each) for each in json.loads(sys.argv[3])])
