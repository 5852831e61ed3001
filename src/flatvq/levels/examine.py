"""Run all analyses of the levels of a finished run, and write their record."""

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
from flatvq.levels.codes import stack_crops
from flatvq.levels.conditional_entropy import conditional_entropy
from flatvq.levels.marginal_gain import MarginalGain, marginal_gain, single_level_counterpart
from flatvq.levels.refit import refit
from flatvq.levels.replacement import replacement_losses
from flatvq.model import load_tokenizer, tokenizer_folder
from flatvq.recipe import ModelRecipe, TrialRecipe, load_trial
from flatvq.records import read_metrics
from flatvq.train.identity import Identity, mismatch_of
from flatvq.train.launch import ALONE
from flatvq.train.machine import Machine, keep_freed_memory, machine_for

__all__ = ["examine"]

# Maximum number of held-out crops: the codes of all of them are in memory at once.
_MAX_CROPS = 2048


def examine(
    run: Path, *, steps: int | None = None, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, Any]:
    """Analyse what each level of a run contributes, and write `levels.json` into its folder.

    Args:
        run: the folder of a finished run of a hierarchy.
        steps: training steps of each decoder and network; None for the number of the run.
        progress: called with the number of steps done and the total.

    Returns:
        The content of `levels.json` (docs/records.md).

    Raises:
        FlatvqError: if the run is not finished or has only one level, its images cannot be read, or the
            images, flatvq or the tokenizer have changed since the training. The model might then have been
            trained on images that are held out now.
    """
    recipe = _hierarchy_recipe(run)
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
    for folder in (run, *([single] if single else [])):
        _require_identity(folder, identity)
    pixels = stack_crops(evaluation_crops(data.validation, recipe.data.crop, _MAX_CROPS))
    with machine_for(recipe.train, ALONE) as machine:
        model = load_tokenizer(run / "model", machine.device)
        losses = replacement_losses(model, pixels, recipe.seed)
        decoders = refit(model, recipe, data, pixels, machine, steps, step)
        entropies = conditional_entropy(model, recipe, data, pixels, steps, step)
        flat = None if single is None else _refit_single_level(single, data, pixels, machine, steps, step)
    upper, flat_gain = marginal_gain(recipe.model, recipe.data.crop, decoders, flat)
    record: dict[str, Any] = {
        "format": 2,
        "steps": steps,
        "crops": len(pixels),
        "identity": identity.to_dict(),
        "tokenizer": tokenizer_hash(run / "model"),
        "replaced": [asdict(loss) for loss in losses],
        "refitted": [asdict(decoder) for decoder in decoders],
        "conditional_entropy": [{**asdict(entropy), "share": entropy.share} for entropy in entropies],
        "marginal_gain": [{"level": level, **_gain(gain)} for level, gain in upper.items()],
        "single_level_counterpart": None,
    }
    if single is not None and flat is not None and flat_gain is not None:
        record["single_level_counterpart"] = _counterpart(single, flat[1], flat_gain)
    write_json(run / "levels.json", record)
    return record


def _hierarchy_recipe(run: Path) -> TrialRecipe:
    """Return the recipe of a finished run, if its levels can be analysed."""
    recipe = _recipe(run)
    if len(recipe.model.levels) < 2:
        raise FlatvqError(f"'{run}' has one level", "name the run of a hierarchy")
    if any(level.index_shape for level in recipe.model.levels):
        what = f"'{run}' has a residual quantizer, with several indices in each cell"
        raise FlatvqError(what, "name the run of a hierarchy of single codebooks")
    return recipe


def _counterpart(single: Path, psnr_db: float, gain: MarginalGain) -> dict[str, Any]:
    """Return the record of the single-level counterpart.

    Args:
        single: its run.
        psnr_db: the PSNR of its refitted decoder.
        gain: what it gains with the bits of the upper levels.
    """
    names = {"run": single.name, "arm": single.parent.name}
    return {**names, "tokenizer": tokenizer_hash(single / "model"), "psnr_db": psnr_db, **_gain(gain)}


def _refit_single_level(
    single: Path, data: DataSplit, pixels: Tensor, machine: Machine, steps: int, step: Callable[[], None]
) -> tuple[ModelRecipe, float]:
    """Refit the decoder of the single-level run; return its model recipe and the PSNR in dB."""
    recipe = _recipe(single)
    model = load_tokenizer(single / "model", machine.device)
    (decoder,) = refit(model, recipe, data, pixels, machine, steps, step)
    return recipe.model, decoder.psnr_db


def _require_identity(run: Path, identity: Identity) -> None:
    """Raise if a run was not trained on these images, or its tokenizer is not the one in its record."""
    if mismatch := mismatch_of(run, identity):
        raise mismatch.error(f"'{run}' was", "train it again")
    remedy = f"write them again with `flatvq train {run}`"
    measured_on = read_metrics(run).measured_on
    measured = "unknown" if measured_on is None else str(measured_on.tokenizer)
    try:
        present = tokenizer_hash(run / "model")
    except OSError as error:
        what = f"cannot read the tokenizer of '{run}' ({type(error).__name__})"
        raise FlatvqError(what, remedy) from None
    if measured != present:
        what = f"'{run / 'model'}' has weights {present[:8]}, but metrics.json is of weights {measured[:8]}"
        raise FlatvqError(what, remedy)


def _gain(gain: MarginalGain) -> dict[str, float]:
    return {**asdict(gain), "db_per_kilobit": gain.db_per_kilobit}


def _recipe(run: Path) -> TrialRecipe:
    """Return the recipe of a finished run."""
    recipe = load_trial(run)
    tokenizer_folder(run)  # raises if the run is not finished
    return recipe
