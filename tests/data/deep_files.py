"""Files of 16 bits a sample, written byte by byte: Pillow writes hardly any of them."""

from __future__ import annotations

import struct
import zlib

import numpy as np

GREY, RGB, GREY_ALPHA, RGBA = 0, 2, 4, 6


def png(samples: np.ndarray, colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """Write a PNG of 16 bits a sample, half of its rows filtered, with chunks in front of the pixels."""
    height, width = samples.shape[:2]
    rows = samples.astype(">u2").reshape(height, -1).view(np.uint8)
    pixel = rows.shape[1] // width
    scanlines = []
    for number, row in enumerate(rows):
        before = np.concatenate([np.zeros(pixel, np.uint8), row[:-pixel]])
        scanlines.append(b"\1" + (row - before).tobytes() if number % 2 else b"\0" + row.tobytes())
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"".join(scanlines))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )


def tiff_of_12_bits(samples: np.ndarray) -> bytes:
    """Write a greyscale TIFF of 12 bits a sample, two samples in three bytes."""
    height, width = samples.shape
    high, low = samples[:, ::2].astype(int), samples[:, 1::2].astype(int)
    packed = np.stack([high >> 4, (high & 15) << 4 | low >> 8, low & 255], axis=2).astype(np.uint8).tobytes()
    tags = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 12),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 122),
        (277, 3, 1),
    ]
    tags += [(278, 4, height), (279, 4, len(packed))]
    directory = b"".join(struct.pack("<HHII", number, kind, 1, value) for number, kind, value in tags)
    head = struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + directory + bytes(4)
    assert len(head) <= 122
    return head.ljust(122, b"\0") + packed


def portable(magic: str, samples: np.ndarray, maximum: int) -> bytes:
    """Write a PGM (P2, P5) or PPM (P3, P6) of 16 bits a sample."""
    height, width = samples.shape[:2]
    head = f"{magic}\n{width} {height}\n{maximum}\n".encode()
    if magic in {"P2", "P3"}:
        return head + " ".join(map(str, samples.ravel())).encode() + b"\n"
    return head + samples.astype(">u2").tobytes()
