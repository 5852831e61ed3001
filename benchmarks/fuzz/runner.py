"""Batches of inputs in child processes, whose deaths and hangs are faults of the input that they read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from signal import Signals

from benchmarks.fuzz.child import Batch, Result

__all__ = ["batches_of", "merged", "run", "write_corpus_in"]

ROOT = Path(__file__).parents[2]
# Inputs; a child reads several batches, and what it loses when it dies is one.
_BATCH, _BATCHES_OF_A_CHILD = 500, 20
# Wall time without a new input after which a child is ended: other programs may have the processors.
_HANG_SECONDS = 300
_POLL_SECONDS = 0.1


def write_corpus_in(folder: Path) -> Path:
    """Write the corpus into a new folder, in its own process, and return where it is."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True)
    subprocess.run([sys.executable, "-m", "benchmarks.fuzz.corpus", str(corpus)], cwd=ROOT, check=True)
    return corpus


def batches_of(target: str, seed: int, first: int, count: int) -> list[Batch]:
    """Divide inputs into batches.

    Example:
        >>> [(batch.first, batch.count) for batch in batches_of("images", 0, first=100, count=700)]
        [(100, 500), (600, 200)]
    """
    starts = range(first, first + count, _BATCH)
    return [Batch(target, seed, start, min(_BATCH, first + count - start)) for start in starts]


def run(corpus: Path, folder: Path, batches: Sequence[Batch]) -> list[tuple[Batch, Result]]:
    """Read batches, one after the other.

    Args:
        corpus: the folder of the corpus.
        folder: where children work; best in memory (/dev/shm). It is removed at the end.
        batches: what to read.

    Returns:
        What came of each; a batch whose process died of an input is divided at that input.
    """
    waiting = list(batches)
    done: list[tuple[Batch, Result]] = []
    while waiting:
        now, later = waiting[:_BATCHES_OF_A_CHILD], waiting[_BATCHES_OF_A_CHILD:]
        results, death = _child(corpus, folder, now)
        done += zip(now, results, strict=False)
        left = now[len(results) :]
        if left:
            dead, *others = left
            number = int.from_bytes((folder / "number").read_bytes(), "little")
            done.append((dead, Result(outcomes={"fault": 1}, faults={number: death})))
            left = [*_around(dead, number), *others]
        waiting = [*left, *later]
        shutil.rmtree(folder)
    return done


def merged(results: Sequence[Result]) -> Result:
    """Add results up."""
    total = Result()
    for result in results:
        for outcome, count in result.outcomes.items():
            total.outcomes[outcome] = total.outcomes.get(outcome, 0) + count
        total.faults.update(result.faults)
        total.seconds += result.seconds
        total.process_bytes = max(total.process_bytes, result.process_bytes)
        total.input_bytes = max(total.input_bytes, result.input_bytes)
    return total


def _around(batch: Batch, number: int) -> list[Batch]:
    """Return a batch without one of its inputs."""
    before, end = number - batch.first, batch.first + batch.count
    parts = [(batch.first, before), (number + 1, end - number - 1)]
    return [Batch(batch.target, batch.seed, first, count) for first, count in parts if count]


def _child(corpus: Path, folder: Path, batches: Sequence[Batch]) -> tuple[list[Result], str]:
    """Read batches in a process; return the results of those that it ended, and how it died."""
    folder.mkdir(parents=True)
    batches_json = json.dumps([asdict(batch) for batch in batches])
    command = [sys.executable, "-m", "benchmarks.fuzz.child", str(corpus), str(folder), batches_json]
    with (folder / "output").open("wb") as output, (folder / "errors").open("wb") as errors:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=errors)
        hung = _wait(process, folder / "number")
    lines = (folder / "output").read_text().splitlines()
    results = [_result(line) for line in lines]
    if len(results) < len(batches) and process.returncode > 0 and not hung:
        # Nothing that an input did: the harness itself failed.
        raise RuntimeError((folder / "errors").read_text()[-2000:])
    death = f"hangs for {_HANG_SECONDS} s" if hung else f"ends with {_name_of(process.returncode)}"
    return results, death


def _wait(process: subprocess.Popen[bytes], number: Path) -> bool:
    """Wait for a child to end; end it, and return True, if it stays at one input."""
    last, since = b"", time.monotonic()
    while process.poll() is None:
        time.sleep(_POLL_SECONDS)
        current = number.read_bytes() if number.exists() else b""
        if current != last:
            last, since = current, time.monotonic()
        elif time.monotonic() - since > _HANG_SECONDS:
            process.kill()
            process.wait()
            return True
    return False


def _result(line: str) -> Result:
    tree = json.loads(line)
    return Result(**{**tree, "faults": {int(number): fault for number, fault in tree["faults"].items()}})


def _name_of(code: int) -> str:
    return Signals(-code).name if code < 0 else f"exit code {code}"
