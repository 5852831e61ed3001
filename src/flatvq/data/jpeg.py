"""JPEGs of the usual kind, told from others by their markers, without opening them."""

from __future__ import annotations

__all__ = ["START", "plain_size"]

START = b"\xff\xd8"
"""The first bytes of a JPEG."""

# The second bytes of markers (ITU-T T.81, table B.1). The frames are those of Huffman codes: baseline,
# extended and progressive.
_FIRST, _NO_SEGMENT, _SCAN, _ABOUT, _FILL = 0xC0, range(0xD0, 0xDA), 0xDA, 0xE1, 0xFF
_FRAMES = (0xC0, 0xC1, 0xC2)


def plain_size(file: bytes) -> tuple[int, int] | None:
    """Say how large a JPEG of three colours, or of grey, is that has no EXIF data or XMP, which may turn it.

    It takes a fraction of the time that Pillow takes to open a file.

    Args:
        file: its bytes.

    Returns:
        Width and height in pixels; None if it is a file of another kind, or one on which only Pillow may
        judge.

    Example:
        >>> from io import BytesIO
        >>> from PIL import Image
        >>> file = BytesIO()
        >>> Image.new("RGB", (3, 2)).save(file, "JPEG")
        >>> plain_size(file.getvalue()), plain_size(b"no JPEG")
        ((3, 2), None)
    """
    if not file.startswith(START):
        return None
    place, size = len(START), None
    while file[place : place + 1] == b"\xff" and place + 4 <= len(file):
        kind = file[place + 1]
        if kind == _SCAN:
            return size
        if kind < _FIRST or kind in _NO_SEGMENT or kind in (_ABOUT, _FILL):
            return None
        end = place + 2 + int.from_bytes(file[place + 2 : place + 4], "big")
        if kind in _FRAMES:
            size = _size(file[place + 4 : end])
        place = end
    return None


def _size(frame: bytes) -> tuple[int, int] | None:
    """Read width and height from a header (ITU-T T.81, B.2.2) of 8 bits a sample, three colours or one."""
    if len(frame) < 6 or frame[0] != 8 or frame[5] not in (1, 3):
        return None
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    return (width, height) if width and height else None
