"""The tables of the pretrained tokenizers, from their records in results/pretrained."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from flatvq.tokenizers import load, pretrained_names
from flatvq.tokenizers.pretrained import pretrained_folder

__all__ = ["pretrained", "thumbnails"]

_RECORDS = Path(__file__).parents[1] / "results" / "pretrained"


def pretrained() -> str:
    """Return the table: size, bits per pixel, and PSNR beside that of JPEG at the same bytes."""
    head = "| name | cell | nominal bpp | coded bpp | PSNR, dB | JPEG at the same bytes, dB | download |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *map(_row, pretrained_names())])


def thumbnails() -> str:
    """Return the table: `flatvq-f4` beside image codecs at 64 px, at the bytes of a collection."""
    record = json.loads((_RECORDS / "flatvq-f4" / "thumbnails.json").read_text(encoding="utf-8"))["against"]
    own = record["tokenizer"]["metrics"]
    lines = [
        "| | images that fit | PSNR, dB | SSIM | `flatvq-f4` minus codec, dB |",
        "|---|---|---|---|---|",
        f"| `flatvq-f4` | {record['images']} | {own['psnr_db']:.2f} | {own['ssim']:.3f} | |",
    ]
    for row in record["at_equal_bytes"]["collection"]:
        label, fit = record["codecs"][row["codec"]]["label"], row["images"]
        values, difference = row["metrics"], row["tokenizer_minus_codec_psnr_db"]
        cells = (
            [f"{values['psnr_db']:.2f}", f"{values['ssim']:.3f}", f"{difference['mean']:+.2f}"]
            if fit
            else ["–"] * 3
        )
        lines.append("| " + " | ".join([label, str(fit), *cells]) + " |")
    return "\n".join(lines)


def _row(name: str) -> str:
    return "| " + " | ".join(_cells(name)) + " |"


def _cells(name: str) -> Iterator[str]:
    folder = pretrained_folder(name)
    assert folder is not None
    (level,) = load(name).levels
    record = json.loads((_RECORDS / name / "evaluation.json").read_text(encoding="utf-8"))["against"]
    bits, own = record["tokenizer"]["bits_per_pixel"], record["tokenizer"]["metrics"]["psnr_db"]
    jpeg = next(row for row in record["at_equal_bytes"]["file"] if row["codec"] == "jpeg")
    size = sum(len(zlib.compress(path.read_bytes())) for path in folder.iterdir())
    yield f"`{name}`"
    yield f"{level.factor} x {level.factor}"
    yield f"{bits['nominal']:.3f}"
    yield f"{bits['file']:.3f}"
    yield f"{own:.2f}"
    # A mean over the images that fit is no mean over all.
    yield f"{jpeg['metrics']['psnr_db']:.2f}" if not jpeg["images_that_do_not_fit"] else "does not fit"
    yield f"{size / 1e6:.1f} MB"
