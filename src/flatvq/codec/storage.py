"""Saves and loads the prior of a tokenizer, in the tokenizer's folder.

    FOLDER/
      prior.json          `PriorRecord`: kind, and what it was fitted to
      prior.safetensors   integers: counts, tables, or the layers of a network

Both files contain only data. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from flatvq.codec.arrays import AGAIN, Arrays, LevelArrays
from flatvq.codec.digits import sizes_of
from flatvq.codec.network_storage import network_level
from flatvq.codec.prior import FittedKind, LevelPrior, Prior, StaticLevel, indices_per_cell
from flatvq.codec.table_storage import table_level
from flatvq.codec.weights import shrunk, uniform
from flatvq.errors import FlatvqError
from flatvq.files import write_bytes, write_json
from flatvq.recipe import LevelRecipe, ModelRecipe
from flatvq.records.reading import Count, Format1, Number, Positive, Record, read_file, read_record

__all__ = ["PriorRecord", "build_prior", "has_prior", "load_prior", "save_prior"]

# Increase it if an older version would misread the folder.
FORMAT = 1
_RECORD, _TENSORS = "prior.json", "prior.safetensors"


class PriorRecord(Record):
    """`prior.json`: the kind of a prior, and its bits on images that it was not fitted to."""

    format: Format1 = FORMAT
    kind: FittedKind
    tokenizer: str = Field(pattern="[0-9a-f]{64}")
    """SHA-256 of the tokenizer."""
    digest: str = Field(pattern="[0-9a-f]{64}")
    """SHA-256 of the prior."""
    images: Positive
    """Number of images that it was fitted to, without their mirror images."""
    held_out_images: Count
    """Number of images that were held out."""
    nominal_bits_per_pixel: Number | None
    """Bits per pixel of the held-out images, without a prior."""
    coded_bits_per_pixel: Number | None
    """Bits per pixel of the held-out images, with the prior."""


def has_prior(folder: Path) -> bool:
    """Return whether the folder of a tokenizer holds a prior."""
    return (folder / _RECORD).is_file()


def save_prior(folder: Path, record: PriorRecord, arrays: Arrays) -> None:
    """Write a prior into the folder of its tokenizer.

    Args:
        folder: the folder.
        record: the description of the prior.
        arrays: its integers.
    """
    (folder / _RECORD).unlink(missing_ok=True)  # a kill must not leave the old record with new tensors
    write_bytes(folder / _TENSORS, safetensors.save(arrays, metadata={"format": "np"}))
    write_json(folder / _RECORD, record.model_dump())


def load_prior(folder: Path, recipe: ModelRecipe, tokenizer: bytes) -> Prior:
    """Read the prior of a tokenizer.

    Args:
        folder: the folder of the tokenizer.
        recipe: the recipe of the model.
        tokenizer: SHA-256 of the tokenizer.

    Raises:
        FlatvqError: if a file is missing or damaged, or the prior belongs to another tokenizer.
    """
    record = read_record(PriorRecord, folder / _RECORD, AGAIN)
    if record.tokenizer != tokenizer.hex():
        raise FlatvqError(f"'{folder / _RECORD}' belongs to another tokenizer", AGAIN)
    origin = f"'{folder / _TENSORS}'"
    try:
        arrays = safetensors.load(read_file(folder / _TENSORS))
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError):
        raise FlatvqError(f"{origin} is damaged", AGAIN) from None
    prior = build_prior(record.kind, recipe, arrays, origin)
    if prior.digest.hex() != record.digest:
        raise FlatvqError(f"{origin} does not belong to '{folder / _RECORD}'", AGAIN)
    return prior


def build_prior(kind: FittedKind, recipe: ModelRecipe, arrays: Arrays, origin: str) -> Prior:
    """Build a prior from its integers.

    Args:
        kind: the kind of the prior.
        recipe: the recipe of the model.
        arrays: the integers.
        origin: the name of their file in error messages.

    Raises:
        FlatvqError: if an array is missing, or does not fit the model.
    """
    levels = tuple(
        _level(kind, recipe, number, LevelArrays(arrays, number, origin))
        for number in range(len(recipe.levels))
    )
    return Prior(kind, levels, _digest(kind, arrays))


def _level(kind: FittedKind, recipe: ModelRecipe, number: int, fields: LevelArrays) -> LevelPrior:
    level = recipe.levels[number]
    if kind == "order-0":
        return _static_level(level, fields)
    if kind == "table":
        return table_level(level, fields)
    coarser = recipe.levels[number + 1] if number + 1 < len(recipe.levels) else None
    return network_level(level, coarser, fields)


def _static_level(level: LevelRecipe, fields: LevelArrays) -> StaticLevel:
    sizes = sizes_of(level.codebook_size)
    counts = fields.take("counts", "uint32", (indices_per_cell(level), sum(sizes)))
    (strength,) = fields.take("level_strength", "uint32", (1,), low=1)
    weights = [
        [shrunk(digit, uniform(len(digit)), int(strength)) for digit in np.split(row, np.cumsum(sizes[:-1]))]
        for row in counts
    ]
    return StaticLevel(level.codebook_size, weights)


def _digest(kind: str, arrays: Arrays) -> bytes:
    """Return the SHA-256 of the kind and of the integers, little-endian, ordered by name."""
    content = hashlib.sha256(kind.encode())
    for name, array in sorted(arrays.items()):
        content.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode())
        content.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return content.digest()
