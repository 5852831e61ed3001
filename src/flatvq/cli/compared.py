"""Tables of `flatvq evaluate --against`, `--text` and `--detail`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flatvq.cli.tables import console, new_table
from flatvq.evaluate.quality import METRICS
from flatvq.number_format import MISSING, number, percent, signed

__all__ = ["show_against", "show_detail", "show_text"]

_BUDGETS = {
    "nominal": "its nominal bytes",
    "file": "the bytes of its .fvq files",
    "collection": "its bytes in one .fvqs file",
}
_DIGITS = {"psnr_db": 2, "ssim": 3, "ms_ssim": 3, "lpips": 3}
_MOST_FILES = 20


def show_against(result: Mapping[str, Any]) -> None:
    """Print the comparison of a tokenizer with image codecs at equal bytes."""
    own, images = result["tokenizer"], result["images"]
    for budget, rows in result["at_equal_bytes"].items():
        labels = [result["codecs"][row["codec"]]["label"] for row in rows]
        title = f"{images} image{'' if images == 1 else 's'}; codecs within {_BUDGETS[budget]}"
        table = new_table(title, "", "tokenizer", *labels)
        first = {
            "bytes_per_image": own["bytes_per_image"][budget],
            "bits_per_pixel": own["bits_per_pixel"][budget],
            "images": images,
            "metrics": own["metrics"],
        }
        every = [first, *rows]
        table.add_row("bytes of an image", *(number(row["bytes_per_image"]) for row in every))
        table.add_row("bits per pixel", *(number(row["bits_per_pixel"], 3) for row in every))
        table.add_row("images that fit", *(str(row["images"]) for row in every))
        for key in (key for key in METRICS if key in own["metrics"]):
            table.add_row(METRICS[key], *(_value(key, row["metrics"].get(key)) for row in every))
        differences = [row["tokenizer_minus_codec_psnr_db"] for row in rows]
        table.add_row("tokenizer minus codec, dB", "", *(signed(each["mean"]) for each in differences))
        table.add_row("  90 % interval", "", *(_ends(each["interval90"]) for each in differences))
        console.print(table)
    for kind, name in (("file", ".fvq file"), ("collection", ".fvqs file of all images")):
        if kind in own["bytes_per_image"]:
            size, rate = own["bytes_per_image"][kind], own["bits_per_pixel"][kind]
            console.print(f"  {name}, prior {result['prior']}: {size:,.1f} bytes an image, {rate:.4f} bpp")
    for name, rate in result["bits_per_pixel_at_equal_psnr"].items():
        label = result["codecs"][name]["label"]
        shown = "outside of its qualities" if rate is None else f"{rate:.3f} bits per pixel"
        console.print(f"  {label} with the PSNR of the tokenizer: {shown}")
    _show_notes(result)


def _show_notes(result: Mapping[str, Any]) -> None:
    if any(row["images_that_do_not_fit"] for rows in result["at_equal_bytes"].values() for row in rows):
        console.print("  Images that do not fit at any quality of a codec are not in its column.")
    for note in result["not_measured"]:
        console.print(f"  not measured: {note}")
    for file in result["files"][:_MOST_FILES]:
        console.print(f"  {file['status']}: {file['name']}: {file['reason']}")


def show_text(result: Mapping[str, Any]) -> None:
    """Print character error rates by the size of the text."""
    title = f"Character error rate of text, read by {result['reader']}"
    table = new_table(title, "pixels", "characters", "original", "reconstruction", "90 % interval")
    for row in result["sizes"]:
        original, stored = (row["character_error_rate"][kind] for kind in ("original", "reconstruction"))
        table.add_row(
            str(row["size"]),
            str(row["characters"]),
            percent(original["mean"], 1),
            percent(stored["mean"], 1) if row["read_reliably"] else MISSING,
            _interval(stored["interval90"]) if row["read_reliably"] else "original not readable",
        )
    console.print(table)


def show_detail(result: Mapping[str, Any]) -> None:
    """Print contrast and power kept by octave."""
    for kind in (kind for kind in ("gratings", "photographs") if kind in result["octaves"][0]):
        title = f"Kept of {kind}, by the length of their waves"
        table = new_table(title, "pixels", "contrast", "90 % interval", "power")
        for row in result["octaves"]:
            contrast, power = row[kind]["contrast_kept"], row[kind]["power_kept"]
            table.add_row(
                f"{1 / row['high']:g} to {1 / row['low']:g}",
                percent(contrast["mean"], 1),
                _interval(contrast["interval90"]),
                percent(power["mean"], 1),
            )
        console.print(table)


def _value(key: str, value: float | None) -> str:
    return percent(value, 1) if key.endswith("agreement") else number(value, _DIGITS.get(key, 1))


def _ends(interval: Sequence[float] | None) -> str:
    return MISSING if interval is None else f"{signed(interval[0])} to {signed(interval[1])}"


def _interval(interval: Sequence[float] | None) -> str:
    return MISSING if interval is None else f"{percent(interval[0], 1)} to {percent(interval[1], 1)}"
