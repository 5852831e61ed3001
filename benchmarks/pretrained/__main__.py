"""Make the pretrained tokenizers of the package.

    python -m benchmarks.pretrained data TRAIN... --held-out HELD_OUT     scaled copies of photographs
    flatvq train benchmarks/pretrained/flatvq-f4.yaml --out FIRST         hours on a CPU core
    flatvq train benchmarks/pretrained/flatvq-f4-second.yaml --from PARENT --out RUN
    python -m benchmarks.pretrained finish flatvq-f4 RUN --of 2141
    python -m benchmarks.pretrained prior flatvq-f4 TRAIN...              about half an hour

Training photographs are scaled to three sizes, so that the tokenizer sees photographs of 256 pixels and
thumbnails. `finish` stores the weights in float16 in the package, writes the model card, and copies recipe
and records to results/pretrained. `prior` fits the prior. Then
`flatvq evaluate flatvq-f4 --data HELD_OUT --resize 256 --crop 256 --against jpeg,webp,avif --out FOLDER`
measures it; its evaluation.json is kept there, too.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from PIL import Image

from flatvq.codec.storage import save_prior
from flatvq.codec.training import encode_images, fit_prior
from flatvq.data import load_image, open_folder
from flatvq.recipe import load_trial
from flatvq.tokenizers import Preprocess, load
from flatvq.versions import VERSION, commit

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "flatvq" / "tokenizers" / "weights"
RECORDS = ROOT / "results" / "pretrained"
# Shorter sides of the copies, in pixels.
SIDES = (256, 160, 80)
PRIOR_SIDES = (256, 96)
PRIOR_STEPS = 6000
# Before the program changes files of the package.
COMMIT = commit()
DATA_CARD = """## Training photographs

{images:,} photographs of ImageNet and BSDS500, each scaled to shorter sides of {sides} pixels. Their licences
allow research; the weights contain no photograph. People appear in some of them, uncounted. The tokenizer was
not tested on faces, documents, drawings or medical images. The documentation of flatvq shows its fidelity at
256 pixels, beside image codecs.
"""


def main() -> None:
    """Run one step."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pretrained", description=__doc__)
    steps = parser.add_subparsers(required=True)
    data = steps.add_parser("data")
    data.add_argument("train", type=Path, nargs="+")
    data.add_argument("--held-out", type=Path, required=True)
    data.add_argument("--out", type=Path, default=Path("pretrained-data"))
    data.set_defaults(step=make_data)
    last = steps.add_parser("finish")
    last.add_argument("name", help="such as flatvq-f4")
    last.add_argument("run", type=Path)
    last.add_argument("--of", type=int, required=True, help="the number of training photographs")
    last.set_defaults(step=finish)
    prior = steps.add_parser("prior")
    prior.add_argument("name", help="such as flatvq-f4")
    prior.add_argument("train", type=Path, nargs="+", help="folders of training photographs")
    prior.set_defaults(step=make_prior)
    asked = parser.parse_args()
    asked.step(asked)


def make_data(asked: argparse.Namespace) -> None:
    """Write scaled copies of the training photographs, and of the held-out ones at the largest size."""
    written = sum(write_scaled(folder, asked.out / "train", SIDES, "jpg") for folder in asked.train)
    held_out = write_scaled(asked.held_out, asked.out / "val", SIDES[:1], "png")
    print(f"{asked.out}: {written} training images, {held_out} held-out images")


def write_scaled(source: Path, target: Path, sides: tuple[int, ...], suffix: str) -> int:
    """Scale the photographs of a folder to some shorter sides; leave out sizes that enlarge a photograph."""
    target.mkdir(parents=True, exist_ok=True)
    written = 0
    for path in sorted(source.rglob("*.*")):
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        width, height = image.size
        for side in sides:
            scale = side / min(width, height)
            if scale > 1:
                continue
            size = max(side, round(width * scale)), max(side, round(height * scale))
            scaled = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
            scaled.save(target / f"{path.stem}-{side}.{suffix}", quality=98, subsampling=0)
            written += 1
    return written


def finish(asked: argparse.Namespace) -> None:
    """Put a trained tokenizer into the package, and its records into results."""
    folder, records = PACKAGE / asked.name, RECORDS / asked.name
    tokenizer = load(asked.run)
    # The crops of the training are no size for users.
    tokenizer.preprocess = Preprocess(resize=SIDES[0], crop=SIDES[0])
    tokenizer.save_pretrained(folder, dtype="float16")
    card = folder / "README.md"
    sides = ", ".join(str(side) for side in SIDES)
    card.write_text(card.read_text() + "\n" + DATA_CARD.format(images=asked.of, sides=sides))
    records.mkdir(parents=True, exist_ok=True)
    for name in ("recipe.json", "metrics.json", "identity.json", "records.jsonl"):
        shutil.copy(asked.run / name, records / name)
    steps = load_trial(asked.run).train.steps
    _write_record(records / "summary.json", {"steps": steps, "photographs": asked.of, "sides": SIDES})


def make_prior(asked: argparse.Namespace) -> None:
    """Fit a network prior to photographs of the sizes `PRIOR_SIDES`, and store it with the tokenizer."""
    folder = PACKAGE / asked.name
    model = load(folder)
    # The sizes of a photograph follow each other, so that both are among the images that are held out.
    images = (
        load_image(of_side, number)
        for source in asked.train
        for sides in [[open_folder(source, 1, side, cache_mib=0).images for side in PRIOR_SIDES]]
        for number in range(len(sides[0]))
        for of_side in sides
    )
    record, arrays = fit_prior(
        model, encode_images(model, images), "network", steps=PRIOR_STEPS, progress=_print_progress
    )
    save_prior(folder, record, arrays)
    _write_record(RECORDS / asked.name / "prior.json", {"steps": PRIOR_STEPS, "prior": record.model_dump()})


def _print_progress(done: int, total: int) -> None:
    if done % 100 == 0:
        print(f"prior: step {done} of {total}", file=sys.stderr, flush=True)


def _write_record(path: Path, content: dict[str, Any]) -> None:
    created = datetime.now(UTC).isoformat(timespec="seconds")
    record = {"format": 1, "created": created, "flatvq": VERSION, "commit": COMMIT, **content}
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
