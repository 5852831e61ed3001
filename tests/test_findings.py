"""The page of findings shows the committed records; its intervals are what other code makes of the images."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from findings import figures, page, tables
from findings.matchings import Health, Matching, matchings
from findings.records import shared_trainings
from findings.rule import Kind, answer
from scipy import stats

from flatvq.evaluate import evaluate_folder
from flatvq.model import capacity_of, load_tokenizer
from flatvq.recipe import CodebookRecipe, ModelRecipe, TrainRecipe, load_recipe, parse
from flatvq.study import plan_study
from flatvq.study.statistics import compare

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PHOTOGRAPHS = ROOT.parent / "shared" / "imagenet-sample" / "val"
PACKED = sorted(path.parent for path in RESULTS.glob("*/images.parquet"))
STORY = page.story(RESULTS)
ARMS = {f"{name}/{arm}" for name, record in STORY.records.items() for arm in record.arms}


def test_the_page_is_rendered_from_the_records() -> None:
    shown = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    assert shown == page.render(STORY), "run `make findings`"


def test_every_figure_is_drawn_and_shown(tmp_path: Path) -> None:
    figures.draw(STORY.records, [claim.pair for claim in STORY.claims], tmp_path)
    drawn = {path.name for path in tmp_path.glob("*.svg")}
    assert drawn == {path.name for path in (ROOT / "docs" / "findings").glob("*.svg")}
    assert all(f"(findings/{name})" in page.render(STORY) for name in drawn)


@pytest.mark.parametrize("folder", PACKED, ids=lambda path: path.name)
def test_a_trials_psnr_is_the_mean_of_its_images(folder: Path) -> None:
    images = pq.read_table(folder / "images.parquet").to_pylist()
    for trial in json.loads((folder / "study.json").read_text())["trials"]:
        own = [row for row in images if (row["arm"], row["seed"]) == (trial["arm"], trial["seed"])]
        assert len(own) == 100
        # Single precision: 24 bits of some 25 dB.
        assert trial["psnr_db"] == pytest.approx(np.mean([row["psnr_db"] for row in own]), abs=1e-5)


@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the photographs of the record are not on this machine")
@pytest.mark.parametrize("arm", ["single", "parallel", "conditioned"])
def test_the_committed_tokenizers_are_those_of_the_record(arm: str) -> None:
    folder = RESULTS / "headline" / "models" / f"{arm}-seed-10"
    found = evaluate_folder(load_tokenizer(folder), PHOTOGRAPHS, crop=64, resize=96)
    trials = json.loads((RESULTS / "headline" / "study.json").read_text())["trials"]
    (trial,) = (one for one in trials if (one["arm"], one["seed"]) == (arm, 10))
    # Another machine's convolutions may round differently, and a rounding may move an index.
    assert found["psnr_db"] == pytest.approx(trial["psnr_db"], abs=0.01)
    assert [level["used_codes"] for level in found["levels"]] == pytest.approx(
        [level["used_codes"] for level in trial["levels"]], abs=2
    )


@pytest.mark.parametrize("path", sorted((ROOT / "findings" / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_can_be_planned_and_is_that_of_its_record(path: Path) -> None:
    plan = plan_study(load_recipe(str(path)), path.stem)
    recorded = json.loads((RESULTS / path.stem / "recipes.json").read_text())
    assert {arm.name for arm in plan.arms} == recorded.keys()
    for arm in plan.arms:
        # Keys that are newer than the record have their defaults there.
        assert arm.recipe.model == parse(ModelRecipe, recorded[arm.name]["model"])
        assert arm.recipe.train == parse(TrainRecipe, recorded[arm.name]["train"])
        assert arm.recipe.codebook == parse(CodebookRecipe, recorded[arm.name]["codebook"])


OF_ARMS = [claim for claim in STORY.claims if f"{claim.pair.record}/{claim.pair.a}" in ARMS]


@pytest.mark.parametrize("claim", OF_ARMS, ids=lambda claim: claim.text)
def test_a_claims_interval_follows_from_the_images(claim) -> None:
    images = pq.read_table(RESULTS / claim.pair.record / "images.parquet").to_pandas()
    by_seed = images.groupby(["arm", "seed"], observed=True)["psnr_db"].mean()
    difference = by_seed[claim.pair.a] - by_seed[claim.pair.b]
    interval = stats.t.interval(0.9, len(difference) - 1, difference.mean(), stats.sem(difference))
    assert claim.pair.difference.interval90 == pytest.approx(interval, abs=1e-4)
    text = f"{difference.mean():+.2f} [{interval[0]:+.2f}, {interval[1]:+.2f}] dB".replace("-", "−")
    assert claim.pair.text == text


@pytest.mark.parametrize(
    ("kind", "seen", "said"),
    [
        # Half widths of three differences are t(0.95, 2) s / sqrt(3) = 1.686 s: 0.17 for 0.1, 0.02 for 0.01.
        ("gain", [0.9, 1.0, 1.1], "yes"),
        ("gain", [-0.1, 0.1, 0.3], "not shown"),
        ("gain", [-1.1, -1.0, -0.9], "no"),
        ("gain", [0.03, 0.04, 0.05], "no"),  # real, and too small to matter
        ("no gain", [0.9, 1.0, 1.1], "no"),
        ("no gain", [0.03, 0.04, 0.05], "yes"),
        ("no gain", [-0.1, 0.1, 0.3], "not shown"),
        ("loss", [-1.1, -1.0, -0.9], "yes"),
        ("loss", [0.9, 1.0, 1.1], "no"),
        ("as good as", [0.9, 1.0, 1.1], "yes"),
        ("as good as", [-0.03, 0.0, 0.03], "yes"),
        ("as good as", [-0.3, 0.0, 0.3], "not shown"),
        ("as good as", [-1.1, -1.0, -0.9], "no"),
    ],
)
def test_answers_follow_from_interval_and_margin(kind: Kind, seen: list[float], said: str) -> None:
    assert answer(kind, compare(seen, [0.0] * 3, margin=0.1)) == said


def test_a_difference_of_differences_is_one_seed_by_seed() -> None:
    (claim,) = (claim for claim in STORY.claims if claim.pair.a == "healthy (256 − 4)")
    images = pq.read_table(RESULTS / "dimension" / "images.parquet").to_pandas()
    psnr = images.groupby(["arm", "seed"], observed=True)["psnr_db"].mean().unstack("arm")
    losses = {kind: psnr[f"{kind}-256-of-512"] - psnr[f"{kind}-4-of-512"] for kind in ("healthy", "naive")}
    assert claim.pair.difference.per_seed == pytest.approx(losses["healthy"] - losses["naive"], abs=1e-4)


@pytest.mark.parametrize("model", ["parallel", "conditioned"])
def test_claims_of_levels_follow_from_the_decoders(model: str) -> None:
    runs = [json.loads(path.read_text()) for path in sorted((RESULTS / "levels").glob(f"{model}-*.json"))]
    psnr = [{decoder["without"]: decoder["psnr_db"] for decoder in run["refitted"]} for run in runs]
    shown = {claim.pair.a: claim.pair.difference.per_seed for claim in STORY.claims if model in claim.pair.a}
    assert shown[f"{model}, all levels"] == pytest.approx([one[None] - one[1] for one in psnr])
    # Both gains are over the bottom alone, which falls out of their difference.
    single = [run["single_level_counterpart"]["psnr_db"] for run in runs]
    expected = [one[None] - flat for one, flat in zip(psnr, single, strict=True)]
    assert shown[f"{model}, gain of the top"] == pytest.approx(expected)


def test_seeds_that_collapsed_can_be_left_out() -> None:
    record = STORY.records["headline"]
    kept = record.pair("single", "parallel", without_collapsed=True).difference
    healthy = [
        one["psnr_db"] - two["psnr_db"]
        for one, two in zip(record.trials("single"), record.trials("parallel"), strict=True)
        if all(level["perplexity"] >= 51.2 for level in two["levels"])
    ]
    assert 0 < len(healthy) < 6
    assert list(kept.per_seed) == pytest.approx(healthy)


BUDGETS = matchings(STORY.records)


@pytest.mark.parametrize("budget", BUDGETS, ids=lambda budget: budget.record.name)
@pytest.mark.parametrize("health", ["naive", "healthy"])
def test_a_budgets_row_follows_from_recipes_and_images(budget: Matching, health: Health) -> None:
    """Capacities are counted anew from the trials' recipes, intervals from the images."""
    folder = RESULTS / budget.record.name
    recipes = json.loads((folder / "recipes.json").read_text())
    models = {arm: ModelRecipe.model_validate(recipe["model"]) for arm, recipe in recipes.items()}
    size = {recipe["data"]["crop"] for recipe in recipes.values()}.pop()
    images = pq.read_table(folder / "images.parquet").to_pandas()
    by_seed = images.groupby(["arm", "seed"], observed=True)["psnr_db"].mean()
    rows = tables.matchings_table([budget], health)[2:]
    ending = {"naive": "-nothing", "healthy": "-both"}[health]
    named = ending if f"single{ending}" in models else ""
    if health == "naive" and not named:
        assert not rows
        return
    (row,) = rows
    spent = {arm: capacity_of(model, size) for arm, model in models.items()}
    for hierarchy in ("parallel", "conditioned"):
        one, two = f"single{named}", f"{hierarchy}{named}"
        if two not in models:
            continue
        of, by = spent[one if hierarchy == "parallel" else two], spent[f"parallel{named}"]
        ratios = (
            of.network_parameters / by.network_parameters,
            of.network_multiply_adds / by.network_multiply_adds,
        )
        left = ", ".join(f"{round(100 * (ratio - 1)):+d} %" for ratio in ratios)
        difference = by_seed[one] - by_seed[two]
        interval = stats.t.interval(0.9, len(difference) - 1, difference.mean(), stats.sem(difference))
        text = f"{left} | {difference.mean():+.2f} [{interval[0]:+.2f}, {interval[1]:+.2f}] dB"
        assert text.replace("-", "−") in row


def test_trainings_that_two_records_share_are_the_reference_arms() -> None:
    """The other arms' models differ by what was matched."""
    names = "imagenet-64-bits", "imagenet-64-multiply-adds"
    psnr = []
    for name in names:
        images = pq.read_table(RESULTS / name / "images.parquet").to_pandas()
        by_seed = images.groupby(["arm", "seed"], observed=True)["psnr_db"].mean()
        psnr.append(by_seed[by_seed.index.get_level_values("arm").str.startswith("parallel")])
    expected = (psnr[0] - psnr[1]).abs()
    shared = shared_trainings(*(STORY.records[name] for name in names))
    assert len(shared) == len(expected) == 12
    assert sorted(shared) == pytest.approx(sorted(expected), abs=1e-4)


def test_one_seed_shows_nothing() -> None:
    assert answer("gain", compare([5.0], [0.0], margin=0.1)) == "not shown"


def test_a_gain_per_doubling_is_the_difference_over_the_doublings() -> None:
    record = STORY.records["size"]
    gains = [record.mean(arm, lambda trial: trial["psnr_db"]) for arm in ("k-1024", "k-64")]
    text = page.per_doubling(record, "k-64", "k-1024")
    assert text.startswith(f"{(gains[0] - gains[1]) / math.log2(1024 / 64):.2f} [")


@pytest.mark.parametrize("name", STORY.searches)
def test_a_searchs_confirmation_follows_from_the_images(name: str) -> None:
    images = pq.read_table(RESULTS / name / "confirm" / "images.parquet").to_pandas()
    psnr = images.groupby(["arm", "seed"], observed=True)["psnr_db"].mean()
    difference = psnr["tuned"] - psnr["incumbent"]
    interval = stats.t.interval(0.9, len(difference) - 1, difference.mean(), stats.sem(difference))
    confirmed = STORY.searches[name]["confirmed"]
    assert confirmed["difference"] == pytest.approx(difference.mean(), abs=1e-4)
    assert confirmed["interval90"] == pytest.approx(interval, abs=1e-4)
    # What the search chose by was not what the confirmation was measured on.
    recipes = json.loads((RESULTS / name / "confirm" / "recipes.json").read_text())
    assert {recipe["data"]["tuning_share"] for recipe in recipes.values()} == {0.0}
