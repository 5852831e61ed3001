"""Training from shards against training from a folder: `python -m benchmarks.shards` writes shards.json.

Both hold the same photographs, and no decoded image is kept. An epoch from the one follows an epoch from the
other, and ratios are those of neighbouring epochs, because other work on the machine slows both. Processor
time hardly depends on other work. The index of the shards is made before; the files are in the page cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.record import make_record
from benchmarks.timing import alternate, spread

PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "imagenet-sample" / "train"
Epoch = Callable[[], tuple[float, int]]
"""Runs an epoch; returns processor time and memory of the program until then."""

_PER_SHARD = 100
_SHUFFLE_MIB = 64
_SECONDS = 30.0
# Draws an epoch for each line of its input, alone or with a training step of a small model for each batch,
# and answers with its processor time and its largest anonymous memory.
_PROGRAM = """
import json, sys, time
from pathlib import Path
import torch
from flatvq.data import TrainingCrops, open_data
from flatvq.model import build_vqvae
from flatvq.recipe import CodebookRecipe, DataRecipe, ModelRecipe, TrainRecipe
from flatvq.train.machine import keep_freed_memory
from flatvq.train.objective import objective

BATCH = 16

def anonymous():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])

keep_freed_memory()
data = DataRecipe.model_validate({**json.loads(sys.argv[1]), "resize": 160, "crop": 128, "cache_mib": 0})
images = open_data(data).training
crops = TrainingCrops(images, data, seed=0, batch_size=BATCH)
model = build_vqvae(ModelRecipe(width=16, residual_width=8), CodebookRecipe(), seed=0)
optimizer = torch.optim.Adam(model.parameters())
steps = len(images) // BATCH
start, peak = 0, 0
print(steps * BATCH, flush=True)
for _ in sys.stdin:
    for batch in crops.batches(start, start + steps):
        if sys.argv[2] == "step":
            pixels = batch.pixels.float() / 255
            losses = objective(model(pixels), pixels, TrainRecipe())
            optimizer.zero_grad()
            losses.total.backward()
            optimizer.step()
        peak = max(peak, anonymous())
    start += steps
    print(time.process_time(), peak, flush=True)
"""


def measure(rounds: int, workspace: Path) -> dict[str, Any]:
    """Time epochs of the loader alone, and of training.

    Args:
        rounds: the most epochs of each kind.
        workspace: an empty folder.
    """
    photographs = sorted(PHOTOGRAPHS.iterdir())
    sources = {
        "folder": {"source": "folder", "path": str(PHOTOGRAPHS)},
        "shards": _shards(photographs, workspace),
    }
    result: dict[str, Any] = {"photographs": len(photographs), "shuffle_mib": _SHUFFLE_MIB}
    for kind in ("loader", "step"):
        with ExitStack() as held:
            running = {name: held.enter_context(_program(tree, kind)) for name, tree in sources.items()}
            (images,) = {images for images, _ in running.values()}
            last: dict[str, tuple[float, int]] = {}
            processor: dict[str, list[float]] = {name: [] for name in running}
            calls = {
                name: partial(_note, epoch, last, processor, name) for name, (_, epoch) in running.items()
            }
            taken = alternate(calls, seconds=_SECONDS, rounds=rounds)
        result[kind] = {"rounds": len(taken["folder"]), "images": images}
        for name in taken:
            of_each = [1000 * seconds / images for seconds in processor[name][-len(taken[name]) :]]
            result[kind][name] = {
                "images_per_s": asdict(spread([images / seconds for seconds in taken[name]])),
                "processor_ms_per_image": asdict(spread(of_each)),
                "peak_mb": round(last[name][1] / 1e6),
            }
        result[kind]["pace_ratio"] = asdict(spread(_ratios(taken)))
        kept = {name: values[-len(taken[name]) :] for name, values in processor.items()}
        result[kind]["processor_ratio"] = asdict(spread(_ratios(kept)))
    return result


def _shards(photographs: list[Path], workspace: Path) -> dict[str, Any]:
    """Write the photographs as tar files; return the keys of their data section."""
    for number, start in enumerate(range(0, len(photographs), _PER_SHARD)):
        with tarfile.open(workspace / f"train-{number:03}.tar", "w") as archive:
            for path in photographs[start : start + _PER_SHARD]:
                archive.add(path, path.name)
    return {"source": "shards", "path": str(workspace), "shuffle_mib": _SHUFFLE_MIB}


@contextmanager
def _program(tree: dict[str, Any], kind: str) -> Iterator[tuple[int, Epoch]]:
    """Start a program; yield the images of an epoch, and a call that lets it run one."""
    command = [sys.executable, "-c", _PROGRAM, json.dumps(tree), kind]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, bufsize=1) as child:
        asked, answers = child.stdin, child.stdout
        assert asked is not None
        assert answers is not None

        def epoch() -> tuple[float, int]:
            asked.write("\n")
            seconds, peak = answers.readline().split()
            return float(seconds), int(peak)

        yield int(answers.readline()), epoch
        asked.close()


def _note(
    epoch: Epoch, last: dict[str, tuple[float, int]], processor: dict[str, list[float]], name: str
) -> None:
    """Run an epoch, and note the processor time that it took."""
    before = last.get(name, (0.0, 0))[0]
    last[name] = epoch()
    processor[name].append(last[name][0] - before)


def _ratios(seconds: dict[str, list[float]]) -> list[float]:
    """Return how many times as fast the shards were as the folder, in each round."""
    return [folder / shards for folder, shards in zip(seconds["folder"], seconds["shards"], strict=True)]


if __name__ == "__main__":
    make_record("shards", __doc__, "rounds", 5, "the most epochs of each kind", measure)
