"""The valid files that are mutated: a tiny study with its runs, recipes, a search's record, and images."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, features

from flatvq.recipe import StudyRecipe, parse, recipe_text
from flatvq.recipe.strict_yaml import dump_yaml

if TYPE_CHECKING:
    from flatvq.study import Plan

__all__ = ["RECIPE", "SEARCH", "images", "plan", "write_corpus"]

SEARCH = Path(__file__).parents[2] / "tests" / "data" / "tune-single" / "tune.json"

_LEVEL = {"codebook_size": 16, "code_dim": 2}
RECIPE: dict[str, Any] = {
    "title": "A study to mutate",
    "data": {"source": "folder", "path": "pictures", "crop": 16, "validation_share": 0.3},
    "model": {"width": 2, "residual_width": 1, "residual_blocks": 1},
    "codebook": {"init": {"kind": "data", "vectors_per_code": 1}, "replacement": {"every": 1, "stop": 1.0}},
    "train": {
        "steps": 4,
        "batch_size": 2,
        "precision": "float32",
        "compile": "never",
        "device": "cpu",
        "validate_every": 2,
        "checkpoint_every": 2,
        "record_every": 1,
    },
    "evaluate": {"samples": 1},
    "arms": {
        "one": {"model": {"levels": [_LEVEL]}},
        "two": {"model": {"levels": [{**_LEVEL, "codebook_size": 8}, {**_LEVEL, "downsample": 2}]}},
    },
    "match": {"tolerance": 0.25},
    "seeds": [0, 1],
}
OVERRIDES = (
    "train.steps=7",
    "arms.one.model.levels.0.code_dim=3",
    "seeds=[4, 5]",
    "data.flip=false",
    "title='x'",
)
# What differs between two machines or two hours, and would shift the bytes behind it.
_CHANGING = {
    "created": "2026-01-01T00:00:00+00:00",
    "machine": {"processor": "a processor", "cores": 2},
    "seconds": 1.5,
    "images_per_second": 100.5,
    "processor": "a processor",
}


def write_corpus(folder: Path) -> None:
    """Write the corpus into an empty folder, which has to be the working folder.

    pictures/, study/    the images of a study, and its folder with all records
    recipes/             the shipped recipes and the recipe of the study
    images/              images of all formats
    search/tune.json     the record of a search
    states/              a study whose only trial runs on a cluster
    compressed/          compressed images, and the tokenizer with a table and with a network
    """
    from flatvq.report import write_report
    from flatvq.study import Outcome, StudyData, write_study
    from flatvq.train import run_trial

    (folder / "pictures").mkdir()
    for number in range(8):
        _picture(number).save(folder / "pictures" / f"{number}.png")
    (folder / "recipes").mkdir()
    shipped = {name: recipe_text(name) for name in ("photographs", "imagenet-sample")}
    for name, text in {**shipped, "mine": dump_yaml(RECIPE)}.items():
        (folder / "recipes" / f"{name}.yaml").write_text(text, encoding="utf-8")
    (folder / "recipes" / "overrides").write_text("\n".join(OVERRIDES), encoding="utf-8")
    study, planned = folder / "study", plan()
    for trial in planned.trials:
        run_trial(trial.recipe, study / trial.run)
    data = StudyData(planned)
    write_study(planned, [Outcome(trial, "done") for trial in planned.trials], data, study)
    for path in study.rglob("*.json*"):
        _settle(path)
    write_report(study)
    (folder / "images").mkdir()
    for name, content in images():
        (folder / "images" / name).write_bytes(content)
    _write_compressed(folder / "compressed", next(study.glob("runs/two/seed-0-*")) / "model")
    _write_states(folder / "states", next(study.glob("runs/two/seed-0-*")))
    (folder / "search").mkdir()
    search = json.loads(SEARCH.read_text(encoding="utf-8"))
    search["trials"] = search["trials"][:6]
    (folder / "search" / "tune.json").write_text(json.dumps(search, indent=1))


def plan(**part: Any) -> Plan:
    """Return the plan of the study, or of a part of its arms and seeds."""
    from flatvq.study import plan_study

    return plan_study(parse(StudyRecipe, {**RECIPE, **part}), "mine")


def images() -> Iterator[tuple[str, bytes]]:
    """Yield files of every format that flatvq reads, and of the kinds that take a path of their own."""
    colour, wide = _picture(0), _picture(1, (100, 76))
    grey, deep = colour.convert("L"), np.asarray(colour.convert("L")).astype(np.uint16) * 257
    turned = Image.Exif()
    turned[0x0112] = 6
    alpha = colour.copy()
    alpha.putalpha(grey)
    frames = {"save_all": True, "append_images": [_picture(2)]}
    kinds: list[tuple[str, Image.Image, str, dict[str, Any]]] = [
        ("plain.jpg", colour, "JPEG", {}),
        ("wide.jpg", wide, "JPEG", {"quality": 50}),
        ("grey.jpg", grey, "JPEG", {}),
        ("progressive.jpg", colour, "JPEG", {"progressive": True}),
        ("inks.jpg", colour.convert("CMYK"), "JPEG", {}),
        ("turned.jpg", colour, "JPEG", {"exif": turned}),
        ("restarts.jpg", wide, "JPEG", {"restart_marker_rows": 1, "subsampling": 2}),
        ("plain.png", colour, "PNG", {}),
        ("alpha.png", alpha, "PNG", {}),
        ("palette.png", colour.convert("P"), "PNG", {"transparency": 0}),
        ("bilevel.png", grey.convert("1"), "PNG", {}),
        ("deep.png", Image.fromarray(deep), "PNG", {}),
        ("plain.webp", colour, "WEBP", {"lossless": True}),
        ("lossy.webp", alpha, "WEBP", {"quality": 60}),
        ("plain.gif", colour.convert("P"), "GIF", {}),
        ("moving.gif", colour.convert("P"), "GIF", frames),
        ("plain.tif", colour, "TIFF", {}),
        ("deflated.tif", colour, "TIFF", {"compression": "tiff_deflate"}),
        ("lzw.tif", alpha, "TIFF", {"compression": "tiff_lzw"}),
        ("jpeg.tif", colour, "TIFF", {"compression": "jpeg"}),
        ("fax.tif", grey.convert("1"), "TIFF", {"compression": "group4"}),
        ("deep.tif", Image.fromarray(deep), "TIFF", {"tiffinfo": {281: 4095}}),
        ("plain.bmp", colour, "BMP", {}),
        ("palette.bmp", colour.convert("P"), "BMP", {}),
        ("plain.ppm", colour, "PPM", {}),
        ("deep.pgm", Image.fromarray(deep), "PPM", {}),
        ("plain.ico", colour, "ICO", {"sizes": [(16, 16)]}),
        ("plain.qoi", colour, "QOI", {}),
    ]
    if features.check("jpg_2000"):
        kinds += [
            ("plain.jp2", colour, "JPEG2000", {}),
            ("lossy.j2k", wide, "JPEG2000", {"quality_layers": [30]}),
        ]
    if features.check("avif"):
        kinds += [("plain.avif", colour, "AVIF", {})]
    for name, image, kind, options in kinds:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        yield name, buffer.getvalue()


def _write_compressed(folder: Path, tokenizer: Path) -> None:
    """Write images compressed by a tokenizer with two levels, without a prior and with two kinds."""
    from flatvq.codec import Codec, load_codec
    from flatvq.codec.storage import save_prior
    from flatvq.codec.training import encode_images, fit_prior

    for name in ("tokenizer", "network"):
        shutil.copytree(tokenizer, folder / name)
    model = load_codec(folder / "tokenizer").model
    pictures = [np.asarray(_picture(number)) for number in range(8)]
    encoded = encode_images(model, pictures)
    save_prior(folder / "tokenizer", *fit_prior(model, encoded, contexts=4))
    save_prior(folder / "network", *fit_prior(model, encoded, "network", steps=10))
    plain, coded, by_network = (
        Codec(model),
        load_codec(folder / "tokenizer"),
        load_codec(folder / "network"),
    )
    (folder / "plain.fvq").write_bytes(plain.compress(pictures[0]))
    (folder / "coded.fvq").write_bytes(coded.compress(pictures[1]))
    (folder / "by-network.fvq").write_bytes(by_network.compress(pictures[1]))
    named = [(f"pictures/{number}", picture) for number, picture in enumerate(pictures[:3])]
    (folder / "named.fvqs").write_bytes(coded.compress_collection(named))
    (folder / "unnamed.fvqs").write_bytes(plain.compress_collection(("", picture) for _, picture in named))


def _write_states(folder: Path, run: Path) -> None:
    """Write a study with one trial, which runs after a failed attempt, on a host that does not exist."""
    state = folder / "runs" / "two" / run.name
    lease = state / ".lease" / "00000002"
    lease.mkdir(parents=True)
    for name in ("recipe.json", "records.jsonl"):
        shutil.copy(run / name, state / name)
    owner = {"host": "node-1", "process": 7, "machine": "", "started": "", "beat": 3, "held": True}
    status = {"status": "running", "step": 2, "steps": 4, "error": None}
    for path, tree in ((lease / "owner.json", owner), (state / "status.json", status)):
        path.write_text(json.dumps(tree), encoding="utf-8")
    start = {"event": "start", "host": "node-0", "job": "12_3"}
    events: list[dict[str, Any]] = [
        {"time": 1.0, "event": "submitted", "name": "mine"},
        {"time": 2.0, **start, "step": 0},
        {"time": 3.5, "event": "end", "job": "12_3", "step": 2, "code": -9, "error": "killed by SIGKILL"},
        {"time": 4.0, **start, "step": 2},
    ]
    (state / "attempts.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def _picture(seed: int, size: tuple[int, int] = (24, 20)) -> Image.Image:
    """Draw a picture of integers alone, which is the same on every machine."""
    columns, rows = np.meshgrid(np.arange(size[0]), np.arange(size[1]))
    channels = [
        (rows * (3 + seed) + columns * (5 + channel) + rows * columns // 4) % 256 for channel in range(3)
    ]
    return Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))


def _settle(path: Path) -> None:
    """Replace what differs from run to run in a file of JSON or JSON lines."""
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(_settled(line)) + "\n" for line in lines))
    else:
        path.write_text(json.dumps(_settled(json.loads(path.read_text())), indent=1))


def _settled(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _CHANGING[key] if key in _CHANGING else _settled(value) for key, value in tree.items()}
    return [_settled(item) for item in tree] if isinstance(tree, list) else tree


if __name__ == "__main__":
    os.chdir(sys.argv[1])
    write_corpus(Path(sys.argv[1]))
