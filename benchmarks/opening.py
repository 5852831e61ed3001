"""The cost of opening a large folder: `python -m benchmarks.opening` writes results/opening.json.

Seconds are processor time, because wall time says little on a machine that does other work. They do not
include the time of the disk.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.record import make_record
from flatvq.data import open_folder
from flatvq.data.conversion import Conversion
from flatvq.data.manifest import Manifest
from flatvq.data.survey_cache import SurveyCache
from flatvq.data.walk import FILE_TIMES, list_files

_FILES = 2000
_ORIGINALS = 1300
# Opens a folder as a trial does. Mapped files are not part of the anonymous memory: processes share them.
_OPEN = """
import json, sys, time
from pathlib import Path
import pyarrow.compute, torch
from flatvq.data import TrainingCrops, open_data
from flatvq.recipe import DataRecipe

def anonymous():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("RssAnon:")[2].split()[0])

recipe = DataRecipe(source="folder", path=sys.argv[1], crop=16, cache_mib=0)
before, start = anonymous(), time.process_time()
data = open_data(recipe)
TrainingCrops(data.training, recipe, seed=0, batch_size=64).batch(0)
seconds = time.process_time() - start
files = len(data.training) + len(data.validation)
print(json.dumps({"files": files, "seconds": seconds, "anonymous_bytes": anonymous() - before}))
"""


def measure(files: int, workspace: Path) -> dict[str, float | int]:
    """Measure the first opening of a folder, and the opening of a large one that was surveyed before.

    Args:
        files: the number of files of the large folder.
        workspace: an empty folder.
    """
    return _survey(workspace / "many") | _opening(workspace, files)


def _survey(folder: Path) -> dict[str, float | int]:
    """Measure the first opening of a folder: read the headers and hashes of all files."""
    folder.mkdir()
    for number in range(_FILES):
        pixels = np.full((16, 16, 3), [number % 256, number // 256, 0], np.uint8)
        Image.fromarray(pixels).save(folder / f"n{number:08d}.png")
    os.environ["FLATVQ_CACHE"] = "off"
    start = time.process_time()
    opened = open_folder(folder, 16, cache_mib=0)
    seconds = time.process_time() - start
    return {
        "surveyed_files": len(opened.images),
        "survey_ms_per_file": round(1000 * seconds / _FILES, 3),
    }


def _opening(workspace: Path, files: int) -> dict[str, float | int]:
    """Measure how a trial opens a large folder of which the manifest is in the cache.

    The files are links to 1,300 files, and the manifest is written here as a survey would leave it, with
    another hash for each file.
    """
    folder, originals = workspace / "large", workspace / "originals"
    folder.mkdir()
    originals.mkdir()
    for number in range(_ORIGINALS):
        Image.fromarray(np.full((16, 16, 3), number % 256, np.uint8)).save(originals / f"{number}.png")
    for number in range(files):
        parent = folder / f"n{number // _ORIGINALS:08d}"
        parent.mkdir(exist_ok=True)
        (parent / f"{parent.name}_{number:08d}.png").hardlink_to(originals / f"{number % _ORIGINALS}.png")
    os.environ["FLATVQ_CACHE"] = str(workspace / "cache")
    listing = list_files(folder, "")
    digests = np.frombuffer(np.random.default_rng(0).bytes(16 * files), "S16")
    side, kind = np.full(files, 16, np.int32), np.zeros(files, np.int32)
    manifest = Manifest(listing.paths, digests, side, side, kind, ((),), listing.times)
    SurveyCache(os.path.realpath(folder), Conversion(16), FILE_TIMES).put(manifest)
    (stored,) = (workspace / "cache" / "surveys").iterdir()
    command = [sys.executable, "-c", _OPEN, str(folder)]
    result = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    if result["files"] != files:
        sys.exit(f"opening: {result['files']} of {files} files were opened")
    return {
        "opened_files": files,
        "opening_seconds": round(result["seconds"], 1),
        "opened_bytes_per_file": round(result["anonymous_bytes"] / files),
        "manifest_bytes_per_file": round(stored.stat().st_size / files),
    }


if __name__ == "__main__":
    make_record("opening", __doc__, "files", 1_300_000, "number of files of the large folder", measure)
