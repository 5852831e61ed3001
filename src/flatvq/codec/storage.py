"""Saves and loads the prior of a tokenizer, in the tokenizer's folder.

    FOLDER/
      prior.json          `PriorRecord`: kind, and what it was fitted to
      prior.safetensors   integers: counts, and the tables of `flatvq.codec.table`

Both files contain only data. Nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from flatvq.codec.digits import sizes_of
from flatvq.codec.entropy import Integers
from flatvq.codec.passes import PASSES
from flatvq.codec.prior import LevelPrior, Prior, StaticLevel, indices_per_cell
from flatvq.codec.table import GROUPS, MOST_CONTEXTS, SCALE, Table, TableLevel, largest_value
from flatvq.codec.weights import LARGEST_SUM, STRONGEST, shrunk, uniform
from flatvq.errors import FlatvqError
from flatvq.files import write_bytes, write_json
from flatvq.recipe import LevelRecipe, ModelRecipe
from flatvq.records.reading import Count, Format1, Number, Positive, Record, read_file, read_record

__all__ = ["Arrays", "PriorRecord", "build_prior", "has_prior", "load_prior", "save_prior", "table_arrays"]

Arrays: TypeAlias = "dict[str, np.ndarray[Any, Any]]"
"""The tensors of prior.safetensors: `LEVEL.NAME`, levels from the bottom, which is 0."""

# Increase it if an older version would misread the folder.
FORMAT = 1
_RECORD, _TENSORS = "prior.json", "prior.safetensors"
_AGAIN = "fit the prior again with flatvq prior --replace"


class PriorRecord(Record):
    """`prior.json`: what a prior is, and how well it does on images that it was not fitted to."""

    format: Format1 = FORMAT
    kind: Literal["order-0", "table"]
    tokenizer: str = Field(pattern="[0-9a-f]{64}")
    """SHA-256 of the tokenizer."""
    digest: str = Field(pattern="[0-9a-f]{64}")
    """SHA-256 of the prior."""
    images: Positive
    """Images that it was fitted to, without their mirror images."""
    held_out_images: Count
    """Images that were set aside."""
    nominal_bits_per_pixel: Number | None
    """Of the images that were set aside, without a prior."""
    coded_bits_per_pixel: Number | None
    """Of the same images, with the prior."""


def has_prior(folder: Path) -> bool:
    """Return whether the folder of a tokenizer holds a prior."""
    return (folder / _RECORD).is_file()


def save_prior(folder: Path, record: PriorRecord, arrays: Arrays) -> None:
    """Write a prior into the folder of its tokenizer.

    Args:
        folder: the folder.
        record: what the prior is.
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
    record = read_record(PriorRecord, folder / _RECORD, _AGAIN)
    if record.tokenizer != tokenizer.hex():
        raise FlatvqError(f"'{folder / _RECORD}' belongs to another tokenizer", _AGAIN)
    origin = f"'{folder / _TENSORS}'"
    try:
        arrays = safetensors.load(read_file(folder / _TENSORS))
    except (SafetensorError, KeyError, ValueError, TypeError, AttributeError):
        raise FlatvqError(f"{origin} is damaged", _AGAIN) from None
    prior = build_prior(record.kind, recipe, arrays, origin)
    if prior.digest.hex() != record.digest:
        raise FlatvqError(f"{origin} does not belong to '{folder / _RECORD}'", _AGAIN)
    return prior


def build_prior(kind: Literal["order-0", "table"], recipe: ModelRecipe, arrays: Arrays, origin: str) -> Prior:
    """Build a prior from its integers.

    Args:
        kind: the kind of the prior.
        recipe: the recipe of the model.
        arrays: the integers.
        origin: the name of their file in error messages.

    Raises:
        FlatvqError: if an array is missing, or does not fit the model.
    """
    build = _static_level if kind == "order-0" else _table_level
    levels: list[LevelPrior] = []
    for number, level in enumerate(recipe.levels):
        fields = _Fields(arrays, number, origin)
        levels.append(build(level, fields))
    return Prior(kind, tuple(levels), _digest(kind, arrays))


def table_arrays(number: int, table: Table) -> Arrays:
    """Return the arrays of the table of a level.

    Args:
        number: the level, from 0.
        table: the table.
    """
    fields: Arrays = {
        "vectors": table.vectors.astype(np.int16),
        "centroids": table.centroids.astype(np.int32),
        "groups": table.groups.astype(np.uint8),
        "counts": table.marginal.astype(np.uint32),
        "level_strength": np.array([table.level_strength], np.uint32),
        "bounds": np.append(table.offsets[..., 0].ravel(), len(table.codes)).astype(np.uint32),
        "codes": table.codes.astype(np.uint16),
        "occurrences": table.counts.astype(np.uint32),
        "strengths": table.strengths.astype(np.uint32),
        "pass_strengths": table.pass_strengths.astype(np.uint32),
    }
    return {f"{number}.{name}": np.ascontiguousarray(array) for name, array in fields.items()}


class _Fields:
    """The arrays of a level, checked when they are taken."""

    def __init__(self, arrays: Mapping[str, np.ndarray[Any, Any]], level: int, origin: str) -> None:
        self._arrays, self._level, self._origin = arrays, level, origin

    def take(
        self, name: str, dtype: str, shape: tuple[int | None, ...], low: int = 0, high: int = 2**32 - 1
    ) -> Integers:
        """Return an array as int64.

        Args:
            name: its name in the level.
            dtype: its number format.
            shape: its shape; None for any length.
            low: its smallest value.
            high: its largest value.
        """
        array = self._arrays.get(f"{self._level}.{name}")
        fits = array is not None and array.dtype == dtype and array.ndim == len(shape)
        if (
            array is None
            or not fits
            or any(n not in (None, m) for n, m in zip(shape, array.shape, strict=True))
        ):
            raise self.error(f"no {name} that fit the model")
        values = array.astype(np.int64)
        if values.size and not low <= int(values.min()) <= int(values.max()) <= high:
            raise self.error(f"{name} outside {low} to {high}")
        return values

    def error(self, what: str) -> FlatvqError:
        """Return the error for an array."""
        return FlatvqError(f"{self._origin} holds, for level {self._level}, {what}", _AGAIN)


def _static_level(level: LevelRecipe, fields: _Fields) -> StaticLevel:
    sizes = sizes_of(level.codebook_size)
    counts = fields.take("counts", "uint32", (indices_per_cell(level), sum(sizes)))
    (strength,) = fields.take("level_strength", "uint32", (1,), low=1)
    weights = [
        [shrunk(digit, uniform(len(digit)), int(strength)) for digit in np.split(row, np.cumsum(sizes[:-1]))]
        for row in counts
    ]
    return StaticLevel(level.codebook_size, weights)


def _table_level(level: LevelRecipe, fields: _Fields) -> TableLevel:
    stages, size, dim = indices_per_cell(level), level.codebook_size, level.code_dim
    largest = largest_value(stages, dim)
    vectors = fields.take("vectors", "int16", (stages, size, dim), -largest, largest)
    farthest = 2 * SCALE * stages * largest
    centroids = fields.take("centroids", "int32", (2, stages, None, dim), -farthest, farthest)
    contexts = centroids.shape[2]
    codes = fields.take("codes", "uint16", (None,), high=size - 1)
    bounds = fields.take("bounds", "uint32", ((PASSES - 1) * stages * contexts + 1,), high=len(codes))
    occurrences = fields.take("occurrences", "uint32", (len(codes),), low=1)
    known = 0 < contexts <= MOST_CONTEXTS and not (np.diff(bounds) < 0).any()
    if not known or int(occurrences.sum()) > LARGEST_SUM:
        raise fields.error("tables that do not fit together")
    return TableLevel(
        Table(
            vectors=vectors,
            centroids=centroids,
            groups=fields.take("groups", "uint8", (2, stages, contexts), high=GROUPS - 1),
            marginal=fields.take("counts", "uint32", (stages, size)),
            offsets=np.stack([bounds[:-1], bounds[1:]], axis=1).reshape(PASSES - 1, stages, contexts, 2),
            codes=codes,
            counts=occurrences,
            strengths=fields.take("strengths", "uint32", (2, stages, 2), low=1, high=STRONGEST - 1),
            pass_strengths=fields.take("pass_strengths", "uint32", (PASSES - 1, stages), low=1),
            level_strength=int(fields.take("level_strength", "uint32", (1,), low=1)[0]),
        )
    )


def _digest(kind: str, arrays: Arrays) -> bytes:
    """Return the SHA-256 of the kind and of the integers, little-endian, ordered by name."""
    content = hashlib.sha256(kind.encode())
    for name, array in sorted(arrays.items()):
        content.update(json.dumps([name, str(array.dtype), list(array.shape)]).encode())
        content.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return content.digest()
