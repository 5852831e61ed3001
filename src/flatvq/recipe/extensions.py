"""The names that `data.source`, `model.hierarchy` and `quantizer` of a level may have.

Each is a registry, to which packages can add (docs/how-to/extend.md).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from flatvq.registry import Registry

if TYPE_CHECKING:
    from flatvq.recipe.data import DataRecipe
    from flatvq.recipe.sections import ModelRecipe

__all__ = ["HIERARCHIES", "SOURCES"]

# References by name, because this package may not import the packages of these functions. The functions
# return a `DataSplit` and a `Layout`.
SOURCES: Registry[Callable[[DataRecipe], Any]] = Registry(
    "data source",
    "flatvq.sources",
    {
        "photographs": "flatvq.data.photographs:split_photographs",
        "folder": "flatvq.data.folder:split_folder",
        "huggingface": "flatvq.data.huggingface:split_dataset",
        "shards": "flatvq.data.shards:split_shards",
    },
)
"""Sources of images: functions from the `data` section of a recipe to a `flatvq.data.DataSplit`."""

HIERARCHIES: Registry[Callable[[ModelRecipe], Any]] = Registry(
    "hierarchy",
    "flatvq.hierarchies",
    {
        "parallel": "flatvq.model.layout:parallel",
        "conditioned": "flatvq.model.layout:conditioned",
        "residual": "flatvq.model.layout:residual",
    },
)
"""Hierarchies: functions from the `model` section of a recipe to a `flatvq.model.layout.Layout`."""
