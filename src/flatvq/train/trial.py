"""Runs one trial: trains it, evaluates it on the whole held-out split, and saves the tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, astuple
from io import BytesIO
from pathlib import Path
from signal import SIGTERM
from typing import Any

import torch
from PIL import Image

from flatvq.codec.training import coded_bits_per_image
from flatvq.data import DataSplit, evaluation_crops, evenly_spread, open_data
from flatvq.errors import FlatvqError
from flatvq.evaluate.benchmarks import measure_benchmarks, require_benchmarks
from flatvq.evaluate.provenance import measured_on
from flatvq.evaluate.result import Evaluation
from flatvq.evaluate.split import evaluate
from flatvq.files import finite, write_bytes, write_json
from flatvq.model import save_tokenizer
from flatvq.model.capacity import capacity_of
from flatvq.model.memory import require_memory, training_bytes
from flatvq.recipe import TrialRecipe, load_trial
from flatvq.records import Codes, Metrics, check_record, read_metrics, read_status
from flatvq.records.run import CodeCounts
from flatvq.tokenizers.vqvae import load_folder
from flatvq.train.elastic import resume_notice
from flatvq.train.identity import Identity, agree_on, begin, evaluation_protocol, has_started
from flatvq.train.interrupt import StopRequest, stop_requests
from flatvq.train.journal import Journal
from flatvq.train.lease import leased
from flatvq.train.length import initialization_notices
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
    notice: Callable[[str], None] = lambda text: None,
) -> bool:
    """Train and evaluate a trial. A run that was interrupted resumes from its last checkpoint.

    Under `torchrun` every process calls this function, and only rank 0 writes.

    Args:
        recipe: the resolved recipe.
        run: the folder of the run (docs/records.md); created if it does not exist.
        data: the images; by default they are opened from the recipe.
        progress: called after each step with the number of steps done and the total number of steps.
        notice: called in rank 0 with one line if the training is too short to initialize a codebook, and if
            the run resumes with another number of processes, or on another device, than before.

    Returns:
        True if the trial is done; False if SIGTERM or Ctrl-C stopped it, after it wrote a checkpoint.

    Raises:
        FlatvqError: if the folder holds a run of another recipe, or one that started with other images or
            another version of flatvq (`flatvq.train.identity`); if the images cannot be read; if the training
            diverged; if the recipe measures errors in text and the text reader is not installed; or if
            another process trains in the folder. Every process raises it.
    """
    run = Path(run)
    require_benchmarks(recipe.evaluate, recipe.data.crop)
    run.mkdir(parents=True, exist_ok=True)
    keep_freed_memory()
    with machine_for(recipe.train) as machine, stop_requests() as stop, ExitStack() as held:
        require_memory(recipe.model, training_bytes(recipe, machine.world_size))
        first = machine.rank == 0
        with machine.shared_errors():
            if first:
                lease = held.enter_context(leased(run))
                lease.on_loss = lambda: setattr(stop, "signal", SIGTERM)
                _detach_records(run / "records.jsonl")
                _claim(run, recipe)
        journal = held.enter_context(closing(Journal(run, recipe.train.steps, silent=not first)))
        if first and not is_finished(run):
            for text in (*initialization_notices(recipe), resume_notice(run / "records.jsonl", machine)):
                if text:
                    notice(text)
        return _run(recipe, data, machine, journal, stop, progress)


def is_finished(run: Path) -> bool:
    """Return whether the run in a folder ended with a final evaluation of the model of its recipe.

    A run with damaged records is unfinished. It resumes from its last checkpoint and writes them again.
    """
    try:
        status, metrics, recipe = read_status(run), read_metrics(run), load_trial(run)
    except FlatvqError:
        return False
    built = capacity_of(recipe.model, recipe.data.crop).levels
    evaluated = [
        (level.grid, level.codebook_size, level.code_dim, level.indices_per_cell) for level in metrics.levels
    ]
    return status.status == "done" and evaluated == [astuple(level) for level in built]


def _run(
    recipe: TrialRecipe,
    data: DataSplit | None,
    machine: Machine,
    journal: Journal,
    stop: StopRequest,
    progress: Callable[[int, int], None],
) -> bool:
    """Train and evaluate, and keep the status up to date."""
    trainer = None
    try:
        # The status of a finished run changes only after its images are known to be the same as before.
        if not is_finished(journal.run):
            journal.status("running", 0)
        images = _open_images(recipe, data, machine, journal.run)
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
            with suppress(OSError):  # fails too on a full disk; the first error is raised below
                journal.status("failed", trainer.step if trainer else 0, cause_of(error))
        raise
    return True


def _open_images(recipe: TrialRecipe, data: DataSplit | None, machine: Machine, run: Path) -> DataSplit:
    """Open the images. They must be the same in all processes, and the same as when the run started."""
    with machine.shared_errors():
        data = data or open_data(recipe.data)
        identity = Identity.of(recipe, data)
    agree_on(identity, machine)
    with machine.shared_errors():
        if machine.rank == 0:
            begin(run, identity)
    return data


def _detach_records(path: Path) -> None:
    """Replace records.jsonl by a copy, so that lines which an earlier owner appends later are lost.

    An earlier owner of the lease may be paused and still have the file open.
    """
    if path.exists():
        write_bytes(path, path.read_bytes())


def _claim(run: Path, recipe: TrialRecipe) -> None:
    """Write recipe.json; check it if the run has started.

    If an earlier start failed before its first step, for example because of a wrong data.path, its
    recipe.json is replaced.
    """
    path = run / "recipe.json"
    stored = load_trial(run) if path.exists() else None
    if stored == recipe:
        return
    if stored is not None and has_started(run):
        what = f"'{run}' holds a run of another recipe"
        raise FlatvqError(what, "choose another folder, or delete it to start anew")
    write_json(path, recipe.model_dump(mode="json"))


def _finish(trainer: Trainer, run: Path) -> None:
    """Evaluate on the whole held-out split, and write the results and the tokenizer.

    metrics.json is written last.
    """
    recipe = trainer.recipe
    crops = evaluation_crops(trainer.data.validation, recipe.data.crop)
    keep = evenly_spread(len(trainer.data.validation), recipe.evaluate.samples)
    evaluation = evaluate(trainer.model, crops, batch_size=recipe.evaluate.batch_size, keep=keep)
    _write_pictures(run / "samples", evaluation)
    _write_images(run / "images.parquet", evaluation)
    codes = Codes(
        levels=tuple(
            CodeCounts(codebook_size=level.usage.codebook_size, counts=level.counts)
            for level in evaluation.levels
        )
    )
    write_json(run / "codes.json", codes.model_dump(mode="json"))
    config = recipe.model_dump(mode="json", include={"model", "codebook"})
    preprocess = recipe.data.model_dump(mode="json", include={"resize", "crop"})
    save_tokenizer(run / "model", trainer.model, {**config, "preprocess": preprocess})
    tokenizer = load_folder(run / "model", trainer.machine.device)
    files = [asdict(file) for file in (*trainer.data.file_statuses, *trainer.data.late_file_statuses)]
    tree = {
        "evaluation_protocol": evaluation_protocol(recipe),
        "crop": recipe.data.crop,
        **evaluation.to_dict(),
        **_coded_bits(trainer),
        **measure_benchmarks(tokenizer, recipe.evaluate, recipe.data.crop),
        "measured_on": measured_on(trainer.data.validation.fingerprint, run / "model"),
        "files": files,
    }
    metrics = check_record(Metrics, finite(tree), "the final evaluation", "train the trial again")
    write_json(run / "metrics.json", metrics.model_dump(mode="json"))


def _coded_bits(trainer: Trainer) -> dict[str, float]:
    """Return the coded bits of the held-out crops, if the recipe asks for them."""
    recipe, data = trainer.recipe, trainer.data
    if not recipe.evaluate.prior_images:
        return {}
    fitted, measured = (
        (crop.pixels for crop in evaluation_crops(images, recipe.data.crop, limit))
        for images, limit in ((data.training, recipe.evaluate.prior_images), (data.validation, None))
    )
    model, kind = trainer.model.eval(), recipe.evaluate.prior_kind
    return {"coded_bits_per_image": coded_bits_per_image(model, fitted, measured, kind)}


def _write_pictures(folder: Path, evaluation: Evaluation) -> None:
    folder.mkdir(exist_ok=True)
    for number, sample in enumerate(evaluation.samples):
        for name in ("original", "reconstruction"):
            content = BytesIO()
            Image.fromarray(getattr(sample, name)).save(content, "PNG")
            write_bytes(folder / f"{number}-{name}.png", content.getvalue())


def _write_images(path: Path, evaluation: Evaluation) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns: dict[str, Any] = {
        "image": evaluation.names,
        "psnr_db": evaluation.psnr_db,
        "ssim": pa.array(evaluation.ssim, pa.float64()),
        "mse": evaluation.mse,
    }
    table = pa.table({**columns, "ms_ssim": pa.array(evaluation.ms_ssim, pa.float64())})
    content = pa.BufferOutputStream()
    pq.write_table(table, content)
    write_bytes(path, memoryview(content.getvalue()))
