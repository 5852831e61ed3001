"""Random changes of bytes, and of the file formats that check their parts: PNG, safetensors and .fvq."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import yaml

from benchmarks.fuzz.trees import mutated_text

__all__ = [
    "Mutate",
    "mutated_bytes",
    "mutated_compressed",
    "mutated_json",
    "mutated_lines",
    "mutated_png",
    "mutated_safetensors",
    "mutated_yaml",
]

Mutate = Callable[[bytes, bytes, Random], bytes]
"""From a valid file, another valid file of the same kind, and a source of numbers, to a mutated file."""

# What parsers have failed on: ends of ranges, in both byte orders.
_VALUES = [
    value.to_bytes(size, order)
    for size in (1, 2, 4, 8)
    for value in (0, 1, 2 ** (8 * size - 1) - 1, 2 ** (8 * size - 1), 2 ** (8 * size) - 1)
    for order in ("little", "big")
]
_YAML = [
    *(
        b"\n",
        b"  ",
        b"\t",
        b"#",
        b": ",
        b"- ",
        b"? ",
        b"&a ",
        b"*a ",
        b"<<: *a",
        b"!!python/name:os.system ",
        b"!!binary ",
    ),
    *(
        b"!!int ",
        b"!!set ",
        b"---\n",
        b"...\n",
        b"%YAML 9.9\n",
        b"|\n",
        b">\n",
        b"'",
        b'"',
        b"[",
        b"]",
        b"{",
        b"}",
    ),
    *(
        b"0x10",
        b"1_000",
        b"1e400",
        b".nan",
        b".inf",
        b"~",
        b"null",
        b"yes",
        b"2024-01-01",
        b"\xef\xbb\xbf",
        b"\x00",
    ),
    *(b"\xc2\x85", b"\xe2\x80\xa8", b"[" * 600, b"{a: " * 600, b"9" * 5000, b"- " * 600, b"a: &a [*a]\n"),
]
_PNG = b"\x89PNG\r\n\x1a\n"


def mutated_bytes(content: bytes, other: bytes, random: Random) -> bytes:
    """Change some bytes, or cut, insert, repeat, move or drop a piece, or continue with another file.

    Example:
        >>> mutated_bytes(b"valid", b"other", Random(14))
        b'valither'
    """
    changed = bytearray(content)
    for _ in range(_few(random)):
        start, stop = sorted(random.randrange(len(changed) + 1) for _ in range(2))
        match random.randrange(9):
            case 0 | 1 if changed:
                changed[start - 1] ^= 1 << random.randrange(8)
            case 2 if changed:
                changed[start - 1] = random.randrange(256)
            case 3:
                value = random.choice(_VALUES)
                changed[start : start + len(value)] = value
            case 4:
                del changed[start:]
            case 5:
                del changed[start : min(stop, start + 64)]
            case 6:
                changed[start:start] = changed[start : min(stop, start + 256)] * random.choice((1, 1, 2, 30))
            case 7:
                changed[start:start] = random.randbytes(random.choice((1, 2, 4, 64)))
            case 8:
                position = random.randrange(len(other) + 1)
                changed[start:] = other[position:]
    return bytes(changed)


def mutated_compressed(content: bytes, other: bytes, random: Random) -> bytes:
    """Change a file with a compressed image, whose checksum then mostly holds."""
    if random.random() < 0.1:
        return mutated_bytes(content, other, random)
    changed = mutated_bytes(content[:-4], other[:-4], random)
    return changed + struct.pack("<I", zlib.crc32(changed))


def mutated_json(content: bytes, other: bytes, random: Random) -> bytes:
    """Change values and keys of a JSON document, or its bytes."""
    if random.random() < 0.2:
        return mutated_bytes(content, other, random)
    return mutated_text(json.loads(content), json.loads(other), random).encode("utf-8", "surrogatepass")


def mutated_lines(content: bytes, other: bytes, random: Random) -> bytes:
    """Change a file of JSON lines: values and keys of some, their order, or bytes."""
    if random.random() < 0.2:
        return mutated_bytes(content, other, random)
    lines, donors = content.splitlines(keepends=True), other.splitlines()
    for _ in range(_few(random)):
        position = random.randrange(len(lines))
        match random.randrange(5):
            case 0:
                lines.insert(random.randrange(len(lines) + 1), lines[position])
            case 1 if len(lines) > 1:
                del lines[position]
            case 2:
                lines[position] = lines[position].rstrip(b"\n")
            case _:
                lines[position] = mutated_json(lines[position], random.choice(donors), random) + b"\n"
                break
    return b"".join(lines)


def mutated_png(content: bytes, other: bytes, random: Random) -> bytes:
    """Change, drop, repeat or move chunks of a PNG, whose checksums then hold; or its bytes."""
    if random.random() < 0.2:
        return mutated_bytes(content, other, random)
    chunks, donors = _chunks(content), _chunks(other)
    for _ in range(_few(random)):
        position = random.randrange(len(chunks))
        kind, body = chunks[position]
        match random.randrange(6):
            case 0 if len(chunks) > 1:
                del chunks[position]
            case 1:
                chunks.insert(random.randrange(len(chunks) + 1), chunks[position])
            case 2:
                chunks.insert(position, random.choice(donors))
            case 3 if kind == b"IDAT":
                chunks[position] = kind, _mutated_pixels(body, random)
            case _:
                chunks[position] = kind, mutated_bytes(body, random.choice(donors)[1], random)
    return _PNG + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def mutated_safetensors(content: bytes, other: bytes, random: Random) -> bytes:
    """Change the header of a safetensors file: names, shapes, dtypes, offsets; or its bytes."""
    if random.random() < 0.3:
        return mutated_bytes(content, other, random)
    (head, data), (donor, _) = _parted(content), _parted(other)
    header = mutated_json(head, donor, random)
    # Mostly of its present length: otherwise no reader would reach its values.
    length = len(header) if random.random() < 0.9 else random.choice((len(head), 0, 2**62))
    return struct.pack("<Q", length) + header + data


def mutated_yaml(content: bytes, other: bytes, random: Random) -> bytes:
    """Change values and keys of a YAML document, written as JSON; or its bytes, or put YAML's signs in."""
    chance = random.random()
    if chance < 0.3:
        return mutated_bytes(content, other, random)
    if chance < 0.6:
        changed = bytearray(content)
        for _ in range(_few(random)):
            position = random.randrange(len(changed) + 1)
            changed[position:position] = random.choice(_YAML)
        return bytes(changed)
    return mutated_text(_tree(content), _tree(other), random).encode("utf-8", "surrogatepass")


@cache
def _tree(content: bytes) -> Any:
    return yaml.safe_load(content)


def _few(random: Random) -> int:
    """Return how many changes are made: mostly one or two."""
    return random.choice((1, 1, 1, 2, 2, 4))


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    chunks, position = [], len(_PNG)
    while position < len(content):
        (length,) = struct.unpack_from(">I", content, position)
        chunks.append((content[position + 4 : position + 8], content[position + 8 : position + 8 + length]))
        position += length + 12
    return chunks


def _mutated_pixels(body: bytes, random: Random) -> bytes:
    try:
        rows = zlib.decompress(body)
    except zlib.error:  # changed before
        return body
    return zlib.compress(mutated_bytes(rows, rows, random))


def _parted(content: bytes) -> tuple[bytes, bytes]:
    """Part a safetensors file into its header, as JSON, and its data."""
    (length,) = struct.unpack_from("<Q", content)
    return content[8 : 8 + length], content[8 + length :]
