"""The record of error rates: within the bounds, for every committed recipe, and as the page shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks.error_rates import SCHEDULES, Setting, simulated, table

from flatvq.recipe import load_recipe, shipped_recipes
from flatvq.study.looks import nominal_level

ROOT = Path(__file__).parents[1]
RECORD = json.loads((ROOT / "results" / "error-rates.json").read_text())


def test_each_side_errs_as_rarely_as_stated() -> None:
    assert RECORD["studies"] == 100_000
    for row in RECORD["settings"]:
        limit = {"normal": 0.05, "unequal arms": 0.05}.get(row["spread"], 0.06)
        if row["spread"] != "collapsing trials":
            assert max(row["false_high"], row["false_low"]) <= limit, row


def test_the_record_is_of_the_landed_rule_and_of_every_committed_schedule() -> None:
    assert {tuple(row["looks"]) for row in RECORD["settings"]} == set(SCHEDULES)
    recipes = [*shipped_recipes(), *map(str, (ROOT / "findings" / "recipes").glob("*.yaml"))]
    assert {load_recipe(recipe).looks for recipe in recipes} <= set(SCHEDULES)
    for row in RECORD["settings"]:
        # Another version of NumPy may draw other numbers.
        assert nominal_level(tuple(row["looks"])) == pytest.approx(row["level"], abs=3e-4)


def test_the_page_shows_the_record() -> None:
    page = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    shown = page.split("<!-- error rates -->\n")[1].split("\n<!-- /error rates -->")[0]
    assert shown == table(RECORD)


def test_a_few_studies_are_simulated_as_flatvq_judges_them() -> None:
    row = simulated(Setting((4, 8), "welch", "normal", 0.0, 0.2), studies=50, seed=3)
    assert sum(row["answers"].values()) == pytest.approx(1)
    assert 4 <= row["mean_seeds"] <= 8
