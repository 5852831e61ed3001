"""What the commands print about compressed files and priors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flatvq.cli.tables import console, new_table
from flatvq.codec.container import Contents
from flatvq.codec.storage import PriorRecord

__all__ = ["described", "show_contents", "show_prior"]

_MOST_SHOWN = 20


def described(path: Path, contents: Contents) -> dict[str, Any]:
    """Describe a file as a JSON object.

    Args:
        path: the file.
        contents: the description in its header.
    """
    pixels = sum(entry.width * entry.height for entry in contents.entries)
    streams = sum(sum(entry.lengths) for entry in contents.entries)
    return {
        "file": str(path),
        "format": contents.version,
        "kind": "collection" if contents.collection else "image",
        "prior": contents.prior,
        "identity": contents.identity.hex(),
        "levels": contents.levels,
        "image_count": len(contents.entries),
        "bytes": contents.size,
        "stream_bytes": streams,
        "bits_per_pixel": 8 * contents.size / pixels if pixels else 0.0,
        "images": [
            {
                "name": entry.name,
                "width": entry.width,
                "height": entry.height,
                # Bottom first, as everywhere else.
                "level_bytes": list(reversed(entry.lengths)),
                "bits_per_pixel": 8 * sum(entry.lengths) / (entry.width * entry.height),
            }
            for entry in contents.entries
        ],
    }


def show_contents(description: dict[str, Any]) -> None:
    """Print what `described` returns."""
    table = new_table(description["file"], "field", "value")
    for key, value in description.items():
        if key not in ("file", "images"):
            table.add_row(key.replace("_", " "), _shown(value))
    console.print(table)
    images = description["images"]
    levels = [f"level {number} bytes" for number in reversed(range(description["levels"]))]
    table = new_table("Images", "name", "size", *levels, "bits per pixel")
    for image in images[:_MOST_SHOWN]:
        size = f"{image['width']} x {image['height']}"
        lengths = [f"{length:,}" for length in reversed(image["level_bytes"])]
        table.add_row(image["name"], size, *lengths, f"{image['bits_per_pixel']:.4f}")
    console.print(table)
    if len(images) > _MOST_SHOWN:
        console.print(f"  and {len(images) - _MOST_SHOWN} more images (all with --json)")


def show_prior(record: PriorRecord) -> None:
    """Print what a prior saves."""
    console.print(f"Fitted a prior of kind {record.kind} to {record.images} images and their mirror images.")
    nominal, coded = record.nominal_bits_per_pixel, record.coded_bits_per_pixel
    if nominal and coded is not None:
        console.print(
            f"On {record.held_out_images} images that were set aside: {coded:.4f} bits per pixel instead of "
            f"{nominal:.4f} ({coded / nominal - 1:+.1%})."
        )


def _shown(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else value
