"""Model cards state what the records of a run hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from scipy import stats

import flatvq
from flatvq.model import build_vqvae, capacity_of, save_tokenizer
from flatvq.recipe import CodebookRecipe, ModelRecipe, parse
from flatvq.recipe.study import StudyRecipe
from flatvq.tokenizers import local_folder

STUDY: dict[str, Any] = {
    "data": {"crop": 32},
    "model": {"width": 8, "residual_width": 4, "levels": [{"codebook_size": 16, "code_dim": 4}]},
    "codebook": {"init": {"kind": "data", "vectors_per_code": 1}, "replacement": None},
    "train": {"steps": 2, "batch_size": 4},
    "arms": {"only": {}},
    "seeds": [0, 1],
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two steps."""
    folder = tmp_path_factory.mktemp("runs") / "only-0"
    assert flatvq.run_trial(parse(StudyRecipe, STUDY, "recipe").trial("only", 0), folder)
    return folder


@pytest.fixture(scope="module")
def card(run: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    place = flatvq.load(run).save_pretrained(tmp_path_factory.mktemp("saved"), dtype="float16")
    return (place / "README.md").read_text()


def row_of(card: str, first: str) -> list[str]:
    """Return the cells of the row of a table that starts with this cell."""
    (row,) = re.findall(rf"^\| {re.escape(first)} \|(.*)\|$", card, re.MULTILINE)
    return [cell.strip() for cell in row.split("|")]


def test_the_size_of_the_training_is_that_of_the_tokenizer(run: Path) -> None:
    expected = flatvq.Preprocess(resize=0, crop=32, channels=3)
    assert flatvq.load(run).preprocess == flatvq.load(run / "model").preprocess == expected


def test_the_header_is_read_by_the_hub(card: str) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="needs huggingface_hub, of the extra hub")
    _, header, _ = card.split("---\n", 2)
    assert yaml.safe_load(header)["library_name"] == "flatvq"
    assert hub.ModelCard(card).data.tags == ["flatvq", "image-tokenizer", "vq-vae"]


def test_the_card_states_data_and_budget(run: Path, card: str) -> None:
    trial = parse(StudyRecipe, STUDY, "recipe").trial("only", 0)
    assert "- Data: photographs\n" in card
    assert "- Budget: 2 steps of 4 crops of 32 × 32, seed 0\n" in card
    assert f"{capacity_of(trial.model, 32).parameters:,} parameters, 64 in codebooks" in card
    spent = capacity_of(trial.model, 32)
    total = spent.network_multiply_adds + spent.search_multiply_adds  # searches count once
    assert f", {total / 1e3:.0f} k multiply-adds per crop" in card
    assert "- Measures against codebook collapse: initialization from data\n" in card


@pytest.mark.parametrize("name", ["flatvq-f4", "flatvq-f8"])
def test_the_cards_of_pretrained_tokenizers_state_their_size(name: str) -> None:
    folder = local_folder(name)
    card = (folder / "README.md").read_text(encoding="utf-8")
    (crop,) = map(int, re.findall(r"crops of (\d+) × \d+, seed", card))
    spent = capacity_of(flatvq.load(name).recipe, crop)
    assert f"- Size: {spent.parameters:,} parameters, {spent.codebook_parameters:,} in codebooks" in card
    assert f", {spent.multiply_adds / 1e6:.0f} M multiply-adds per crop\n" in card


def test_the_card_states_fidelity_with_intervals(run: Path, card: str) -> None:
    metrics = flatvq.read_metrics(run)
    assert f"On {metrics.images:,} held-out images, protocol `{metrics.evaluation_protocol}`." in card
    values = pq.read_table(run / "images.parquet")["psnr_db"].to_numpy()
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    mean, interval = row_of(card, "PSNR, dB")
    assert mean == f"{values.mean():.2f}"
    assert interval == f"{values.mean() - half:.2f} to {values.mean() + half:.2f}"
    assert "seeds of the same study" not in card


def test_the_card_states_the_health_of_each_codebook(run: Path, card: str) -> None:
    (level,) = flatvq.read_metrics(run).levels
    (counts,) = flatvq.read_codes(run).levels
    table = card[card.index("## Codebooks") :]
    codes, in_use, unused, perplexity, *_ = row_of(table, "0")
    assert (codes, unused) == ("16", str(sum(count == 0 for count in counts.counts)))
    assert in_use == f"{100 * level.usage:.1f} %"
    assert perplexity == f"{level.perplexity:.1f}"


def test_the_card_states_limits_and_identity(card: str, run: Path, tmp_path: Path) -> None:
    limits = card[card.index("## Limits") :]
    assert "crops of 32 pixels, at no other size" in limits
    assert "stored in float16" in limits
    exact = flatvq.load(run).save_pretrained(tmp_path)
    other = (exact / "README.md").read_text()
    assert "stored in float16" not in other
    assert f"`{flatvq.load(exact).id}`" in other
    assert f"`{flatvq.load(exact).id}`" not in card


@pytest.mark.slow
@pytest.mark.processes
def test_a_study_gives_the_interval_over_seeds(tmp_path: Path) -> None:
    study = flatvq.run_study(parse(StudyRecipe, STUDY, "recipe"), tmp_path / "study")
    psnrs = [trial.psnr_db for trial in study.trials]
    run = study.trials[0].folder(tmp_path / "study")
    card = (flatvq.load(run).save_pretrained(tmp_path / "saved") / "README.md").read_text()
    low, high = stats.t.interval(0.95, 1, np.mean(psnrs), stats.sem(psnrs))
    expected = f"PSNR is {np.mean(psnrs):.2f} dB, 95 % interval {low:.2f} to {high:.2f}."
    assert f"Over 2 seeds of the same study, {expected}".replace("-", "−") in card


def test_the_card_of_changed_weights_repeats_no_records(run: Path, tmp_path: Path) -> None:
    tokenizer = flatvq.load(run)
    tokenizer.preprocess = tokenizer.preprocess.with_size(resize=64)
    same = tokenizer.save_pretrained(tmp_path / "same") / "README.md"
    assert "## Fidelity" in same.read_text()
    next(tokenizer.parameters()).data += 1
    other = (tokenizer.save_pretrained(tmp_path / "other") / "README.md").read_text()
    assert "No record of the training is available" in other
    assert "- Fidelity was not measured." in other


def test_a_card_without_records_says_so(tmp_path: Path) -> None:
    recipe = ModelRecipe.model_validate({"width": 8, "residual_width": 4})
    config = {"model": recipe.model_dump(mode="json")}
    save_tokenizer(tmp_path / "model", build_vqvae(recipe, CodebookRecipe()), config)
    card = (flatvq.load(tmp_path / "model").save_pretrained(tmp_path / "saved") / "README.md").read_text()
    assert "No record of the training is available: data, budget and fidelity are unknown." in card
    assert "## Fidelity" not in card
    assert "- Fidelity was not measured." in card
