"""Reads the text of reconstructed pages, and counts the errors.

Axes: H W rows and columns.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util
from typing import Any

import numpy as np

from flatvq.data.types import Pixels
from flatvq.errors import FlatvqError, MissingExtraError
from flatvq.evaluate.reconstruction import as_pixels, planes_of, reconstructed
from flatvq.evaluate.spread import mean_with_interval
from flatvq.evaluate.text_pages import Page, digest_of, pages_of, renderer
from flatvq.model.pixels import with_channels
from flatvq.tokenizers import Tokenizer

__all__ = [
    "PAGE_SIDE",
    "PROTOCOL",
    "SIZES",
    "Reader",
    "edits",
    "evaluate_text",
    "load_reader",
    "require_reader",
]

PROTOCOL = "flatvq-text-1"
"""The id of the measurement. Its number is raised when words, positions, font, sizes or the counting of
errors change."""
SIZES = (8, 10, 12, 16, 20, 24, 32)
"""Sizes of the font, in pixels."""
PAGE_SIDE = 256
"""Default side of a page, in pixels. Pages for a tokenizer of larger crops have the side of the crops."""

_PAGES = 8
_SEED = 0
# If the originals of a size are read with more errors, the size says little about the tokenizer.
_MOST_ERRORS = 0.03


@dataclass(frozen=True)
class Reader:
    """Reads lines of text."""

    name: str
    """Name and version."""
    read: Callable[[Pixels], str]
    """Returns the text of a line, uint8 [H, W, 3]."""


def evaluate_text(
    tokenizer: Tokenizer,
    *,
    side: int = PAGE_SIDE,
    reader: Reader | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Measure how well the text of reconstructions can be read.

    Pages of text are reconstructed, and each line is read at its position, in the original and in the
    reconstruction. The error rate of a page is the number of edits (insertions, deletions, substitutions)
    from the text that is read to the true text, divided by the characters of the true text. Spaces and case
    are not compared.

    Args:
        tokenizer: the tokenizer.
        side: rows and columns of a page, in pixels.
        reader: reads the lines; None for `load_reader()`.
        progress: called with the number of finished pages and the number of all pages.

    Returns:
        The results, which docs/how-to/compare.md describes.

    Raises:
        FlatvqError: if a page is too small for text.
        MissingExtraError: if the default reader is not installed.
    """
    reader = reader or load_reader()
    pages = {size: pages_of(size, side, _PAGES, _SEED) for size in SIZES if _fits(size, side)}
    if not pages:
        raise FlatvqError(f"pages of {side} pixels are too small for text", "give a larger --crop")
    rows, done = [], 0
    for size, of_size in pages.items():
        rates: dict[str, list[float]] = {"original": [], "reconstruction": []}
        for page in of_size:
            rates["original"].append(_error_rate(reader, page, page.pixels))
            rates["reconstruction"].append(_error_rate(reader, page, _reconstruction(tokenizer, page)))
            done += 1
            progress(done, _PAGES * len(pages))
        summary = {name: mean_with_interval(values, minimum=0.0) for name, values in rates.items()}
        rows.append(
            {
                "size": size,
                "pages": len(of_size),
                "characters": sum(len(_letters(line.text)) for page in of_size for line in page.lines),
                "pages_sha256": digest_of(of_size),
                "read_reliably": sum(rates["original"]) / len(of_size) < _MOST_ERRORS,
                "character_error_rate": summary,
            }
        )
    return {
        "protocol": PROTOCOL,
        "side": side,
        "seed": _SEED,
        "reader": reader.name,
        "renderer": renderer(),
        "largest_error_rate_of_originals": _MOST_ERRORS,
        "sizes": rows,
    }


def require_reader() -> None:
    """Check that the text recognition is installed, without loading it.

    Raises:
        MissingExtraError: if it is not installed.
    """
    if util.find_spec("rapidocr_onnxruntime") is None:
        raise _missing()


def load_reader() -> Reader:
    """Load the text recognition of RapidOCR, whose networks are in its Python package.

    Raises:
        MissingExtraError: if it is not installed.
    """
    require_reader()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from rapidocr_onnxruntime import RapidOCR
    except ImportError:  # a package that it needs
        raise _missing() from None
    network = RapidOCR(intra_op_num_threads=1)

    def read(line: Pixels) -> str:
        # The package reads images of OpenCV, whose channels are blue, green and red. The places of lines are
        # known, so it does not search for them.
        lines, _ = network(np.ascontiguousarray(line[:, :, ::-1]), use_det=False, use_cls=False)
        return str(lines[0][0]) if lines else ""

    return Reader(f"rapidocr-onnxruntime {metadata.version('rapidocr-onnxruntime')}", read)


def edits(read: str, text: str) -> int:
    """Return the least number of insertions, deletions and substitutions between two texts (Levenshtein).

    Example:
        >>> edits("kitten", "sitting"), edits("", "abc")
        (3, 3)
    """
    before = list(range(len(text) + 1))
    for number, character in enumerate(read, start=1):
        row = [number]
        for position, expected in enumerate(text, start=1):
            row.append(min(before[position] + 1, row[-1] + 1, before[position - 1] + (character != expected)))
        before = row
    return before[-1]


def _missing() -> MissingExtraError:
    return MissingExtraError("readings of text", "rapidocr-onnxruntime", extra="text")


def _error_rate(reader: Reader, page: Page, pixels: Pixels) -> float:
    wrong = sum(edits(_letters(reader.read(line.of(pixels))), _letters(line.text)) for line in page.lines)
    return wrong / sum(len(_letters(line.text)) for line in page.lines)


def _letters(text: str) -> str:
    """Return a text in lower case without spaces, because the reader confuses both even in perfect images."""
    return "".join(text.split()).casefold()


def _reconstruction(tokenizer: Tokenizer, page: Page) -> Pixels:
    """Return the reconstruction of a page with three channels, which the reader needs."""
    stored = reconstructed(tokenizer, planes_of(tokenizer, page.pixels))
    return as_pixels(with_channels(stored, 3))


def _fits(size: int, side: int) -> bool:
    """Return whether the longest word in this size certainly fits on a page."""
    return 6 * size <= side
