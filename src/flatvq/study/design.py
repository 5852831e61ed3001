"""The design of a study, fixed in its folder before the first trial."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

from flatvq.errors import FlatvqError
from flatvq.files import write_json
from flatvq.records import CurvePair, Design, EarlierDesign, load_study, read_record
from flatvq.study.arms import PlannedArm
from flatvq.study.looks import nominal_level
from flatvq.study.plan import Plan

__all__ = ["design_of", "earlier_designs", "fix_design", "stored_design", "superseded_folder"]

_FILE = "design.json"
_SUPERSEDED = "superseded"
_LABELS = {
    "metric": "metric",
    "margin": "margin",
    "interval": "interval",
    "looks": "looks",
    "seeds": "seeds",
    "primary": "primary comparison",
    "comparisons": "comparisons",
    "curves": "rate curves",
    "arms": "arms",
}


def design_of(plan: Plan) -> Design:
    """Return the design of a study.

    Args:
        plan: the study.

    Example:
        >>> from flatvq.recipe import load_recipe
        >>> from flatvq.study import plan_study
        >>> recipe = load_recipe("photographs", ["seeds=[0, 1, 2]"])
        >>> design = design_of(plan_study(recipe, "photographs"))
        >>> design.looks, design.margin, design.interval
        ((3,), 0.1, 'welch')
    """
    recipe, primary = plan.recipe, plan.primary
    return Design(
        metric=recipe.metric,
        margin=recipe.margin,
        interval=recipe.interval,
        looks=recipe.looks,
        seeds=recipe.seeds,
        # One seed has no interval, so its look cannot err.
        level=nominal_level(tuple(look for look in recipe.looks if look > 1) or (2,)),
        primary=(primary.a, primary.b) if primary else (),
        comparisons=tuple(comparison.arms for comparison in plan.comparisons),
        curves=tuple(CurvePair(a=pair.a, b=pair.b, bits=pair.bits) for pair in recipe.curves),
        arms={arm.name: _hash(arm, recipe.arms[arm.name].max_seeds) for arm in plan.arms},
    )


def fix_design(plan: Plan, folder: Path) -> str:
    """Write the design into the folder of a study before its first trial.

    If the folder holds another design, its record moves to FOLDER/superseded/N. Trials that both designs
    share are kept, and `study.json` lists the earlier design with its looks.

    Args:
        plan: the study.
        folder: the folder of the study; created if it does not exist.

    Returns:
        What changed, in a sentence for the user; empty if nothing changed.

    Raises:
        FlatvqError: if the stored design cannot be read.
    """
    design, path = design_of(plan), folder / _FILE
    changes = ""
    if path.exists():
        stored = read_record(Design, path, "move it away, or choose another folder")
        if _same(stored, design):
            return ""
        target = superseded_folder(folder)
        for name in ("study.json", "report.html", _FILE):
            if (folder / name).exists():
                target.mkdir(parents=True, exist_ok=True)
                (folder / name).rename(target / name)
        changes = (
            f"The {' and the '.join(_differences(stored, design))} changed, so this is another study. "
            f"The record of the earlier one is in {target}, and study.json names it."
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, design.model_dump(mode="json"))
    return changes


def stored_design(plan: Plan, folder: Path) -> Design:
    """Return the design that `fix_design` wrote; if there is none, the design of the plan.

    Args:
        plan: the study.
        folder: the folder of the study.

    Raises:
        FlatvqError: if the folder has the design of another study, which started in the meantime.
    """
    design, path = design_of(plan), folder / _FILE
    if not path.exists():
        return design
    stored = read_record(Design, path, "run the study again")
    if changes := _differences(stored, design):
        what = f"another study has started in '{folder}', with a change of {' and '.join(changes)}"
        raise FlatvqError(what, "run one of the studies again, in a folder of its own")
    return stored


def earlier_designs(design: Design, folder: Path) -> tuple[EarlierDesign, ...]:
    """Return the other designs that the folder of a study held before, oldest first.

    Args:
        design: the present design.
        folder: the folder of the study.
    """
    return tuple(earlier for earlier in _superseded(folder) if not _same(earlier.design, design))


def superseded_folder(folder: Path) -> Path:
    """Return the first FOLDER/superseded/N that does not exist."""
    return next(path for path in _numbered(folder) if not path.exists())


def _superseded(folder: Path) -> Iterator[EarlierDesign]:
    for path in _numbered(folder):
        if not path.exists():
            return
        with suppress(FlatvqError):  # a study of an older version has no design
            study = load_study(path)
            if study.design:
                yield EarlierDesign(design=study.design, looks=study.looks)
            continue
        with suppress(FlatvqError):
            yield EarlierDesign(design=read_record(Design, path / _FILE, "remove it"))


def _numbered(folder: Path) -> Iterator[Path]:
    return (folder / _SUPERSEDED / str(number) for number in count(1))


def _same(a: Design, b: Design) -> bool:
    return not _differences(a, b)


def _differences(a: Design, b: Design) -> list[str]:
    return [label for key, label in _LABELS.items() if getattr(a, key) != getattr(b, key)]


def _hash(arm: PlannedArm, max_seeds: int) -> str:
    tree = arm.recipe.identifying(exclude={"seed"})
    if max_seeds:
        tree["max_seeds"] = max_seeds
    text = json.dumps(tree, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
