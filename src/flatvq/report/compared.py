"""Figures of `flatvq evaluate`: rate and distortion, text, detail, and a grid of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from io import BytesIO
from math import sqrt
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from flatvq.data.types import Pixels
from flatvq.report.figure import Axis, Series, figure
from flatvq.report.svg import Scale, span

__all__ = ["detail_chart", "picture_grid", "rate_distortion", "text_chart"]

_SIZES = {"nominal": "tokenizer, nominal", "file": "tokenizer, .fvq", "collection": "tokenizer, .fvqs"}
_SMALLEST_PICTURE, _LARGEST_PICTURE = 192, 384
_GAP, _HEAD = 6, 22


def rate_distortion(result: Mapping[str, Any]) -> str:
    """Draw PSNR over bits per pixel: a curve for each codec, a marker for each size of the tokenizer.

    Args:
        result: what `flatvq.evaluate.against.evaluate_against` returned.

    Returns:
        The content of an SVG file.
    """
    own = result["tokenizer"]
    curves = [
        Series(
            result["codecs"][name]["label"],
            [(point["bits_per_pixel"], point["psnr_db"]) for point in points],
        )
        for name, points in result["curves"].items()
    ]
    markers = [
        Series(_SIZES[kind], [(rate, own["metrics"]["psnr_db"])], line=False)
        for kind, rate in own["bits_per_pixel"].items()
    ]
    series = [*markers, *curves]
    rates = [rate for each in series for rate, _ in each.points]
    return figure(
        f"PSNR of {result['images']} images over bits per pixel",
        Axis(Scale(min(rates) / 1.1, max(rates) * 1.1, log=True), "bits per pixel"),
        Axis(span([height for each in series for _, height in each.points]), "PSNR, dB"),
        series,
    )


def text_chart(result: Mapping[str, Any]) -> str:
    """Draw the character error rate of originals and reconstructions over the size of the text.

    Args:
        result: what `flatvq.evaluate.legibility.evaluate_text` returned. Sizes whose originals are not read
            reliably are left out.

    Returns:
        The content of an SVG file.
    """
    rows = [row for row in result["sizes"] if row["read_reliably"]]
    sizes = [float(row["size"]) for row in result["sizes"]]
    ticks = {f"{size:g}": size for size in sizes}
    return figure(
        "Characters that are read wrong",
        Axis(Scale(min(sizes) / 1.1, max(sizes) * 1.1, log=True), "size of the text, pixels", ticks),
        Axis(Scale(0.0, 1.0), "character error rate"),
        [
            _over([row["size"] for row in rows], [row["character_error_rate"][name] for row in rows], name)
            for name in ("reconstruction", "original")
        ],
    )


def detail_chart(result: Mapping[str, Any]) -> str:
    """Draw the contrast kept over the spatial frequency.

    Args:
        result: what `flatvq.evaluate.detail.evaluate_detail` returned.

    Returns:
        The content of an SVG file.
    """
    rows = result["octaves"]
    centres = [sqrt(row["low"] * row["high"]) for row in rows]
    kinds = [kind for kind in ("gratings", "photographs") if kind in rows[0]]
    series = [
        _over(centres, [row[kind][f"{what}_kept"] for row in rows], f"{kind}: {what}")
        for kind in kinds
        for what in ("contrast", "power")
    ]
    ticks = {f"1/{1 / row['low']:g}": row["low"] for row in rows}
    heights = [0.0, 1.0, *(height for each in series for _, height in each.points)]
    return figure(
        "Contrast and power kept",
        Axis(Scale(rows[-1]["low"], 0.5, log=True), "cycles per pixel", ticks),
        Axis(span(heights, 0.04), "share kept"),
        series,
    )


def _over(places: Sequence[float], summaries: Sequence[Mapping[str, Any]], name: str) -> Series:
    """Return the series of means with their intervals, without those that are undefined."""
    present = [(x, each) for x, each in zip(places, summaries, strict=True) if each["mean"] is not None]
    intervals = [each["interval90"] and tuple(each["interval90"]) for _, each in present]
    return Series(name, [(float(x), each["mean"]) for x, each in present], intervals)


def picture_grid(rows: Sequence[Mapping[str, Pixels | None]], labels: Mapping[str, str]) -> bytes:
    """Draw images in all versions: a row for each image, a column for each version.

    Small images are enlarged by a whole factor without smoothing; of large ones the centre is shown.

    Args:
        rows: for each image, its versions by key, uint8 [H, W, C]; None leaves a place empty.
        labels: the heading of each version, in their order.

    Returns:
        The content of a PNG file.
    """
    pictures = [{key: _shown(pixels) for key, pixels in row.items() if pixels is not None} for row in rows]
    heights = [max(picture.height for picture in row.values()) for row in pictures]
    width = max(picture.width for row in pictures for picture in row.values()) + _GAP
    size = (len(labels) * width - _GAP, _HEAD + sum(heights) + _GAP * (len(heights) - 1))
    canvas = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    down = _HEAD
    for left, label in zip(range(0, size[0], width), labels.values(), strict=True):
        pen.text((left, 3), label, fill="black", font=font)
    for row, height in zip(pictures, heights, strict=True):
        for left, key in zip(range(0, size[0], width), labels, strict=True):
            if key in row:
                canvas.paste(row[key], (left, down))
            else:
                pen.text((left + 8, down + 8), "does not fit", fill="black", font=font)
        down += height + _GAP
    file = BytesIO()
    canvas.save(file, "PNG")
    return file.getvalue()


def _shown(pixels: Pixels) -> Image.Image:
    """Return the centre of an image, enlarged if it is small."""
    height, width = (min(side, _LARGEST_PICTURE) for side in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    centre = pixels[top : top + height, left : left + width]
    picture = Image.fromarray(centre[:, :, 0] if pixels.shape[2] == 1 else centre)
    factor = max(1, _SMALLEST_PICTURE // max(height, width))
    return picture.resize((width * factor, height * factor), Image.Resampling.NEAREST)
