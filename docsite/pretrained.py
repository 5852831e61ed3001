"""The table of the pretrained tokenizers, from their records in results/pretrained."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from flatvq.tokenizers import load, pretrained_names
from flatvq.tokenizers.pretrained import pretrained_folder

__all__ = ["pretrained"]

_RECORDS = Path(__file__).parents[1] / "results" / "pretrained"


def pretrained() -> str:
    """Return the table: size, bits per pixel, and PSNR beside that of JPEG at the same bytes."""
    head = "| name | cell | nominal bpp | coded bpp | PSNR, dB | JPEG at the same bytes, dB | size |"
    return "\n".join([head, "|---|---|---|---|---|---|---|", *map(_row, pretrained_names())])


def _row(name: str) -> str:
    return "| " + " | ".join(_cells(name)) + " |"


def _cells(name: str) -> Iterator[str]:
    folder = pretrained_folder(name)
    assert folder is not None
    (level,) = load(name).levels
    rates = json.loads((_RECORDS / name / "rates.json").read_text(encoding="utf-8"))
    size = sum(path.stat().st_size for path in folder.iterdir())
    yield f"`{name}`"
    yield f"{level.factor} x {level.factor}"
    yield f"{rates['nominal_bits_per_pixel']:.3f}"
    yield f"{rates['coded_bits_per_pixel']:.3f}"
    yield f"{rates['psnr_db']:.2f}"
    yield f"{rates['jpeg_psnr_db']:.2f}" if rates["jpeg_psnr_db"] is not None else "does not fit"
    yield f"{size / 1e6:.1f} MB"
