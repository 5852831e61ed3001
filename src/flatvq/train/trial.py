"""One trial from recipe to record: train, evaluate on the whole held-out split, hand over the tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, astuple
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from flatvq.data import DataSplit, evaluation_crops, evenly_spread, open_data
from flatvq.errors import FlatvqError
from flatvq.evaluate.definitions import protocol_id
from flatvq.evaluate.provenance import measured_on
from flatvq.evaluate.split import Evaluation, evaluate
from flatvq.files import write_bytes, write_json
from flatvq.model import save_tokenizer
from flatvq.model.capacity import capacity_of
from flatvq.model.memory import require_memory, training_bytes
from flatvq.recipe import TrialRecipe, load_trial
from flatvq.records import read_metrics, read_status
from flatvq.train.identity import Identity, agree_on, begin
from flatvq.train.interrupt import StopRequest, stop_requests
from flatvq.train.journal import Journal
from flatvq.train.lock import locked
from flatvq.train.loop import Trainer
from flatvq.train.machine import Machine, keep_freed_memory, machine_for, processor
from flatvq.translation import cause_of

__all__ = ["is_finished", "run_trial"]


def run_trial(
    recipe: TrialRecipe,
    run: str | Path,
    *,
    data: DataSplit | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> bool:
    """Train a trial to its end, or go on with one that was interrupted.

    Under `torchrun` every process calls this; the first one writes.

    Args:
        recipe: the resolved trial.
        run: its folder (docs/records.md); made if absent.
        data: its photographs; opened from the recipe if not given.
        progress: called after each step with the steps done and the steps in all.

    Returns:
        True if the trial is done; False if SIGTERM or Ctrl-C stopped it after a checkpoint.

    Raises:
        FlatvqError: if the folder holds another recipe's run, or one that was begun with other images or
            another flatvq (`flatvq.train.identity`), the data cannot be read, or training diverged. All
            processes raise it.
    """
    run = Path(run)
    run.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    with machine_for(recipe.train) as machine, stop_requests() as stop, ExitStack() as held:
        require_memory(recipe.model, training_bytes(recipe, machine.world_size))
        first = machine.rank == 0
        with machine.shared_errors():
            if first:
                held.enter_context(locked(run))
                _claim(run, recipe)
        journal = held.enter_context(closing(Journal(run, recipe.train.steps, silent=not first)))
        return _run(recipe, data, machine, journal, stop, progress)


def is_finished(run: Path) -> bool:
    """Tell whether the run in a folder ended with the final evaluation of the model of its recipe.

    A run whose records are damaged has not ended: it goes on from its last checkpoint and writes them again.
    """
    try:
        status, metrics, recipe = read_status(run), read_metrics(run), load_trial(run)
    except FlatvqError:
        return False
    built = capacity_of(recipe.model, recipe.data.crop).levels
    measured = [
        (level.grid, level.codebook_size, level.code_dim, level.indices_per_cell) for level in metrics.levels
    ]
    return status.status == "done" and measured == [astuple(level) for level in built]


def _run(
    recipe: TrialRecipe,
    data: DataSplit | None,
    machine: Machine,
    journal: Journal,
    stop: StopRequest,
    progress: Callable[[int, int], None],
) -> bool:
    """Train and evaluate, keeping the status up to date."""
    trainer = None
    try:
        # A finished run stays finished until it is known to have the same images as before.
        if not is_finished(journal.run):
            journal.status("running", 0)
        images = _opened(recipe, data, machine, journal.run)
        journal.status("running", 0)
        trainer = Trainer(recipe, images, machine, journal)
        trainer.resume()
        if recipe.train.tensorboard:
            journal.mirror_to_tensorboard(trainer.step)
        journal.record(
            "start",
            step=trainer.step,
            device=str(machine.device),
            precision=machine.precision,
            compiled=trainer.compiled,
            world_size=machine.world_size,
            torch=torch.__version__,
            processor=processor(),
        )
        if not trainer.train(stop, progress):
            journal.status("stopped", trainer.step)
            journal.record("stop", step=trainer.step, reason=stop.signal.name if stop.signal else None)
            return False
        with machine.shared_errors():
            if not journal.silent:
                _finish(trainer, journal.run)
        journal.status("done", trainer.step)
    except Exception as error:
        if not is_finished(journal.run):
            with suppress(OSError):  # on a full disk this fails too; the first error is the one to report
                journal.status("failed", trainer.step if trainer else 0, cause_of(error))
        raise
    return True


def _opened(recipe: TrialRecipe, data: DataSplit | None, machine: Machine, run: Path) -> DataSplit:
    """Open the images, the same ones in all processes and the same ones that the run was begun with."""
    with machine.shared_errors():
        data = data or open_data(recipe.data)
        identity = Identity.of(recipe, data)
    agree_on(identity, machine)
    with machine.shared_errors():
        if machine.rank == 0:
            begin(run, identity)
    return data


def _claim(run: Path, recipe: TrialRecipe) -> None:
    """Make the folder this recipe's, or see that it is."""
    path = run / "recipe.json"
    if not path.exists():
        write_json(path, recipe.model_dump(mode="json"))
    elif load_trial(run) != recipe:
        what = f"'{run}' holds a run of another recipe"
        raise FlatvqError(what, "choose another folder, or delete it to start anew")


def _finish(trainer: Trainer, run: Path) -> None:
    """Evaluate on the whole held-out split and write what the trial leaves behind."""
    recipe = trainer.recipe
    crops = evaluation_crops(trainer.data.validation, recipe.data.crop)
    keep = evenly_spread(len(trainer.data.validation), recipe.evaluate.samples)
    found = evaluate(trainer.model, crops, batch_size=recipe.evaluate.batch_size, keep=keep)
    _write_pictures(run / "samples", found)
    _write_images(run / "images.parquet", found)
    levels = [{"codebook_size": level.usage.codebook_size, "counts": level.counts} for level in found.levels]
    write_json(run / "codes.json", {"levels": levels})
    config = recipe.model_dump(mode="json", include={"model", "codebook"})
    save_tokenizer(run / "model", trainer.model, config)
    files = [asdict(file) for file in (*trainer.data.file_statuses, *trainer.data.late_file_statuses)]
    metrics = {
        "evaluation_protocol": protocol_id(recipe.data.crop, recipe.data.resize, recipe.model.channels),
        "crop": recipe.data.crop,
        **found.to_dict(),
        "measured_on": measured_on(trainer.data.validation.fingerprint, run / "model"),
        "files": files,
    }
    write_json(run / "metrics.json", metrics)


def _write_pictures(folder: Path, found: Evaluation) -> None:
    folder.mkdir(exist_ok=True)
    for number, sample in enumerate(found.samples):
        for name in ("original", "reconstruction"):
            content = BytesIO()
            Image.fromarray(getattr(sample, name)).save(content, "PNG")
            write_bytes(folder / f"{number}-{name}.png", content.getvalue())


def _write_images(path: Path, found: Evaluation) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "image": found.names,
        "psnr_db": found.psnr_db,
        "ssim": pa.array(found.ssim, pa.float64()),
        "mse": found.mse,
    }
    table = pa.table({**columns, "ms_ssim": pa.array(found.ms_ssim, pa.float64())})
    content = pa.BufferOutputStream()
    pq.write_table(table, content)
    write_bytes(path, memoryview(content.getvalue()))
