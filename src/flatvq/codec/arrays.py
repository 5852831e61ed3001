"""Reads the integers of a prior, and checks them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from flatvq.codec.entropy import Integers
from flatvq.errors import FlatvqError

__all__ = ["AGAIN", "Arrays", "LevelArrays"]

Arrays: TypeAlias = "dict[str, np.ndarray[Any, Any]]"
"""The tensors of prior.safetensors: `LEVEL.NAME`, levels from the bottom, which is 0."""

AGAIN = "fit the prior again with flatvq prior --replace"
"""The remedy if a prior cannot be read."""


class LevelArrays:
    """The arrays of a level. `take` checks an array before it returns it."""

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
        return FlatvqError(f"{self._origin} holds, for level {self._level}, {what}", AGAIN)
