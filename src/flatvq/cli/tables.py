"""Tables on the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from flatvq.model.capacity import Capacity
from flatvq.recipe import StudyRecipe
from flatvq.recipe.reading import section_of
from flatvq.study import Outcome, Plan, PlannedArm
from flatvq.study.statistics import mean_interval

__all__ = [
    "console",
    "duration",
    "new_table",
    "show_capacity",
    "show_estimate",
    "show_failures",
    "show_fields",
    "show_metrics",
    "show_plan",
    "show_recipes",
    "show_study",
]

# Names, titles and errors are the user's: nothing in them is markup.
console = Console(markup=False, emoji=False)

# Files named below a run's figures; its records name them all.
_FILES_NAMED = 20


def show_plan(plan: Plan) -> None:
    """Print what a study will do."""
    recipe = plan.recipe
    if recipe.title:
        console.print(recipe.title, style="bold")
    seeds = ", ".join(str(seed) for seed in recipe.seeds)
    steps = {arm.recipe.train.steps for arm in plan.arms}
    each = "/".join(str(number) for number in sorted(steps))
    console.print(
        f"{len(plan.arms)} arms x {len(recipe.seeds)} seeds ({seeds}) = {len(plan.trials)} trials of {each} "
        f"steps; margin {recipe.margin_db:g} dB, fixed now"
    )
    show_capacity(plan.name, plan.arms)


def show_capacity(name: str, arms: Sequence[PlannedArm]) -> None:
    """Print the capacities of arms side by side; arms of the same capacity share a column."""
    alike: dict[tuple[Any, ...], list[str]] = {}
    for arm in arms:
        alike.setdefault((arm.capacity, tuple(arm.residuals.items())), []).append(arm.name)
    table = new_table(f"Capacity of {name}", "", *("\n".join(names) for names in alike.values()))
    columns = [_capacity_column(capacity, dict(left)) for capacity, left in alike]
    for label in columns[0]:
        table.add_row(label, *(column[label] for column in columns))
    console.print(table)
    for arm in arms:
        for key, (old, new) in arm.changes.items():
            console.print(f"  matched: {arm.name}: {key} {old} -> {new}")


def _capacity_column(found: Capacity, left: dict[str, float]) -> dict[str, str]:
    """Write one arm's capacity, with the relative difference from the reference behind what is matched."""
    return {
        "grids": " + ".join(f"{level.grid[0]}x{level.grid[1]}" for level in found.levels),
        "codes": " + ".join(level.codes for level in found.levels),
        "bits per image": f"{found.bits_per_image:,.0f} ({left['bits']:+.1%})",
        "bits per pixel": f"{found.bits_per_pixel:.3f}",
        "parameters": f"{found.parameters:,} ({left['parameters']:+.1%})",
        "in codebooks": f"{found.codebook_parameters:,}",
        "multiply-adds": f"{_counted(found.multiply_adds)} ({left['multiply_adds']:+.1%})",
        "of the search": _counted(found.search_multiply_adds),
    }


def show_estimate(seconds: float) -> None:
    """Print how long a study will take."""
    console.print(
        f"Estimated time on this machine: {duration(seconds)} (measured on a few steps of each arm)"
    )


def show_failures(outcomes: Iterable[Outcome]) -> None:
    """Print why trials failed, a line each."""
    for outcome in outcomes:
        if outcome.status == "failed":
            trial = outcome.trial.recipe
            text = f"failed: {trial.arm} seed {trial.seed}: {outcome.error}"
            console.print(text, style="red", soft_wrap=True)


def show_study(study: dict[str, Any]) -> None:
    """Print what a study found."""
    headings = ("arm", "PSNR, dB", "90 % interval", "SSIM", "usage", "perplexity")
    table = new_table("Fidelity on held-out crops", *headings)
    for arm in study["arms"]:
        done = [t for t in study["trials"] if t["arm"] == arm["name"] and t["status"] == "done"]
        if not done:
            table.add_row(arm["name"], "failed", "", "", "", "")
            continue
        levels = range(arm["levels"])
        usage = " / ".join(f"{_mean(t['levels'][n]['usage'] for t in done):.0%}" for n in levels)
        perplexity = " / ".join(f"{_mean(t['levels'][n]['perplexity'] for t in done):.0f}" for n in levels)
        psnr = mean_interval([t["psnr_db"] for t in done])
        spread = f"{psnr.interval[0]:.2f} to {psnr.interval[1]:.2f}" if psnr.interval else "one seed"
        ssim = _mean(t["ssim"] for t in done)
        table.add_row(arm["name"], f"{psnr.mean:.2f}", spread, f"{ssim:.3f}", usage, perplexity)
    console.print(table)
    show_comparisons(study["comparisons"])
    console.print(study["verdict"]["sentence"], style="bold")


def show_comparisons(comparisons: Sequence[dict[str, Any]]) -> None:
    """Print differences with their verdicts."""
    table = new_table("Differences of PSNR", "a\nminus b", "difference", "90 % interval", "verdict for a")
    for found in comparisons:
        interval = found["interval90"]
        spread = f"{interval[0]:+.2f} to {interval[1]:+.2f} dB" if interval else "one seed"
        pair = f"{found['a']}\nminus {found['b']}"
        table.add_row(pair, f"{found['difference']:+.2f} dB", spread, found["verdict"])
    if comparisons:
        console.print(table)


def show_metrics(metrics: dict[str, Any], folder: Path) -> None:
    """Print the figures of one run."""
    table = new_table(str(folder), "measure", "value")
    for key, value in metrics.items():
        if value is None:
            table.add_row(key, "whole images" if key == "crop" else "undefined")
        elif isinstance(value, int | float | str) and key != "run":
            table.add_row(key, f"{value:.6g}" if isinstance(value, float) else str(value))
    for number, level in enumerate(metrics["levels"]):
        found = (
            f"{level['usage']:.1%} of {level['codebook_size']} codes, perplexity {level['perplexity']:.1f}"
        )
        table.add_row(f"level {number}", found)
    console.print(table)
    files = metrics.get("files", [])
    for file in files[:_FILES_NAMED]:
        console.print(f"  {file['file']}: {file['name']}: {file['reason']}")
    if len(files) > _FILES_NAMED:
        console.print(f"  and {len(files) - _FILES_NAMED} more files")


def show_recipes(texts: dict[str, str]) -> None:
    """Print each recipe's head."""
    for name, text in texts.items():
        console.print(name, style="bold")
        head = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#")]
        console.print("\n".join(f"  {line}" for line in head))


def show_fields() -> None:
    """Explain every key of a recipe."""
    _show_section(StudyRecipe, "")


def _show_section(kind: type[BaseModel], prefix: str) -> None:
    for name, field in kind.model_fields.items():
        key = prefix + name
        console.print(key, style="bold")
        console.print(f"  {' '.join((field.description or '').split())}")
        section = section_of(field.annotation)
        if section is not None and name != "arms":
            _show_section(section, f"{key}.")


def duration(seconds: float) -> str:
    """Write a duration as people say it.

    Example:
        >>> duration(42), duration(200), duration(7300)
        ('42 s', '3 min 20 s', '2 h 1 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def new_table(title: str, first: str, *others: str) -> Table:
    """Make a table that fits 80 columns: lines below its head alone, names whole, figures to the right."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right")
    return table


def _counted(number: int) -> str:
    return f"{number / 1e9:.3f} G" if number >= 1e9 else f"{number / 1e6:.1f} M"


def _mean(values: Any) -> float:
    found = list(values)
    return float(sum(found) / len(found))
