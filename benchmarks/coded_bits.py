"""Coded bits of the tokenizers of studies: writes results/coded-bits.json.

    python -m benchmarks.coded_bits TRAIN HELD_OUT                                     half an hour
    python -m benchmarks.coded_bits TRAIN HELD_OUT --prior network --study headline    an hour
    python -m benchmarks.coded_bits TRAIN HELD_OUT --runs studies/frontier-256         half an hour

A prior is fitted to the indices of photographs of TRAIN for each tokenizer in results/STUDY/models, and the
held-out crops of the study are coded with it. `--runs` measures the tokenizers of all trials instead. Only
the streams count, without headers. Tokenizers that are in the record are not measured again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from flatvq.codec.prior import FittedKind
from flatvq.codec.training import coded_bits_per_image
from flatvq.data import evaluation_crops, open_folder
from flatvq.data.types import Pixels
from flatvq.model import load_tokenizer
from flatvq.records import load_study
from flatvq.versions import VERSION, commit

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "results" / "coded-bits.json"
# Every how many photographs a prior is fitted to: large crops have more indices each.
STUDIES = {"headline": 1, "frontier-64": 1, "frontier-128": 1, "frontier-256": 2}


def main() -> None:
    """Measure the tokenizers that the record does not have yet."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coded_bits", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("train", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("--prior", choices=["table", "network"], default="table")
    parser.add_argument("--study", choices=list(STUDIES), action="append", help="these studies alone")
    parser.add_argument("--runs", type=Path, help="the folder of a study with its runs, named as in results/")
    parser.add_argument("--out", type=Path, default=RECORD)
    asked = parser.parse_args()
    empty: dict[str, Any] = {"format": 2, "tokenizers": []}
    record = json.loads(asked.out.read_text(encoding="utf-8")) if asked.out.is_file() else empty
    measured = {(one["prior"], one["study"], one["arm"], one["seed"]) for one in record["tokenizers"]}
    tokenizers = (
        tokenizers_of_runs(asked.runs) if asked.runs else committed_tokenizers(asked.study or STUDIES)
    )
    for study, arm, seed, folder in tokenizers:
        row = {"prior": asked.prior, "study": study, "arm": arm, "seed": seed}
        if tuple(row.values()) in measured:
            continue
        bits = bits_of(folder, asked.train, asked.held_out, STUDIES[study], asked.prior)
        row |= {"coded_bits_per_image": bits, "flatvq": VERSION, "commit": commit()}
        record["tokenizers"].append(row)
        asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        print(study, arm, seed, f"{bits:.1f}", file=sys.stderr, flush=True)


def committed_tokenizers(studies: Iterable[str]) -> Iterator[tuple[str, str, int, Path]]:
    """Yield study, arm, seed and folder of the tokenizers in results/."""
    for study in studies:
        for folder in sorted((ROOT / "results" / study / "models").glob("*-seed-*")):
            arm, _, seed = folder.name.rpartition("-seed-")
            yield study, arm, int(seed), folder


def tokenizers_of_runs(folder: Path) -> Iterator[tuple[str, str, int, Path]]:
    """Yield study, arm, seed and folder of the tokenizers of all finished trials of a study."""
    for trial in load_study(folder).trials:
        if trial.done:
            yield folder.name, trial.arm, trial.seed, trial.folder(folder) / "model"


def bits_of(folder: Path, train: Path, held_out: Path, every: int, prior: FittedKind) -> float:
    """Return the coded bits of a held-out crop of a tokenizer."""
    size = json.loads((folder / "config.json").read_text(encoding="utf-8"))["preprocess"]
    crops = (list(_crops(images, size["crop"], size["resize"])) for images in (train, held_out))
    fitted, measured = crops
    return coded_bits_per_image(load_tokenizer(folder), fitted[::every], measured, prior)


def _crops(folder: Path, crop: int, resize: int) -> Iterator[Pixels]:
    images = open_folder(folder, crop=crop, resize=resize).images
    yield from (pixels for _, pixels in evaluation_crops(images, crop))


if __name__ == "__main__":
    main()
