"""Readers of weights: checkpoints and tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.fuzz.targets.base import Target

__all__ = ["Checkpoints", "Tokenizers"]

STUDY = Path("study")


class Checkpoints(Target):
    """The checkpoints of a run, from which a training resumes."""

    pattern = "study/runs/two/seed-0-*/checkpoints/*/*"

    def __init__(self) -> None:
        from flatvq.data import open_data
        from flatvq.recipe import load_trial
        from flatvq.train.journal import Journal
        from flatvq.train.launch import ALONE
        from flatvq.train.loop import Trainer
        from flatvq.train.machine import machine_for

        super().__init__()
        run = next(STUDY.glob("runs/two/seed-0-*"))
        recipe = load_trial(run)
        with machine_for(recipe.train, ALONE) as machine:
            journal = Journal(run, recipe.train.steps, silent=True)
            self.trainer = Trainer(recipe, open_data(recipe.data), machine, journal)
        self.fresh = self._state()

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        from copy import deepcopy

        return deepcopy(self.trainer.model.state_dict()), deepcopy(self.trainer.optimizer.state_dict())

    def read(self, changed: Sequence[Path]) -> str:
        """As `flatvq train RUN` does."""
        import torch

        trainer = self.trainer
        trainer.model.load_state_dict(self.fresh[0])
        trainer.optimizer.load_state_dict(self.fresh[1])
        trainer.step = 0
        trainer.resume()
        weights = trainer.model.state_dict()
        kinds = {name: (value.shape, value.dtype) for name, value in weights.items()}
        assert kinds == {name: (value.shape, value.dtype) for name, value in self.fresh[0].items()}
        if trainer.step == 0:
            same = all(bool((weights[name] == value).all()) for name, value in self.fresh[0].items())
            assert same, "training starts anew with the weights of a checkpoint"
            assert not trainer.optimizer.state, "training starts anew with the moments of a checkpoint"
        assert trainer.step in (0, 2, 4), f"the step is {trainer.step}"
        assert all(bool(torch.isfinite(value).all()) for value in weights.values()), "weights are not finite"
        return f"step {trainer.step}"


class Tokenizers(Target):
    """Tokenizer folders."""

    pattern = "study/runs/*/seed-0-*/model/*"

    def read(self, changed: Sequence[Path]) -> str:
        """As `load_tokenizer` and `flatvq evaluate` do."""
        import torch

        from flatvq.model import load_tokenizer

        model = load_tokenizer(changed[0].parent)
        floats = [value for value in model.state_dict().values() if value.is_floating_point()]
        assert all(value.dtype == torch.float32 for value in floats)
        assert all(bool(value.isfinite().all()) for value in floats), "weights are not finite"
        indices = model.encode(torch.full((1, model.recipe.channels, 2 * model.factor, model.factor), 0.5))
        for level, level_indices in zip(model.recipe.levels, indices, strict=True):
            assert 0 <= int(level_indices.min()) <= int(level_indices.max()) < level.codebook_size
        return "accepted"
