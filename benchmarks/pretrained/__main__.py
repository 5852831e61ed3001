"""Make the pretrained tokenizers of the package.

    python -m benchmarks.pretrained data TRAIN... --held-out HELD_OUT     scaled copies of photographs
    flatvq train benchmarks/pretrained/flatvq-f4.yaml --out FIRST         hours on a CPU core
    flatvq train benchmarks/pretrained/flatvq-f4-second.yaml --from PARENT --out RUN
    python -m benchmarks.pretrained finish flatvq-f4 RUN PHOTOGRAPHS --of 2141

Training photographs are scaled to three sizes, so that the tokenizer sees photographs of 256 pixels and
thumbnails. `finish` stores the weights in float16 in the package, fits the prior to some of the photographs,
writes the model card, and copies recipe and records to results/pretrained. Then
`flatvq evaluate flatvq-f4 --data HELD_OUT --resize 256 --crop 256 --against jpeg,webp,avif --out FOLDER`
measures it; its evaluation.json is kept there, too.
"""

from __future__ import annotations

import argparse
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

from PIL import Image

from flatvq.codec.storage import PriorRecord, save_prior
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
CONTEXTS = 48
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
    last.add_argument("photographs", type=Path, help="a folder of training photographs, for the prior")
    last.add_argument("--of", type=int, required=True, help="the number of all training photographs")
    last.set_defaults(step=finish)
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


def fitted_prior(folder: Path, photographs: Path) -> PriorRecord:
    """Fit a prior to photographs of the sizes `PRIOR_SIDES`, and store it with the tokenizer."""
    model = load(folder)
    opened = [open_folder(photographs, 1, side, cache_mib=0).images for side in PRIOR_SIDES]
    # The sizes of a photograph follow each other, so that both are among the images that are held out.
    images = (load_image(each, number) for number in range(len(opened[0])) for each in opened)
    record, arrays = fit_prior(model, encode_images(model, images), "table", contexts=CONTEXTS)
    save_prior(folder, record, arrays)
    return record


def finish(asked: argparse.Namespace) -> None:
    """Put a trained tokenizer into the package, and its records into results."""
    folder, records = PACKAGE / asked.name, RECORDS / asked.name
    tokenizer = load(asked.run)
    # The crops of the training are no size for users.
    tokenizer.preprocess = Preprocess(resize=SIDES[0], crop=SIDES[0])
    tokenizer.save_pretrained(folder, dtype="float16")
    prior = fitted_prior(folder, asked.photographs)
    card = folder / "README.md"
    sides = ", ".join(str(side) for side in SIDES)
    card.write_text(card.read_text() + "\n" + DATA_CARD.format(images=asked.of, sides=sides))
    records.mkdir(parents=True, exist_ok=True)
    for name in ("recipe.json", "metrics.json", "identity.json", "records.jsonl"):
        shutil.copy(asked.run / name, records / name)
    summary = {
        "format": 1,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "flatvq": VERSION,
        "commit": commit(),
        "steps": load_trial(asked.run).train.steps,
        "photographs": asked.of,
        "sides": SIDES,
        "prior": prior.model_dump(),
    }
    (records / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")


if __name__ == "__main__":
    main()
