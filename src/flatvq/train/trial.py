"""One trial from recipe to record: train, evaluate on the whole held-out split, hand over the tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing, nullcontext, suppress
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from flatvq.data import DataSplit, evaluation_crops, evenly_spread, open_data
from flatvq.errors import FlatvqError
from flatvq.evaluate.protocol import protocol_id
from flatvq.evaluate.split import Evaluation, evaluate
from flatvq.files import write_bytes, write_json
from flatvq.model import save_tokenizer
from flatvq.recipe import TrialRecipe
from flatvq.train.interrupt import StopRequest, stop_requests
from flatvq.train.journal import Journal
from flatvq.train.lock import locked
from flatvq.train.loop import Trainer
from flatvq.train.machine import Machine, keep_freed_memory, machine_for

__all__ = ["run_trial"]


def run_trial(
    recipe: TrialRecipe,
    run: Path,
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
        FlatvqError: if the folder holds another recipe's run, the data cannot be read, or training diverged.
    """
    run.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    with machine_for(recipe.train) as machine, stop_requests() as stop:
        first = machine.rank == 0
        with locked(run) if first else nullcontext():
            if first:
                _claim(run, recipe)
            journal = Journal(run, recipe.train.steps, silent=not first)
            with closing(journal):
                return _run(recipe, data, machine, journal, stop, progress)


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
        journal.status("running", 0)
        trainer = Trainer(recipe, data or open_data(recipe.data), machine, journal)
        trainer.resume()
        if recipe.train.tensorboard:
            journal.mirror_to_tensorboard(trainer.step)
        device, precision = str(machine.device), machine.precision
        world, compiled = machine.world_size, trainer.compiled
        journal.record(
            "start",
            step=trainer.step,
            device=device,
            precision=precision,
            compiled=compiled,
            world_size=world,
        )
        if not trainer.train(stop, progress):
            journal.status("stopped", trainer.step)
            journal.record("stop", step=trainer.step, reason=stop.signal.name if stop.signal else None)
            return False
        if not journal.silent:
            _finish(trainer, journal.run)
        machine.wait()
        journal.status("done", trainer.step)
    except Exception as error:
        with suppress(OSError):  # on a full disk this fails too; the first error is the one to report
            journal.status("failed", trainer.step if trainer else 0, str(error) or type(error).__name__)
        raise
    return True


def _claim(run: Path, recipe: TrialRecipe) -> None:
    """Make the folder this recipe's, or see that it is."""
    path = run / "recipe.json"
    tree = recipe.model_dump(mode="json")
    if not path.exists():
        write_json(path, tree)
    elif json.loads(path.read_text()) != tree:
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
    levels = [{"codebook_size": len(level.counts), "counts": level.counts} for level in found.levels]
    write_json(run / "codes.json", {"levels": levels})
    config = recipe.model_dump(mode="json", include={"model", "codebook"})
    save_tokenizer(run / "model", trainer.model, config)
    protocol = protocol_id(recipe.data.crop, recipe.data.resize)
    files = [asdict(fate) for fate in (*trainer.data.fates, *trainer.data.late_fates)]
    metrics = {"protocol": protocol, "crop": recipe.data.crop, **found.record(), "files": files}
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
        "ssim": found.ssim,
        "mse": found.mse,
    }
    table = pa.table({**columns, "ms_ssim": pa.array(found.ms_ssim, pa.float64())})
    content = pa.BufferOutputStream()
    pq.write_table(table, content)
    write_bytes(path, memoryview(content.getvalue()))
