"""Which value of a sample is white, as far as the header of a file says it.

| format | what is read |
|---|---|
| PNG | `sBIT`, the number of significant bits |
| TIFF | `BitsPerSample`, `SMaxSampleValue`, `MaxSampleValue`, `PhotometricInterpretation` |
| PGM, PPM | the maximum in the header, by which Pillow scales |
| JPEG 2000 | the precision of the components, by which Pillow scales |
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, Any, TypeAlias, TypeVar

import numpy as np
from PIL import ImageFile

from flatvq.data.types import Pixels

__all__ = ["FULL", "Range", "Samples", "from_start", "jpeg2000_bits", "stated_range"]

FULL = 2**16 - 1
"""The largest sample of 16 bits."""

SCALED = "its maximum, to which Pillow scales"

Samples: TypeAlias = "np.ndarray[Any, np.dtype[np.uint16]]"

T = TypeVar("T", bound=np.generic)

_VALUES = np.arange(FULL + 1)
_BLOCK = 2**20

_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE, _SMAX_SAMPLE = 258, 262, 281, 341


@dataclass(frozen=True)
class Range:
    """How samples of up to 16 bits become levels of 8 bits.

    Example:
        >>> Range(white=4095).levels(np.array([0, 16, 2048, 4095, 5000], np.uint16)).tolist()
        [0, 1, 128, 255, 255]
        >>> Range(white=1, inverted=True).levels(np.array([0, 1], np.uint16)).tolist()
        [255, 0]
    """

    white: int = FULL
    """The sample of white, after the shift."""
    shift: int = 0
    """By how many bits samples are shifted to the right first."""
    inverted: bool = False
    """Whether `white` stands for black and 0 for white."""
    stated_by: str = ""
    """What in the file states the range; empty if it is taken from the width of the samples."""

    def levels(self, samples: Samples) -> Pixels:
        """Divide the range into 256 equal shares: of 16 bits, this takes the high byte."""
        shares = (_VALUES >> self.shift) * 256 // self.white
        levels = np.minimum(shares, 255).astype(np.uint8)
        return _looked_up(255 - levels if self.inverted else levels, samples)

    def settled(self, samples: Samples) -> Range:
        """Decide by the samples whether the encoder of a PNG with `sBIT` scaled them, as it should.

        If it did, the low bits follow from the significant ones: they are zero, or those of linear scaling.
        Samples were not scaled if none exceeds the significant bits and the low bits do not follow.
        """
        if not self.shift or samples.max() > self.white:
            return self
        significant = _VALUES >> self.shift
        linear = (significant * FULL * 2 + self.white) // (2 * self.white)
        scaled = (significant << self.shift == _VALUES) | (linear == _VALUES)
        return self if _looked_up(scaled, samples).all() else replace(self, shift=0)


def _looked_up(table: np.ndarray[Any, np.dtype[T]], samples: Samples) -> np.ndarray[Any, np.dtype[T]]:
    """Look samples up in a table of 65,536 entries, in blocks: NumPy makes 8 bytes of each index."""
    flat = samples.reshape(-1)
    found = np.empty(flat.shape, table.dtype)
    for start in range(0, flat.size, _BLOCK):
        found[start : start + _BLOCK] = table[flat[start : start + _BLOCK]]
    return found.reshape(samples.shape)


def stated_range(image: ImageFile.ImageFile) -> Range:
    """Read the range of an image's samples, of more than 8 bits each, from its header.

    Args:
        image: as opened; its pixels are not loaded yet.

    Returns:
        The range; that of the samples' width, with an empty `stated_by`, if the file does not say it.
    """
    if image.format == "TIFF":
        return _of_tiff(image)
    if image.format == "PNG":
        return _of_png(image)
    scaled = (image.format == "PPM" and ppm_maximum(image) < FULL) or (
        image.format == "JPEG2000" and jpeg2000_bits(image) < 16
    )
    return Range(stated_by=SCALED if scaled else "")


@contextmanager
def from_start(image: ImageFile.ImageFile) -> Iterator[IO[bytes]]:
    """Give an opened image's file, at its start; Pillow then goes on to read where it was."""
    file = image.fp
    assert file is not None  # Pillow drops it when it has loaded the pixels
    place = file.tell()
    file.seek(0)
    yield file
    file.seek(place)


def ppm_maximum(image: ImageFile.ImageFile) -> int:
    """Return the largest sample that the header of a PBM, PGM or PPM file allows."""
    codec, _, _, args = image.tile[0]
    if codec == "raw":  # as Pillow decodes a maximum of 255, of 65535, or bits
        return FULL if image.mode == "I" else 255
    return int(args[-1]) if isinstance(args, tuple) else 255


def jpeg2000_bits(image: ImageFile.ImageFile) -> int:
    """Return the precision of the first component (ISO/IEC 15444-1, A.5.1); 8 if it is not near the start."""
    with from_start(image) as file:
        head = file.read(2**16)
    start = head.find(b"\xff\x4f\xff\x51")
    return (head[start + 42] & 0x7F) + 1 if 0 <= start < len(head) - 42 else 8


def _of_tiff(image: ImageFile.ImageFile) -> Range:
    """Read TIFF tags.

    `MaxSampleValue` is for statistics (TIFF 6.0), and encoders may write the largest sample of the image. It
    counts as the range only if it is that of a number of bits, such as 4095. `SMaxSampleValue` always does.
    """
    # Pillow inverts white-is-zero itself, except in images of 16 bits.
    inverted = image.mode.startswith("I;16") and _tag(image, _PHOTOMETRIC) == 0
    full = 2 ** min(_tag(image, _BITS_PER_SAMPLE) or 16, 16) - 1
    if 0 < (white := _tag(image, _SMAX_SAMPLE)) < full:
        return Range(white, inverted=inverted, stated_by="SMaxSampleValue")
    if 0 < (white := _tag(image, _MAX_SAMPLE)) < full and not white & (white + 1):
        return Range(white, inverted=inverted, stated_by="MaxSampleValue")
    return Range(full, inverted=inverted, stated_by="BitsPerSample" if full < FULL else "")


def _tag(image: ImageFile.ImageFile, number: int) -> int:
    """Return the value of a TIFF tag, the largest of several; -1 if it has none, or no whole number."""
    value = image.tag_v2.get(number, ())  # type: ignore[attr-defined]
    values = value if isinstance(value, tuple) else (value,)
    whole = [int(each) for each in values if isinstance(each, int | float) and each == each // 1]
    return max(whole, default=-1)


def _of_png(image: ImageFile.ImageFile) -> Range:
    """Read `sBIT`: samples are to be scaled to 16 bits, of which so many are significant (PNG, 11.3.2.7)."""
    with from_start(image) as file:
        bits = max(_significant_bits(file)[: 1 if image.mode in {"I", "I;16", "LA"} else 3], default=16)
    return Range(2**bits - 1, shift=16 - bits, stated_by="sBIT") if 0 < bits < 16 else Range()


def _significant_bits(file: IO[bytes]) -> bytes:
    """Find the content of `sBIT`, a byte for each channel, in front of the pixels; empty if there is none."""
    file.seek(8)
    while len(head := file.read(8)) == 8 and head[4:] != b"IDAT":
        length = int.from_bytes(head[:4], "big")
        if head[4:] == b"sBIT":
            return file.read(min(length, 4))
        file.seek(length + 4, os.SEEK_CUR)
    return b""
