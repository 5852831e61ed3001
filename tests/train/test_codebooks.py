"""The trainer records the events of every codebook, in any quantizer."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
import torch

from flatvq.data import open_data
from flatvq.quantize import DeadCodeReplacement, KMeansInit, Quantized, Quantizer, VectorQuantizer
from flatvq.train.interrupt import StopRequest
from flatvq.train.journal import Journal
from flatvq.train.loop import Trainer
from flatvq.train.machine import Machine


class Residual(Quantizer):
    """Two vector quantizers, the second for the residual of the first: two codebooks on one level."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.codebook_size, self.code_dim, self.input_dim = size * size, dim, dim
        self.stages = torch.nn.ModuleList(
            VectorQuantizer(
                size, dim, init=KMeansInit(200), replacement=DeadCodeReplacement(every=3), seed=seed
            )
            for seed in range(2)
        )

    def _quantize(self, flat: torch.Tensor, valid: torch.Tensor | None) -> Quantized:
        first = self.stages[0](flat)
        second = self.stages[1](flat - first.code_vectors)
        return Quantized(
            quantized=first.quantized + second.quantized,
            indices=first.indices * self.stages[0].codebook_size + second.indices,
            codebook_loss=first.codebook_loss,
            commitment_loss=first.commitment_loss,
            entropy_loss=first.entropy_loss,
            latents=first.latents,
            code_vectors=first.code_vectors + second.code_vectors,
        )

    def _decode(self, indices: torch.Tensor) -> torch.Tensor:
        size = self.stages[0].codebook_size
        return self.stages[0].decode_indices(indices // size) + self.stages[1].decode_indices(indices % size)


@pytest.fixture
def trainer(tmp_path: Path, small_recipe):
    recipe = small_recipe(steps=12, checkpoint_every=1, validate_every=12)
    level = recipe.model.levels[0].model_copy(update={"codebook_size": 16})
    model = recipe.model.model_copy(update={"levels": (level, recipe.model.levels[1])})
    recipe = recipe.model_copy(update={"model": model})
    run = tmp_path / "run"
    run.mkdir()
    machine = Machine(torch.device("cpu"), bfloat16=False, rank=0, world_size=1)
    with closing(Journal(run, recipe.train.steps, silent=False)) as journal:
        made = Trainer(recipe, open_data(recipe.data), machine, journal)
        made.model.quantizers[0] = Residual(4, level.code_dim)
        yield made


def test_codebooks_inside_another_quantizer_are_recorded_and_checkpoints_wait_for_them(trainer) -> None:
    checkpoints = []
    trainer.train(StopRequest(), lambda done, total: checkpoints.append((done, trainer.checkpoints.is_dir())))
    records = [json.loads(line) for line in (trainer.journal.run / "records.jsonl").read_text().splitlines()]
    initialized = [
        (record["level"], record["step"], record["vectors"]) for record in records if record["kind"] == "init"
    ]
    # 200 x 4 vectors at 8 x 8 x 4 a step: the fourth step completes both codebooks of the bottom level.
    assert [one for one in initialized if one[0] == 0] == [(0, 3, 800), (0, 3, 800)]
    assert {record["level"] for record in records if record["kind"] == "replacement"} >= {0}
    last = max(step for _, step, _ in initialized)
    assert next(done for done, there in checkpoints if there) == last + 1
