"""Training from shards against training from a folder: `python -m benchmarks.shards` writes shards.json.

Both hold the same photographs, and no decoded image is kept. An epoch from the one follows an epoch from the
other, and ratios are those of neighbouring epochs, because other work on the machine slows both. The index of
the shards is made before, and the files are in the page cache.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.record import make_record
from benchmarks.timing import alternate, spread

PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "imagenet-sample" / "train"
_PER_SHARD = 100
_SHUFFLE_MIB = 64
_SECONDS = 60.0
# Draws an epoch for each line of its input, alone or with a training step of a small model for each batch,
# and answers with the largest anonymous memory so far.
_PROGRAM = """
import json, sys
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
model = build_vqvae(ModelRecipe(width=32, residual_width=16), CodebookRecipe(), seed=0)
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
    print(peak, flush=True)
"""


def measure(rounds: int, place: Path) -> dict[str, Any]:
    """Time epochs of the loader alone, and of training.

    Args:
        rounds: the most epochs of each kind.
        place: an empty folder.
    """
    photographs = sorted(PHOTOGRAPHS.iterdir())
    sources = {
        "folder": {"source": "folder", "path": str(PHOTOGRAPHS)},
        "shards": _shards(photographs, place),
    }
    result: dict[str, Any] = {"photographs": len(photographs), "shuffle_mib": _SHUFFLE_MIB}
    for kind in ("loader", "step"):
        with ExitStack() as held:
            running = {name: held.enter_context(_program(tree, kind)) for name, tree in sources.items()}
            (images,) = {images for images, _ in running.values()}
            peaks: dict[str, int] = {}
            calls = {name: _noting(name, epoch, peaks) for name, (_, epoch) in running.items()}
            taken = alternate(calls, seconds=_SECONDS, rounds=rounds)
        ratios = [folder / shards for folder, shards in zip(taken["folder"], taken["shards"], strict=True)]
        result[kind] = {
            "rounds": len(ratios),
            "images": images,
            **{f"{name}_images_per_s": asdict(spread([images / s for s in taken[name]])) for name in taken},
            "ratio": asdict(spread(ratios)),
            **{f"{name}_peak_mb": round(peak / 1e6) for name, peak in peaks.items()},
        }
    return result


def _shards(photographs: list[Path], place: Path) -> dict[str, Any]:
    """Write the photographs as tar files; return the keys of their data section."""
    for number, start in enumerate(range(0, len(photographs), _PER_SHARD)):
        with tarfile.open(place / f"train-{number:03}.tar", "w") as archive:
            for path in photographs[start : start + _PER_SHARD]:
                archive.add(path, path.name)
    return {"source": "shards", "path": str(place), "shuffle_mib": _SHUFFLE_MIB}


@contextmanager
def _program(tree: dict[str, Any], kind: str) -> Iterator[tuple[int, Callable[[], int]]]:
    """Start a program; yield the images of an epoch, and a call that lets it run one and returns its peak."""
    command = [sys.executable, "-c", _PROGRAM, json.dumps(tree), kind]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as child:
        asked, answers = child.stdin, child.stdout
        assert asked is not None
        assert answers is not None

        def epoch() -> int:
            asked.write("\n")
            return int(answers.readline())

        yield int(answers.readline()), epoch
        asked.close()


def _noting(name: str, epoch: Callable[[], int], peaks: dict[str, int]) -> Callable[[], None]:
    def call() -> None:
        peaks[name] = epoch()

    return call


if __name__ == "__main__":
    make_record("shards", __doc__, "rounds", 9, "the most epochs of each kind", measure)
