"""What a study will train, as tables on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.measure import Measurement
from rich.table import Table

from flatvq.capacities import CAPACITIES
from flatvq.cli.tables import console, new_table
from flatvq.metrics import TRIAL_METRICS
from flatvq.study import Plan, PlannedArm
from flatvq.train.length import length_notices

__all__ = ["show_capacity", "show_plan"]

_Rows = tuple[tuple[str, str], ...]


def show_plan(plan: Plan) -> None:
    """Print what a study will train."""
    recipe = plan.recipe
    if recipe.title:
        console.print(recipe.title, style="bold")
    steps = "/".join(str(number) for number in sorted({arm.recipe.train.steps for arm in plan.arms}))
    looks = ", ".join(map(str, recipe.looks))
    metric = TRIAL_METRICS[recipe.metric]
    primary = f"; primary comparison: {plan.primary.a} minus {plan.primary.b}" if plan.primary else ""
    console.print(
        f"{len(plan.arms)} arms, {steps} steps a trial; looks after {looks} seeds; {metric.label}, margin "
        f"{recipe.margin:g}{f' {metric.unit}' if metric.unit else ''}{primary}"
    )
    show_capacity(plan.name, plan.arms)
    arms_of_notice: dict[str, list[str]] = {}
    for arm in plan.arms:
        for text in length_notices(arm.recipe):
            arms_of_notice.setdefault(text, []).append(arm.name)
    for text, names in arms_of_notice.items():
        console.print(f"Arm{'s' if len(names) > 1 else ''} {', '.join(names)}: {text}.", style="yellow")


def show_capacity(name: str, arms: Sequence[PlannedArm]) -> None:
    """Print the capacities of arms. Arms with equal capacities share a column.

    Columns that do not fit on the terminal are printed as further tables.

    Args:
        name: name of the recipe or study.
        arms: the arms, after matching.
    """
    columns: dict[_Rows, list[str]] = {}
    for arm in arms:
        columns.setdefault(_rows(arm), []).append(arm.name)
    left = [("\n".join(names), rows) for rows, names in columns.items()]
    while left:
        count = len(left)
        while count > 1 and _width(_table(name, left[:count])) > console.width:
            count -= 1
        console.print(_table(name, left[:count]))
        left = left[count:]
    for arm in arms:
        for key, (old, new) in arm.changes.items():
            console.print(f"  matched: {arm.name}: {key} {old} -> {new}")


def _table(name: str, columns: Sequence[tuple[str, _Rows]]) -> Table:
    table = new_table(f"Capacity of {name}", "", *(heading for heading, _ in columns))
    for row in zip(*(rows for _, rows in columns), strict=True):
        table.add_row(row[0][0], *(text for _, text in row))
    return table


def _width(table: Table) -> int:
    """Return the width at which no cell is wrapped."""
    return Measurement.get(console, console.options.update(max_width=10_000), table).maximum


def _rows(arm: PlannedArm) -> _Rows:
    """Return the rows of one arm: each capacity with its difference from the reference arm."""
    capacity = arm.capacity
    rows = {
        "grids": " + ".join(f"{level.grid[0]}x{level.grid[1]}" for level in capacity.levels),
        "codebook sizes": " + ".join(level.codebook_sizes for level in capacity.levels),
    }
    for key, kind in CAPACITIES.items():
        value = kind.format(capacity.value(kind.attribute))
        rows[kind.heading] = f"{value} ({arm.residuals[key]:+.1%})"
        if kind.detail:
            rows[f"  {kind.detail.label}"] = kind.detail.text(capacity.value(kind.detail.attribute))
    return tuple(rows.items())
