"""A loss that is not finite stops the trial and names the step, the files and the last good checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from flatvq.errors import NonFiniteError
from flatvq.train import loop, run_trial

pytestmark = pytest.mark.slow


def test_an_infinite_loss_is_named(tmp_path: Path, small_recipe, monkeypatch) -> None:
    honest = loop.objective

    def diverging(*arguments):
        losses = honest(*arguments)
        diverging.calls += 1
        if diverging.calls == 8:
            losses.total.data.fill_(torch.inf)
        return losses

    diverging.calls = 0
    monkeypatch.setattr(loop, "objective", diverging)
    run = tmp_path / "run"
    with pytest.raises(NonFiniteError) as caught:
        run_trial(small_recipe(), run)
    message = str(caught.value)
    assert "diverged at step 7" in message
    assert f"the last good checkpoint is {run / 'checkpoints' / 'step-00000005'}" in message
    assert ".png" in message
    assert "train.learning_rate" in message
    status = json.loads((run / "status.json").read_text())
    assert status["status"] == "failed"
    assert "diverged at step 7" in status["error"]


def test_a_learning_rate_far_too_high_ends_in_that_message(tmp_path: Path, small_recipe) -> None:
    with pytest.raises(NonFiniteError, match="training diverged at step"):
        run_trial(small_recipe(learning_rate=1e18), tmp_path / "run")


def test_weights_stay_finite_when_a_gradient_is_not(tmp_path: Path, small_recipe, monkeypatch) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(
        torch.nn.utils, "clip_grad_norm_", lambda parameters, norm: torch.tensor(float("nan"))
    )
    with pytest.raises(NonFiniteError, match="gradient is not finite"):
        run_trial(small_recipe(), run)
