"""Pages of rendered text, the same for every tokenizer.

The font is the scalable one that Pillow contains, Aileron Regular (CC0). A seed determines the words and
their positions.

Axes: H W rows and columns.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import PIL
from PIL import Image, ImageDraw, ImageFont, features

from flatvq.data.types import Pixels
from flatvq.errors import FlatvqError

__all__ = ["Line", "Page", "digest_of", "pages_of", "renderer"]

# Words that differ in many letters, of four to eight letters. Changing them raises the protocol of the text.
_WORDS = """
picture house water light table green river stone paper window garden letter music number school family
market winter summer morning evening bridge castle doctor engine flower ground hammer island jacket
kitchen ladder mountain needle orange pencil question rabbit silver thunder uncle village weather
yellow zebra anchor basket candle dragon feather glove harbour insect jungle kettle lemon mirror
notebook oyster pepper quarter ribbon saddle ticket umbrella velvet wallet
"""
_WORDS_PER_LINE = 3
_MOST_LINES = 6
# Room around a line, and between lines, as shares of the size of the font.
_ROOM, _LEADING = 0.1, 0.35


@dataclass(frozen=True)
class Line:
    """A line of text and the rectangle around it, in pixels."""

    text: str
    left: int
    top: int
    right: int
    bottom: int

    def of(self, page: Pixels) -> Pixels:
        """Return the part of a page [H, W, C] that the line is in."""
        return page[self.top : self.bottom, self.left : self.right]


@dataclass(frozen=True)
class Page:
    """A rendered page."""

    pixels: Pixels
    """uint8 [H, W, 3], black on white."""
    lines: tuple[Line, ...]


def pages_of(size: int, side: int, count: int, seed: int) -> list[Page]:
    """Render pages of text.

    Args:
        size: the size of the font, in pixels.
        side: rows and columns of a page.
        count: the number of pages.
        seed: determines the words and, within a few pixels, their positions.

    Returns:
        The pages; equal for equal arguments and versions of FreeType.

    Raises:
        FlatvqError: if a page is too small for a word, or Pillow was built without FreeType.

    Example:
        >>> page, = pages_of(size=16, side=64, count=1, seed=0)
        >>> page.pixels.shape, len(page.lines)
        ((64, 64, 3), 2)
    """
    if not features.check("freetype2"):
        raise FlatvqError("this Pillow cannot render text", "install a Pillow with FreeType")
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    streams = np.random.SeedSequence(entropy=seed, spawn_key=(size, side)).spawn(count)
    return [_page(font, side, np.random.Generator(np.random.Philox(stream))) for stream in streams]


def digest_of(pages: Sequence[Page]) -> str:
    """Return the SHA-256 of the pixels of pages, to check whether two machines render the same pages."""
    content = hashlib.sha256()
    for page in pages:
        content.update(page.pixels.tobytes())
    return content.hexdigest()


def renderer() -> dict[str, str]:
    """Return the font, and the versions of the libraries that render it."""
    return {
        "font": "Aileron Regular of Pillow",
        "pillow": PIL.__version__,
        "freetype": str(features.version("freetype2")),
    }


def _page(font: ImageFont.FreeTypeFont, side: int, random: np.random.Generator) -> Page:
    size = round(font.size)
    room, height = max(1, round(_ROOM * size)), sum(font.getmetrics())
    pitch = height + max(2, round(_LEADING * size))
    picture = Image.new("RGB", (side, side), "white")
    pen = ImageDraw.Draw(picture)
    lines: list[Line] = []
    # Letters must not always have the same position relative to the grid of a tokenizer.
    down = room + int(random.integers(0, 8))
    while down + height + room <= side and len(lines) < _MOST_LINES:
        across = 2 * room + int(random.integers(0, 8))
        text = _text(font, side - across - 2 * room, random)
        pen.text((across, down), text, fill="black", font=font)
        right = across + round(font.getlength(text)) + 2 * room
        lines.append(Line(text, across - 2 * room, down - room, min(side, right), down + height + room))
        down += pitch
    if not lines:
        raise FlatvqError(f"a page of {side} pixels is too small for text of {size}", "give a larger --crop")
    return Page(np.array(picture), tuple(lines))


def _text(font: ImageFont.FreeTypeFont, width: int, random: np.random.Generator) -> str:
    """Draw random words until the next one does not fit; return at least one word."""
    words, text = _WORDS.split(), ""
    for number in random.permutation(len(words)):
        longer = f"{text} {words[number]}".strip()
        if font.getlength(longer) <= width:
            text = longer
        if text.count(" ") == _WORDS_PER_LINE - 1:
            break
    if not text:
        what = f"a line of {width} pixels is too short for a word in size {font.size:g}"
        raise FlatvqError(what, "give a larger --crop")
    return text
