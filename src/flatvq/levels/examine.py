"""All four questions about the levels of one finished run, and the record of the answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from flatvq.data import DataSplit, evaluation_crops, open_data
from flatvq.errors import FlatvqError
from flatvq.evaluate.provenance import tokenizer_hash
from flatvq.files import write_json
from flatvq.levels.codes import stacked
from flatvq.levels.conditional_entropy import conditional_entropy
from flatvq.levels.marginal_gain import MarginalGain, marginal_gain, single_level_counterpart
from flatvq.levels.refit import refit
from flatvq.levels.replaced import replaced
from flatvq.model import load_tokenizer
from flatvq.recipe import ModelRecipe, TrialRecipe, load_trial
from flatvq.records import read_metrics
from flatvq.train.identity import Identity, mismatch_of
from flatvq.train.launch import ALONE
from flatvq.train.machine import Machine, keep_freed_memory, machine_for

__all__ = ["examine"]

# Held-out crops that are looked at, at most: their codes are in memory all at once.
_CROPS = 2048


def examine(
    run: Path, *, steps: int | None = None, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Ask what each level of a run contributes, and write `levels.json` into its folder.

    Args:
        run: the folder of a finished run of a hierarchy.
        steps: of each decoder and network that is trained; the run's own number if not given.
        progress: called with the steps done and the steps in all.

    Returns:
        What `levels.json` holds (docs/records.md).

    Raises:
        FlatvqError: if it is no finished run, has but one level, its photographs cannot be read, or they,
            flatvq or the tokenizer are not those of the training: some of what is held out now might have
            been trained on then.
    """
    recipe = _recipe(run)
    if len(recipe.model.levels) < 2:
        raise FlatvqError(f"'{run}' has one level", "name the run of a hierarchy")
    if any(level.index_shape for level in recipe.model.levels):
        what = f"'{run}' has a residual quantizer, with several indices in each cell"
        raise FlatvqError(what, "name the run of a hierarchy of single codebooks")
    steps = steps or recipe.train.steps
    single = single_level_counterpart(run)
    total, done = steps * (2 + (single is not None)), 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    keep_freed_memory()
    data = open_data(recipe.data)
    identity = Identity.of(recipe, data)
    for each in (run, *([single] if single else [])):
        _refuse_others(each, identity)
    pixels = stacked(evaluation_crops(data.validation, recipe.data.crop, _CROPS))
    with machine_for(recipe.train, ALONE) as machine:
        model = load_tokenizer(run / "model", machine.device)
        losses = replaced(model, pixels, recipe.seed)
        decoders = refit(model, recipe, data, pixels, machine, steps, step)
        told = conditional_entropy(model, recipe, data, pixels, steps, step)
        flat = None if single is None else _refitted_beside(single, data, pixels, machine, steps, step)
    upper, flat_gain = marginal_gain(recipe.model, recipe.data.crop, decoders, flat)
    answers: dict[str, Any] = {
        "format": 2,
        "steps": steps,
        "crops": len(pixels),
        "identity": identity.to_dict(),
        "tokenizer": tokenizer_hash(run / "model"),
        "replaced": [asdict(one) for one in losses],
        "refitted": [asdict(one) for one in decoders],
        "conditional_entropy": [{**asdict(one), "share": one.share} for one in told],
        "marginal_gain": [{"level": level, **_gain(one)} for level, one in upper.items()],
        "single_level_counterpart": None,
    }
    if single is not None and flat is not None and flat_gain is not None:
        where = {"run": single.name, "arm": single.parent.name, "tokenizer": tokenizer_hash(single / "model")}
        answers["single_level_counterpart"] = {**where, "psnr_db": flat[1], **_gain(flat_gain)}
    write_json(run / "levels.json", answers)
    return answers


def _refitted_beside(
    single: Path, data: DataSplit, pixels: Tensor, machine: Machine, steps: int, step: Callable[[], None]
) -> tuple[ModelRecipe, float]:
    """Train the single-level run's decoder anew, as the hierarchy's were: its model, and the PSNR in dB."""
    recipe = _recipe(single)
    model = load_tokenizer(single / "model", machine.device)
    (found,) = refit(model, recipe, data, pixels, machine, steps, step)
    return recipe.model, found.psnr_db


def _refuse_others(run: Path, identity: Identity) -> None:
    """Refuse a run that was not trained on these images, or whose tokenizer is not the one it ended with."""
    if mismatch := mismatch_of(run, identity):
        raise mismatch.error(f"'{run}' was", "train it again")
    again = f"write them again with `flatvq train {run}`"
    found = read_metrics(run).measured_on
    measured = "unknown" if found is None else str(found.tokenizer)
    try:
        present = tokenizer_hash(run / "model")
    except OSError as error:
        what = f"cannot read the tokenizer of '{run}' ({type(error).__name__})"
        raise FlatvqError(what, again) from None
    if measured != present:
        what = f"'{run / 'model'}' has weights {present[:8]}, and metrics.json is of weights {measured[:8]}"
        raise FlatvqError(what, again)


def _gain(found: MarginalGain) -> dict[str, float]:
    return {**asdict(found), "db_per_kilobit": found.db_per_kilobit}


def _recipe(run: Path) -> TrialRecipe:
    recipe = load_trial(run)
    if not (run / "model").is_dir():
        raise FlatvqError(f"'{run}' is not finished", f"`flatvq train {run}` goes on with it")
    return recipe
