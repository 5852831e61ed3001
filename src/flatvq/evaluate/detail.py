"""How much of fine patterns a tokenizer keeps, per octave of spatial frequency.

Axes: H W rows and columns, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flatvq.data import OpenedFolder, evaluation_crops, open_images
from flatvq.data.evaluated import evenly_spread
from flatvq.errors import FlatvqError
from flatvq.evaluate.octaves import AMPLITUDE, Kept, Octave, grating, kept, luma, octaves_of
from flatvq.evaluate.provenance import measured_on
from flatvq.evaluate.reconstruction import reconstruction_of
from flatvq.evaluate.spread import mean_with_interval
from flatvq.tokenizers import Tokenizer

__all__ = ["PROTOCOL", "evaluate_detail"]

PROTOCOL = "flatvq-detail-1"
"""The id of the measurement. Its number is raised when patterns, bands or equations change."""

_ORIENTATIONS = (0, 45, 90, 135)
_PHASES = (0, 90, 180, 270)


def evaluate_detail(
    tokenizer: Tokenizer,
    folder: str | Path | None = None,
    *,
    side: int = 256,
    resize: int = 0,
    white_level: int = 0,
    limit: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
    image_column: str = "image",
    image_suffix: str = "",
) -> dict[str, Any]:
    """Measure contrast and power kept per octave, in gratings and, with a folder, in photographs.

    There are sixteen gratings for each octave: four orientations, four phases. Photographs are multiplied
    with a Hann window, so that their borders do not count as detail. Everything is measured on luma, with the
    equations of `flatvq.evaluate.octaves`; the figures are means over images.

    Args:
        tokenizer: the tokenizer.
        folder: the folder of photographs, or a pattern or URL of shards; None for gratings alone.
        side: side of the gratings and of the centre crops, in pixels.
        resize: pixels of the shorter side of photographs after scaling, before the crop; 0 for the original
            size.
        white_level: the sample of white in files of more than 8 bits that do not state it; 0 for the maximum.
        limit: the number of photographs, evenly spread over the folder; None for all.
        progress: called with the number of finished images and the number of all images.
        image_column: the column of images in parquet shards.
        image_suffix: the suffix of images in tar shards; empty for all images.

    Returns:
        The results, which docs/how-to/compare.md describes.

    Raises:
        FlatvqError: if the side is too small, or the folder contains no readable image.
    """
    octaves = octaves_of(side)
    if not octaves:
        raise FlatvqError(f"images of {side} pixels are too small for fine patterns", "give a larger --crop")
    opened = None
    if folder is not None:
        opened = open_images(folder, side, resize, white_level, None, image_column, image_suffix)
    photographs = len(evenly_spread(len(opened.images), limit)) if opened else 0
    total = len(octaves) * len(_ORIENTATIONS) * len(_PHASES) + photographs
    rows: list[dict[str, Any]] = []
    for octave in octaves:
        patterns = [grating(side, octave, turn, phase) for turn in _ORIENTATIONS for phase in _PHASES]
        in_gratings = [
            kept(luma(image), luma(reconstruction_of(tokenizer, image)), octave) for image in patterns
        ]
        rows.append({"low": octave.low, "high": octave.high, "gratings": _summary(in_gratings)})
        progress(len(rows) * len(patterns), total)
    if opened is not None:
        in_photographs = _in_photographs(tokenizer, opened, octaves, side, limit, progress, total)
        for row, in_octave in zip(rows, zip(*in_photographs, strict=True), strict=True):
            row["photographs"] = _summary(in_octave)
    return {
        "protocol": PROTOCOL,
        "side": side,
        "orientations": list(_ORIENTATIONS),
        "phases": list(_PHASES),
        "amplitude": AMPLITUDE,
        "data": None if folder is None else str(folder),
        "resize": resize,
        "white_level": white_level,
        "limit": limit,
        "photographs": photographs,
        "octaves": rows,
        "measured_on": None if opened is None else measured_on(opened.images.fingerprint),
    }


def _in_photographs(
    tokenizer: Tokenizer,
    opened: OpenedFolder,
    octaves: Sequence[Octave],
    side: int,
    limit: int | None,
    progress: Callable[[int, int], None],
    total: int,
) -> list[list[Kept | None]]:
    """Return the contrast and power kept in each octave of each photograph."""
    hann = np.hanning(side + 1)[:side]  # periodic: as many samples as the transform has
    window = np.outer(hann, hann)
    kept_by_image: list[list[Kept | None]] = []
    first = total - len(evenly_spread(len(opened.images), limit))
    for _, pixels in evaluation_crops(opened.images, side, limit):
        planes = (luma(pixels), luma(reconstruction_of(tokenizer, pixels)))
        original, stored = (window * (plane - plane.mean()) for plane in planes)
        kept_by_image.append([kept(original, stored, octave) for octave in octaves])
        progress(first + len(kept_by_image), total)
    return kept_by_image


def _summary(values: Sequence[Kept | None]) -> dict[str, Any]:
    """Return the means over the images that have contrast in the band, and the number of these images."""
    present = [value for value in values if value is not None]
    return {
        "images": len(present),
        "contrast_kept": mean_with_interval([value.contrast for value in present]),
        "power_kept": mean_with_interval([value.power for value in present], minimum=0.0),
    }
