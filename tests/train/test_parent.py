"""Fine-tuning starts from the weights of a tokenizer, resumes exactly, and is refused when they change."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch
from tests.train.conftest import SmallRecipe

from flatvq.data import open_data
from flatvq.errors import FlatvqError
from flatvq.files import write_json
from flatvq.model import load_tokenizer, save_tokenizer
from flatvq.recipe import TrialRecipe
from flatvq.records import read_metrics
from flatvq.tokenizers import load
from flatvq.train import run_trial
from flatvq.train.identity import Identity, read_identity
from flatvq.train.journal import Journal
from flatvq.train.loop import Trainer
from flatvq.train.machine import machine_for
from flatvq.train.parent import with_parent

pytestmark = pytest.mark.slow


@pytest.fixture
def parent(small_recipe: SmallRecipe, tmp_path: Path) -> Path:
    run = tmp_path / "parent"
    run_trial(small_recipe(steps=60, learning_rate=3e-3), run)
    return run


def fine_tuning(small_recipe: SmallRecipe, parent: Path, **train: object) -> TrialRecipe:
    return with_parent(small_recipe(levels=({},), **train), str(parent))


def test_the_first_step_starts_from_the_weights_and_codes_of_the_parent(
    small_recipe: SmallRecipe, parent: Path, tmp_path: Path
) -> None:
    recipe = fine_tuning(small_recipe, parent)
    assert recipe.model == load(parent).recipe
    (tmp_path / "run").mkdir()
    with machine_for(recipe.train) as machine:
        journal = Journal(tmp_path / "run", 40, silent=False)
        trainer = Trainer(recipe, open_data(recipe.data), machine, journal)
        expected = load_tokenizer(parent / "model").state_dict()
        for name, tensor in trainer.model.state_dict().items():
            if name.endswith(("counts", "births", "step_count", "init_checksum", "last_event_step")):
                continue
            assert torch.equal(tensor, expected[name]), name
    for quantizer in trainer.model.quantizers:
        assert quantizer.codebook.initialized
        assert quantizer.codebook.step == 0
        assert quantizer.codebook.counts.eq(1).all()


def test_fine_tuning_improves_its_start(small_recipe: SmallRecipe, parent: Path, tmp_path: Path) -> None:
    run_trial(fine_tuning(small_recipe, parent, steps=80, learning_rate=1e-3), tmp_path / "run")
    assert read_metrics(tmp_path / "run").psnr_db > read_metrics(parent).psnr_db
    # One step with a learning rate of 0 only moves codes: it stays close to the parent.
    run_trial(fine_tuning(small_recipe, parent, steps=1, learning_rate=1e-12), tmp_path / "still")
    assert read_metrics(tmp_path / "still").psnr_db == pytest.approx(read_metrics(parent).psnr_db, abs=0.3)


def test_an_interrupted_fine_tuning_resumes_with_equal_weights(
    small_recipe: SmallRecipe, parent: Path, tmp_path: Path
) -> None:
    recipe = fine_tuning(small_recipe, parent, steps=20)

    def interrupt(done: int, total: int) -> None:
        if done == 7:
            os.kill(os.getpid(), signal.SIGTERM)

    run_trial(recipe, tmp_path / "undisturbed")
    assert not run_trial(recipe, tmp_path / "resumed", progress=interrupt)
    assert run_trial(recipe, tmp_path / "resumed")
    undisturbed, resumed = (load_tokenizer(tmp_path / run / "model") for run in ("undisturbed", "resumed"))
    for name, tensor in undisturbed.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_changed_parent_is_refused(small_recipe: SmallRecipe, parent: Path, tmp_path: Path) -> None:
    recipe = fine_tuning(small_recipe, parent, steps=4)
    run_trial(recipe, tmp_path / "run")
    stored = read_identity(tmp_path / "run")
    assert stored is not None
    assert stored.parent == load(parent).id == Identity.of(recipe, open_data(recipe.data)).parent
    tokenizer = load(parent)
    with torch.no_grad():
        next(tokenizer.parameters()).add_(0.01)
    save_tokenizer(parent / "model", tokenizer, tokenizer.config)
    ids = f"parent tokenizer {stored.parent[:8]}, now {load(parent).id[:8]}"
    with pytest.raises(FlatvqError, match=f"{ids}: restore the tokenizer of train.parent or"):
        run_trial(recipe, tmp_path / "run")


def test_a_run_without_a_parent_has_the_identity_of_before(small_recipe: SmallRecipe, tmp_path: Path) -> None:
    recipe = small_recipe(steps=5)
    run_trial(recipe, tmp_path / "run")
    stored = read_identity(tmp_path / "run")
    assert stored is not None
    content = stored.to_dict()
    assert content.pop("parent") == ""
    write_json(tmp_path / "run" / "identity.json", content)  # as older versions wrote it
    assert run_trial(recipe, tmp_path / "run")


@pytest.mark.parametrize("key", ["width", "hierarchy"])
def test_a_recipe_of_another_model_is_refused(
    key: str, small_recipe: SmallRecipe, parent: Path, tmp_path: Path
) -> None:
    recipe = fine_tuning(small_recipe, parent)
    changed = {"width": 2 * recipe.model.width, "hierarchy": "conditioned"}
    other = recipe.model_copy(update={"model": recipe.model.model_copy(update={key: changed[key]})})
    with pytest.raises(FlatvqError, match=r"the model of the recipe differs from train\.parent"):
        run_trial(other, tmp_path / "run")


def test_another_metric_is_refused(small_recipe: SmallRecipe, parent: Path, tmp_path: Path) -> None:
    recipe = fine_tuning(small_recipe, parent)
    cosine = recipe.model_copy(update={"codebook": recipe.codebook.model_copy(update={"metric": "cosine"})})
    with pytest.raises(FlatvqError, match=r"the codebook.metric of the recipe differs from"):
        run_trial(cosine, tmp_path / "run")


def test_a_missing_parent_is_one_line(small_recipe: SmallRecipe, parent: Path, tmp_path: Path) -> None:
    recipe = fine_tuning(small_recipe, parent)
    gone = recipe.model_copy(update={"train": recipe.train.model_copy(update={"parent": "nowhere"})})
    with pytest.raises(FlatvqError, match="no tokenizer at 'nowhere'"):
        run_trial(gone, tmp_path / "run")
