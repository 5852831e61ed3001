"""The training loop. Its result depends only on the recipe and the data, not on interruptions.

Axes: B batch (the share of this process), H W rows and columns.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from flatvq.data import Batch, DataSplit, TrainingCrops, evaluation_crops
from flatvq.errors import FlatvqError, NonFiniteError
from flatvq.evaluate.split import evaluate
from flatvq.model import build_vqvae
from flatvq.model.pixels import with_channels
from flatvq.quantize import Codebook, ReplacementEvent
from flatvq.recipe import TrialRecipe
from flatvq.train.checkpoint import (
    load_checkpoint,
    newest_checkpoints,
    prune_checkpoints,
    save_checkpoint,
)
from flatvq.train.compiling import compiles
from flatvq.train.interrupt import StopRequest
from flatvq.train.journal import Journal
from flatvq.train.machine import Machine
from flatvq.train.objective import Losses, learning_rate, objective
from flatvq.train.optimizer import optimizer_for
from flatvq.train.parent import start_from_parent

__all__ = ["Trainer"]

Progress = Callable[[int, int], None]
"""Called with the number of steps done and the total number of steps."""


class Trainer:
    """Trains one trial in one process.

    Args:
        recipe: the trial.
        data: the images.
        machine: the device and rank of this process.
        journal: writes the records.
    """

    def __init__(self, recipe: TrialRecipe, data: DataSplit, machine: Machine, journal: Journal) -> None:
        self.recipe, self.data, self.machine, self.journal = recipe, data, machine, journal
        self.model = build_vqvae(recipe.model, recipe.codebook, seed=recipe.seed, steps=recipe.train.steps)
        start_from_parent(self.model, recipe)
        self.model.to(machine.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = optimizer_for(self.model, recipe.train)
        # Listed once, since traversing all modules takes 2 % of the step of a small model.
        self._parameters = list(self.model.parameters())
        self.step = 0
        """The number of steps done."""
        self._commitment_weights = [level.commitment_weight for level in recipe.model.levels]
        self._saved: int | None = None  # the step of the newest checkpoint
        self._parallel: nn.Module = self.model
        if machine.world_size > 1:
            # The codebooks synchronize themselves, so their buffers need no broadcast.
            self._parallel = DistributedDataParallel(self.model, forward_sync_buffers=False)
        self.compiled = compiles(recipe, machine)
        """Whether training steps are compiled. Evaluation is not."""
        # Compile the call instead of the modules, which are evaluated and saved without compiling.
        self._forward = torch.compile(self._parallel.__call__) if self.compiled else self._parallel

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints of this run."""
        return self.journal.run / "checkpoints"

    def resume(self) -> None:
        """Load the newest checkpoint that is not damaged, if there is one. Damaged ones are recorded."""
        for path in newest_checkpoints(self.checkpoints):
            try:
                self.step = self._saved = load_checkpoint(path, self.model, self.optimizer)
                break
            except FlatvqError as error:
                self.journal.record("damaged", step=self.step, checkpoint=path.name, error=str(error))
        if not self.journal.silent:
            prune_checkpoints(self.checkpoints)  # the last process may have been killed before it did

    def train(self, stop: StopRequest, progress: Progress) -> bool:
        """Train to the last step.

        Args:
            stop: the request to stop, checked between two steps.
            progress: called after each step.

        Returns:
            True if the last step was done; False if it stopped on request, after writing a checkpoint.

        Raises:
            NonFiniteError: if a loss or gradient is not finite. The message has the step, the files of the
                batch and the last checkpoint.
        """
        recipe, total = self.recipe.train, self.recipe.train.steps
        crops = TrainingCrops(
            self.data.training,
            self.recipe.data,
            seed=self.recipe.seed,
            batch_size=recipe.batch_size,
            rank=self.machine.rank,
            world_size=self.machine.world_size,
        )
        # While a GPU computes, the CPU can prepare the next batches.
        ahead = True if self.machine.device.type != "cpu" else None
        images, seconds = 0, 0.0
        self._parallel.train()
        with closing(crops.batches(self.step, total, ahead=ahead)) as batches:
            for batch in batches:
                if self.machine.any_process(bool(stop)):
                    self.checkpoint()
                    return False
                started = time.perf_counter()
                self.model.set_step(self.step)
                losses, norm = self._checked_step(batch)
                self.step += 1
                seconds += time.perf_counter() - started
                images += recipe.batch_size
                if self._due(recipe.record_every):
                    self._record_training(losses, norm, images / seconds)
                    images, seconds = 0, 0.0
                self._record_codebooks()
                if self._due(recipe.validate_every):
                    self._validate()
                if self._due(recipe.checkpoint_every):
                    self.checkpoint()
                progress(self.step, total)
        return True

    def checkpoint(self) -> None:
        """Write a checkpoint of this step, unless it is already written or a codebook gathers vectors.

        A run that stops while a codebook gathers vectors for its init resumes from the previous checkpoint,
        or from step 0, with the same result.
        """
        gathering = any(book.gathering for _, book in self._codebooks())
        if not gathering and self._saved != self.step:
            with self.machine.shared_errors():
                if not self.journal.silent:
                    self.journal.sync()
                    save_checkpoint(self.checkpoints, self.step, self.model, self.optimizer)
            self._saved = self.step

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.recipe.train.steps

    def _checked_step(self, batch: Batch) -> tuple[Losses, float]:
        try:
            return self._optimize(batch)
        except NonFiniteError as error:
            newest = newest_checkpoints(self.checkpoints)
            last = f"the last good checkpoint is {newest[0]}" if newest else "there is no checkpoint yet"
            what = (
                f"training diverged at step {self.step}: {error.what}; files {', '.join(batch.names)}; {last}"
            )
            raise NonFiniteError(what, "lower train.learning_rate or set train.clip_norm") from error

    def _optimize(self, batch: Batch) -> tuple[Losses, float]:
        recipe = self.recipe.train
        pixels = batch.pixels.to(self.machine.device, non_blocking=True)
        pixels = with_channels(pixels, self.recipe.model.channels)
        images = pixels.to(memory_format=torch.channels_last).float().div_(255)  # [B, C, H, W] in [0, 1]
        with self.machine.autocast():
            output = self._forward(images)
        losses = objective(output, images, recipe, self._commitment_weights)
        for parameter in self._parameters:  # as `zero_grad` of the optimizer, without its overhead
            parameter.grad = None
        losses.total.backward()  # type: ignore[no-untyped-call]
        gradient_norm = nn.utils.clip_grad_norm_(self._parameters, recipe.clip_norm or math.inf)
        # The only synchronization with a GPU in a step, after all its work is queued.
        loss, norm = torch.stack([losses.total.detach(), gradient_norm]).tolist()
        for name, value in ("loss", loss), ("gradient", norm):
            if not math.isfinite(value):
                raise NonFiniteError(f"the {name} is not finite", "check the images of the batch")
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, recipe)
        self.optimizer.step()
        return losses, norm

    def _validate(self) -> None:
        """Evaluate some held-out crops and record the result. Only rank 0 evaluates."""
        with self.machine.shared_errors():
            if not self.journal.silent:
                recipe = self.recipe.evaluate
                crops = evaluation_crops(
                    self.data.validation, self.recipe.data.crop, recipe.validation_images
                )
                result = evaluate(self.model, crops, batch_size=recipe.batch_size, structure=False).to_dict()
                keys = ("usage", "perplexity", "quantization_error")
                levels = [{key: level[key] for key in keys} for level in result["levels"]]
                self.journal.record(
                    "validation", step=self.step, psnr_db=result["psnr_db"], mse=result["mse"], levels=levels
                )

    def _record_training(self, losses: Losses, norm: float, images_per_second: float) -> None:
        values = {name: float(value.detach()) for name, value in vars(losses).items()}
        self.journal.record(
            "train",
            step=self.step,
            loss=values.pop("total"),
            **values,
            learning_rate=learning_rate(self.step - 1, self.recipe.train),
            gradient_norm=norm,
            images_per_second=images_per_second,
        )

    def _record_codebooks(self) -> None:
        """Record the initializations and replacements of this step."""
        for number, book in self._codebooks():
            for event in book.events:
                kind = "replacement" if isinstance(event, ReplacementEvent) else "init"
                self.journal.record(kind, **asdict(event), level=number)
            book.events.clear()

    def _codebooks(self) -> Iterator[tuple[int, Codebook]]:
        """Yield each codebook of each quantizer with the number of its level, bottom first."""
        for number, quantizer in enumerate(self.model.quantizers):
            for module in quantizer.modules():
                if isinstance(module, Codebook):
                    yield number, module
