"""Bytes of compressed photographs: writes results/compression.json, in about five minutes on a CPU core.

    python -m benchmarks.compression TRAIN HELD_OUT

Priors of the committed single-level tokenizer are fitted to the photographs of the folder TRAIN. Centre crops
of the photographs of HELD_OUT become real files, at two sizes.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from math import prod
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from flatvq.codec import Codec
from flatvq.codec.container import pack
from flatvq.codec.prior import PriorKind
from flatvq.codec.storage import build_prior
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
    parser.add_argument("--out", type=Path, default=RECORD)
    asked = parser.parse_args()
    from flatvq.versions import VERSION, commit

    record = {
        "format": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "flatvq": VERSION,
        "commit": commit(),
        "tokenizer": str(TOKENIZER.relative_to(ROOT)),
        "contexts": CONTEXTS,
        "sizes": [measured(asked.train, asked.held_out, *size) for size in SIZES],
    }
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def measured(train: Path, held_out: Path, crop: int, resize: int, every: int) -> dict[str, Any]:
    """Measure files of one size, without a prior and with each kind of prior."""
    model = load_tokenizer(TOKENIZER)
    training = open_folder(train, crop=1, resize=resize).images
    used = range(0, len(training), every)
    print(f"compression: {crop} px, fitting to {len(used)} images", file=sys.stderr, flush=True)
    encoded = encode_images(model, (load_image(training, number) for number in used))
    opened = open_folder(held_out, crop=crop, resize=resize).images
    crops = [np.asarray(pixels) for _, pixels in evaluation_crops(opened, crop)]
    codecs: dict[PriorKind, Codec] = {"none": Codec(model)}
    for kind in ("order-0", "table"):
        _, arrays = fit_prior(model, encoded, kind, contexts=CONTEXTS)
        codecs[kind] = Codec(model, build_prior(kind, model.recipe, arrays, "the prior"))
    levels = zip(model.recipe.levels, grids_of(model.recipe, (crop, crop)), strict=True)
    return {
        "crop": crop,
        "resize": resize,
        "images_fitted": len(used),
        "images": len(crops),
        "nominal_bytes_per_image": sum(prod(grid) * level.bits_per_cell for level, grid in levels) / 8,
        **{kind: _bytes_of(codec, crops) for kind, codec in codecs.items()},
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


if __name__ == "__main__":
    main()
