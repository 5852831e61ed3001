"""Determine from the header of a file which sample value is white.

| format | source |
|---|---|
| PNG | `sBIT`, the number of significant bits |
| TIFF | `BitsPerSample`, `SMaxSampleValue`, `MaxSampleValue`, `PhotometricInterpretation` |
| PGM, PPM | the maximum in the header, with which Pillow scales |
| JPEG 2000 | the precision of the components, with which Pillow scales |
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import IO, Any, TypeAlias, TypeVar

import numpy as np
from PIL import ImageFile

from flatvq.data.types import Pixels

__all__ = [
    "FULL",
    "Range",
    "Samples",
    "from_start",
    "jpeg2000_bits",
    "jpeg2000_is_signed",
    "png_chunks",
    "ppm_maximum",
    "stated_range",
]

FULL = 2**16 - 1
"""The maximum of a 16-bit sample."""

_SCALED = "its maximum, to which Pillow scales"

Samples: TypeAlias = "np.ndarray[Any, np.dtype[np.uint16]]"

T = TypeVar("T", bound=np.generic)

_VALUES = np.arange(FULL + 1)
_BLOCK = 2**20

_BITS_PER_SAMPLE, _PHOTOMETRIC, _MAX_SAMPLE, _SMAX_SAMPLE = 258, 262, 281, 341


@dataclass(frozen=True)
class Range:
    """How samples of up to 16 bits are converted to 8 bits.

    Example:
        >>> Range(white=4095).levels(np.array([0, 16, 2048, 4095, 5000], np.uint16)).tolist()
        [0, 1, 128, 255, 255]
        >>> Range(white=1, inverted=True).levels(np.array([0, 1], np.uint16)).tolist()
        [255, 0]
    """

    white: int = FULL
    """The sample of white, after the shift."""
    shift: int = 0
    """Number of bits by which samples are shifted to the right first."""
    inverted: bool = False
    """Whether the sample `white` is black and the sample 0 is white."""
    stated_by: str = ""
    """The field that states the range; empty if the range follows from the width of the samples."""

    def levels(self, samples: Samples) -> Pixels:
        """Divide the range into 256 equal parts: for 16 bits, this returns the high byte."""
        steps = (_VALUES >> self.shift) * 256 // self.white
        levels = np.minimum(steps, 255).astype(np.uint8)
        return _look_up(255 - levels if self.inverted else levels, samples)

    def corrected(self, samples: Samples) -> Range:
        """Return the range without the shift if the encoder of a PNG with `sBIT` did not scale the samples.

        The PNG specification requires scaling. If the encoder scaled, the low bits follow from the
        significant bits: they are zero, or follow from linear scaling. The encoder did not scale if no sample
        exceeds the significant bits and the low bits do not follow.
        """
        if not self.shift or samples.max() > self.white:
            return self
        significant = _VALUES >> self.shift
        linear = (significant * FULL * 2 + self.white) // (2 * self.white)
        scaled = (significant << self.shift == _VALUES) | (linear == _VALUES)
        return self if _look_up(scaled, samples).all() else replace(self, shift=0)


def _look_up(table: np.ndarray[Any, np.dtype[T]], samples: Samples) -> np.ndarray[Any, np.dtype[T]]:
    """Look samples up in a table of 65,536 entries, in blocks: NumPy converts each index to 8 bytes."""
    flat = samples.reshape(-1)
    values = np.empty(flat.shape, table.dtype)
    for start in range(0, flat.size, _BLOCK):
        values[start : start + _BLOCK] = table[flat[start : start + _BLOCK]]
    return values.reshape(samples.shape)


def stated_range(image: ImageFile.ImageFile) -> Range:
    """Read the range of samples of more than 8 bits from the header of an image.

    Args:
        image: an opened image, whose pixels are not loaded yet.

    Returns:
        The range. If the file does not state it, the range of the samples' width, with an empty `stated_by`.
    """
    if image.format == "TIFF":
        return _of_tiff(image)
    if image.format == "PNG":
        return _of_png(image)
    scaled = (image.format == "PPM" and ppm_maximum(image) < FULL) or (
        image.format == "JPEG2000" and jpeg2000_bits(image) < 16
    )
    return Range(stated_by=_SCALED if scaled else "")


@contextmanager
def from_start(image: ImageFile.ImageFile) -> Iterator[IO[bytes]]:
    """Yield the file of an opened image at its start, and restore Pillow's position in it afterwards."""
    file = image.fp
    assert file is not None, "Pillow drops the file once the pixels are loaded"
    position = file.tell()
    file.seek(0)
    yield file
    file.seek(position)


def png_chunks(file: IO[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the type and the first bytes of the content, up to 64, of each chunk of a PNG file."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        start, length = file.tell(), int.from_bytes(head[:4], "big")
        yield head[4:], file.read(min(length, 64))
        file.seek(start + length + 4)


def ppm_maximum(image: ImageFile.ImageFile) -> int:
    """Return the maximum sample that the header of a PBM, PGM or PPM file states."""
    codec, _, _, args = image.tile[0]
    if codec == "raw":  # a maximum of 255 or 65535, or one bit a sample
        return FULL if image.mode == "I" else 255
    return int(args[-1]) if isinstance(args, tuple) else 255


def jpeg2000_bits(image: ImageFile.ImageFile) -> int:
    """Return the bits of the first component; 8 if the file's start lacks them."""
    return (_jpeg2000_depth(image) & 0x7F) + 1


def jpeg2000_is_signed(image: ImageFile.ImageFile) -> bool:
    """Return whether the samples of the first component are signed."""
    return _jpeg2000_depth(image) >= 0x80


def _jpeg2000_depth(image: ImageFile.ImageFile) -> int:
    """Return the sign and the bits less one of the first component (Ssiz in ISO/IEC 15444-1, A.5.1)."""
    with from_start(image) as file:
        head = file.read(2**16)
    start = head.find(b"\xff\x4f\xff\x51")
    return head[start + 42] if 0 <= start < len(head) - 42 else 7


def _of_tiff(image: ImageFile.ImageFile) -> Range:
    """Read TIFF tags.

    `SMaxSampleValue` is the range. `MaxSampleValue` is a statistic (TIFF 6.0), and encoders may write the
    largest sample of the image; it counts as the range only if it is the maximum of a number of bits, such as
    4095.
    """
    # Pillow inverts white-is-zero images itself, except those of 16 bits.
    inverted = image.mode.startswith("I;16") and _tag(image, _PHOTOMETRIC) == 0
    full = 2 ** min(_tag(image, _BITS_PER_SAMPLE) or 16, 16) - 1
    if 0 < (white := _tag(image, _SMAX_SAMPLE)) < full:
        return Range(white, inverted=inverted, stated_by="SMaxSampleValue")
    if 0 < (white := _tag(image, _MAX_SAMPLE)) < full and not white & (white + 1):
        return Range(white, inverted=inverted, stated_by="MaxSampleValue")
    return Range(full, inverted=inverted, stated_by="BitsPerSample" if full < FULL else "")


def _tag(image: ImageFile.ImageFile, number: int) -> int:
    """Return the largest value of a TIFF tag; -1 without the tag or without an integer in it."""
    content = image.tag_v2.get(number, ())  # type: ignore[attr-defined]
    values = content if isinstance(content, tuple) else (content,)
    integers = [int(value) for value in values if isinstance(value, int | float) and value == value // 1]
    return max(integers, default=-1)


def _of_png(image: ImageFile.ImageFile) -> Range:
    """Read `sBIT`, the number of significant bits of samples that are scaled to 16 bits (PNG, 11.3.2.7)."""
    with from_start(image) as file:
        bits = max(_significant_bits(file)[: 1 if image.mode in {"I", "I;16", "LA"} else 3], default=16)
    return Range(2**bits - 1, shift=16 - bits, stated_by="sBIT") if 0 < bits < 16 else Range()


def _significant_bits(file: IO[bytes]) -> bytes:
    """Return the content of `sBIT`, one byte per channel; empty without one before the pixels."""
    for kind, content in png_chunks(file):
        if kind == b"IDAT":
            break
        if kind == b"sBIT":
            return content[:4]
    return b""
