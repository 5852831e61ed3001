"""Bytes of compressed photographs: writes results/compression.json, in about fifteen minutes on a CPU core.

    python -m benchmarks.compression TRAIN HELD_OUT

Priors of the committed single-level tokenizer, or of another one, are fitted to the photographs of the folder
TRAIN. Centre crops of the photographs of HELD_OUT become real files, at two sizes. If the tokenizer has a
prior, files are also written with that one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch

from flatvq.codec import Codec, load_codec
from flatvq.codec.codec import indices_of
from flatvq.codec.container import pack
from flatvq.codec.network_fitting import STEPS
from flatvq.codec.prior import FittedKind
from flatvq.codec.storage import build_prior, has_prior
from flatvq.codec.training import encode_images, fit_prior
from flatvq.data import evaluation_crops, load_image, open_folder
from flatvq.data.types import Pixels
from flatvq.model import load_tokenizer
from flatvq.model.layout import grids_of

ROOT = Path(__file__).parents[1]
TOKENIZER = ROOT / "results" / "evaluation" / "models" / "single-seed-10"
RECORD = ROOT / "results" / "compression.json"
# Side of the crops, length of the shorter side before, and every how many training images are used.
SIZES = ((64, 96, 1), (256, 256, 2))
CONTEXTS = 256


def main() -> None:
    """Measure both sizes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compression", description=__doc__)
    parser.add_argument("train", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("--tokenizer", type=Path, default=TOKENIZER)
    parser.add_argument("--out", type=Path, default=RECORD)
    asked = parser.parse_args()
    from flatvq.versions import VERSION, commit

    record = {
        "format": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "flatvq": VERSION,
        "commit": commit(),
        "tokenizer": str(asked.tokenizer.resolve().relative_to(ROOT)),
        "contexts": CONTEXTS,
        "steps": STEPS,
        "sizes": [measured(asked.tokenizer, asked.train, asked.held_out, *size) for size in SIZES],
    }
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measured(
    tokenizer: Path, train: Path, held_out: Path, crop: int, resize: int, every: int
) -> dict[str, Any]:
    """Measure files of one size, without a prior and with each kind of prior."""
    torch.set_num_threads(1)
    model = load_tokenizer(tokenizer)
    training = open_folder(train, crop=1, resize=resize).images
    used = range(0, len(training), every)
    print(f"compression: {crop} px, fitting to {len(used)} images", file=sys.stderr, flush=True)
    encoded = encode_images(model, (load_image(training, number) for number in used))
    opened = open_folder(held_out, crop=crop, resize=resize).images
    crops = [np.asarray(pixels) for _, pixels in evaluation_crops(opened, crop)]
    results = {"none": _bytes_of(Codec(model), crops)}
    kinds: tuple[FittedKind, ...] = ("order-0", "table", "network")
    for kind in kinds:
        start = time.process_time()
        _, arrays = fit_prior(model, encoded, kind, contexts=CONTEXTS, steps=STEPS)
        fitted = time.process_time() - start
        codec = Codec(model, build_prior(kind, model.recipe, arrays, "the prior"))
        results[kind] = {
            "prior_bytes": sum(array.nbytes for array in arrays.values()),
            "fit_cpu_seconds": fitted,
            **_bytes_of(codec, crops),
            **_speed_of(codec, crops),
        }
    if has_prior(tokenizer):
        results["stored"] = _bytes_of(load_codec(tokenizer), crops)
    levels = zip(model.recipe.levels, grids_of(model.recipe, (crop, crop)), strict=True)
    return {
        "crop": crop,
        "resize": resize,
        "images_fitted": len(used),
        "images": len(crops),
        "nominal_bytes_per_image": sum(prod(grid) * level.bits_per_cell for level, grid in levels) / 8,
        **results,
    }


def _bytes_of(codec: Codec, crops: list[Pixels]) -> dict[str, float]:
    """Return mean bytes of an image: its streams, a `.fvq` file, and its share of a `.fvqs` file."""
    kind, identity = codec.prior.kind, codec.identity
    coded = [codec.to_streams(image) for image in crops]
    collection = pack(kind, identity, coded, [""] * len(coded))
    return {
        "stream_bytes_per_image": fmean(sum(map(len, image.streams)) for image in coded),
        "file_bytes_per_image": fmean(len(pack(kind, identity, [image], None)) for image in coded),
        "collection_bytes_per_image": len(collection) / len(coded),
    }


def _speed_of(codec: Codec, crops: list[Pixels]) -> dict[str, float]:
    """Return how many indices a CPU core writes and reads in a second."""
    levels = [indices_of(codec.model, image) for image in crops]
    count = sum(grid.size for image in levels for grid in image)
    start = time.process_time()
    streams = [codec.prior.write([grid.copy() for grid in image]) for image in levels]
    between = time.process_time()
    for image, of_image in zip(levels, streams, strict=True):
        codec.prior.read(of_image, [grid.shape for grid in image])
    return {
        "written_per_second": count / (between - start),
        "read_per_second": count / (time.process_time() - between),
    }


if __name__ == "__main__":
    main()
