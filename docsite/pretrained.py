"""The tables of the pretrained tokenizers, from their records in results/pretrained."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flatvq.tokenizers import load, pretrained_names
from flatvq.tokenizers.pretrained import pretrained_folder

__all__ = ["photographs", "pretrained", "thumbnails"]

_RECORDS = Path(__file__).parents[1] / "results" / "pretrained"


def pretrained() -> str:
    """Return the table of the tokenizers: size, bits per pixel and PSNR."""
    head = "| name | cell | nominal bpp | coded bpp | PSNR, dB | SSIM | download |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *map(_row, pretrained_names())])


def photographs() -> str:
    """Return the table: each tokenizer beside image codecs at 256 px, at the bytes of each file."""
    return _beside_codecs([(name, _record(name)) for name in pretrained_names()], "file")


def thumbnails() -> str:
    """Return the table: `flatvq-f4` beside image codecs at 64 px, at the bytes of a collection."""
    return _beside_codecs([("flatvq-f4", _record("flatvq-f4", "thumbnails.json"))], "collection")


def _record(name: str, file: str = "evaluation.json") -> dict[str, Any]:
    record: dict[str, Any] = json.loads((_RECORDS / name / file).read_text(encoding="utf-8"))["against"]
    return record


def _row(name: str) -> str:
    return "| " + " | ".join(_cells(name)) + " |"


def _cells(name: str) -> Iterator[str]:
    folder = pretrained_folder(name)
    assert folder is not None
    (level,) = load(name).levels
    record = _record(name)["tokenizer"]
    size = sum(len(zlib.compress(path.read_bytes())) for path in folder.iterdir())
    yield f"`{name}`"
    yield f"{level.factor} x {level.factor}"
    yield f"{record['bits_per_pixel']['nominal']:.3f}"
    yield f"{record['bits_per_pixel']['file']:.3f}"
    yield f"{record['metrics']['psnr_db']:.2f}"
    yield f"{record['metrics']['ssim']:.3f}"
    yield f"{size / 1e6:.1f} MB"


def _beside_codecs(records: Sequence[tuple[str, dict[str, Any]]], budget: str) -> str:
    """Return a table of tokenizers and image codecs at equal bytes: means over the images that fit."""
    lines = ["| | images that fit | PSNR, dB | SSIM | tokenizer minus codec, dB |", "|---|---|---|---|---|"]
    for name, record in records:
        own, images = record["tokenizer"]["metrics"], record["images"]
        lines.append(f"| `{name}` | {images} of {images} | {own['psnr_db']:.2f} | {own['ssim']:.3f} | |")
        for row in record["at_equal_bytes"][budget]:
            cells = [record["codecs"][row["codec"]]["label"], f"{row['images']} of {images}"]
            if row["images"]:
                difference = row["tokenizer_minus_codec_psnr_db"]
                low, high = difference["interval90"]
                cells += [f"{row['metrics']['psnr_db']:.2f}", f"{row['metrics']['ssim']:.3f}"]
                cells += [f"{difference['mean']:+.2f} [{low:+.2f}, {high:+.2f}]"]
            else:
                cells += ["–"] * 3
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
