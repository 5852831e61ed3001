"""The capacities that arms can be matched in: one entry for each, which recipes, matching and tables read.

A recipe names capacities by key in `match.capacities`. `flatvq.model.capacity` counts the capacities of
flatvq. The `compute` of a `CapacityKind` counts a capacity of another package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from flatvq.number_format import NumberFormat
from flatvq.registry import Registry

__all__ = ["CAPACITIES", "CapacityKind", "Detail"]


@dataclass(frozen=True)
class Detail:
    """A second figure that tables show below a capacity.

    Args:
        attribute: its attribute of `Capacity`, and its key in an arm of `study.json`.
        label: its name in a table.
        format: how its values are written.
        unit: its unit; empty for none.
    """

    attribute: str
    label: str
    format: NumberFormat
    unit: str = ""

    def text(self, value: float | None) -> str:
        """Format a value with its unit."""
        return f"{self.format(value)}{' ' if self.unit else ''}{self.unit}"


@dataclass(frozen=True)
class CapacityKind:
    """A capacity of a model.

    Args:
        key: its name in a recipe's `match.capacities` and in the residuals of `study.json`.
        attribute: its attribute of `Capacity`, if flatvq counts it, and its key in an arm of `study.json`.
        label: its name in sentences and next to residuals.
        heading: its name in a table's head, with the unit.
        format: how its values are written.
        solved_by: what the matching solver changes to match it: the codebook sizes, or the widths. With None,
            the solver cannot match it. The solver expects a capacity that depends on the widths to be linear
            in `residual_width` and quadratic in `width`.
        detail: a second figure that tables show below it.
        compute: the function that computes it from the `ModelRecipe` and the `Capacity` that flatvq counts;
            None for an attribute of `Capacity`.
        partial: whether it is a part of another capacity. The report states its difference next to a
            comparison only if the study matches it.

    Example:
        >>> CAPACITIES["multiply_adds"].label, CAPACITIES["multiply_adds"].format(4_546_600_000)
        ('multiply-adds', '4.55 G')
    """

    key: str
    attribute: str
    label: str
    heading: str
    format: NumberFormat
    solved_by: Literal["codebooks", "widths"] | None = None
    detail: Detail | None = None
    compute: Callable[[Any, Any], float] | None = None
    partial: bool = False


_KINDS: dict[str, CapacityKind | str] = {
    kind.key: kind
    for kind in (
        CapacityKind(
            key="bits",
            attribute="bits_per_image",
            label="bits",
            heading="bits per image",
            format=NumberFormat(digits=1),
            solved_by="codebooks",
            detail=Detail("bits_per_pixel", "per pixel", NumberFormat(digits=3), unit="bpp"),
        ),
        CapacityKind(
            key="parameters",
            attribute="parameters",
            label="parameters",
            heading="parameters",
            format=NumberFormat(),
            solved_by="widths",
            detail=Detail("codebook_parameters", "of which in codebooks", NumberFormat()),
        ),
        CapacityKind(
            key="multiply_adds",
            attribute="multiply_adds",
            label="multiply-adds",
            heading="multiply-adds",
            format=NumberFormat("prefix"),
            solved_by="widths",
            detail=Detail("search_multiply_adds", "of which in searches", NumberFormat("prefix")),
        ),
        CapacityKind(
            key="network_parameters",
            attribute="network_parameters",
            label="parameters without codebooks",
            heading="parameters without codebooks",
            format=NumberFormat(),
            solved_by="widths",
            partial=True,
        ),
        CapacityKind(
            key="network_multiply_adds",
            attribute="network_multiply_adds",
            label="multiply-adds without searches",
            heading="multiply-adds without searches",
            format=NumberFormat("prefix"),
            solved_by="widths",
            partial=True,
        ),
    )
}
CAPACITIES: Registry[CapacityKind] = Registry("capacity", "flatvq.capacities", _KINDS)
"""Capacities by key, in the order of rows and columns."""
