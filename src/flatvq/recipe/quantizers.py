"""The quantizers that a level can have: what each implies for the recipe, and how it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from flatvq.registry import Registry

if TYPE_CHECKING:
    from flatvq.quantize import Quantizer
    from flatvq.recipe.sections import LevelRecipe

__all__ = ["QUANTIZERS", "QuantizerKind"]


def _no_keys(level: LevelRecipe) -> dict[str, int]:
    return {}


def _one_index(level: LevelRecipe) -> tuple[int, ...]:
    return ()


def _no_codebook(level: LevelRecipe) -> int:
    return 0


@dataclass(frozen=True)
class QuantizerKind:
    """A kind of quantizer, which a level selects with its key `quantizer`.

    Args:
        build: builds it from the level and from keyword arguments of `VectorQuantizer`, which follow from the
            section `codebook` and the seed of the trial: `update`, `estimator`, `init`, `replacement`,
            `metric`, `seed`.
        implied_keys: returns the keys of the level that follow from its other keys, such as `codebook_size`.
            It may raise `ValueError` if keys do not fit together.
        index_shape: returns the axes of the indices of one cell: () for one index, (Q,) for Q indices.
        codebook_parameters: returns the number of values in all code vectors; 0 without learned code vectors.
            It is also the number of multiply-adds of the search for one cell.
        options: names that the key `options` of the level may have.

    Example:
        >>> from flatvq.recipe import LevelRecipe
        >>> QUANTIZERS["lookup-free"].implied_keys(LevelRecipe(code_dim=10))
        {'codebook_size': 1024}
    """

    build: Callable[[LevelRecipe, dict[str, Any]], Quantizer]
    implied_keys: Callable[[LevelRecipe], dict[str, int]] = _no_keys
    index_shape: Callable[[LevelRecipe], tuple[int, ...]] = _one_index
    codebook_parameters: Callable[[LevelRecipe], int] = _no_codebook
    options: tuple[str, ...] = ()


def _vector(level: LevelRecipe, codebook: dict[str, Any]) -> Quantizer:
    from flatvq.quantize import VectorQuantizer

    return VectorQuantizer(level.codebook_size, level.code_dim, **codebook)


def _residual(level: LevelRecipe, codebook: dict[str, Any]) -> Quantizer:
    from flatvq.quantize import ResidualQuantizer

    settings = {name: value for name, value in codebook.items() if name != "metric"}
    return ResidualQuantizer(level.codebook_size, level.code_dim, level.stages, **settings)


def _scalar(level: LevelRecipe, codebook: dict[str, Any]) -> Quantizer:
    from flatvq.quantize import FiniteScalarQuantizer

    return FiniteScalarQuantizer(level.scalar_levels)


def _scalar_keys(level: LevelRecipe) -> dict[str, int]:
    return {"codebook_size": prod(level.scalar_levels), "code_dim": len(level.scalar_levels)}


def _lookup_free(level: LevelRecipe, codebook: dict[str, Any]) -> Quantizer:
    from flatvq.quantize import LookupFreeQuantizer

    return LookupFreeQuantizer(level.code_dim)


def _lookup_free_keys(level: LevelRecipe) -> dict[str, int]:
    if level.code_dim > 62:
        raise ValueError(f"code_dim is {level.code_dim}, and quantizer=lookup-free takes at most 62,")
    return {"codebook_size": 2**level.code_dim}


QUANTIZERS: Registry[QuantizerKind] = Registry(
    "quantizer",
    "flatvq.quantizers",
    {
        "vector": QuantizerKind(
            _vector, codebook_parameters=lambda level: level.codebook_size * level.code_dim
        ),
        "scalar": QuantizerKind(_scalar, implied_keys=_scalar_keys),
        "lookup-free": QuantizerKind(_lookup_free, implied_keys=_lookup_free_keys),
        "residual": QuantizerKind(
            _residual,
            index_shape=lambda level: (level.stages,),
            codebook_parameters=lambda level: level.stages * level.codebook_size * level.code_dim,
        ),
    },
)
"""The quantizers by name."""
