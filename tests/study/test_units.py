"""Metrics that are not in dB, trials without a value, and arms with few seeds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from flatvq.errors import FlatvqError
from flatvq.evaluate.similarity import ms_ssim_defined
from flatvq.metrics import TRIAL_METRICS
from flatvq.recipe import load_recipe, parse, shipped_recipes
from flatvq.records import Comparison, Trial, check_record
from flatvq.study import Plan, plan_study
from flatvq.study.results import compare_arms
from flatvq.study.verdict import study_verdict

CODED = ["metric=coded_bits_per_image", "evaluate.prior_images=8", "margin=500", "seeds=[0, 1, 2]"]
PAIR = ("single-level-healthy", "two-level-healthy")


def photographs(*overrides: str) -> Plan:
    return plan_study(load_recipe("photographs", list(overrides)), "photographs")


def trials(key: str, values: dict[str, list[float | None]]) -> list[Trial]:
    """A trial for each value, with seeds from 0; None is a trial without a value."""
    return [
        Trial(arm=arm, seed=seed, status="done", run="run", **{key: value})
        for arm, each in values.items()
        for seed, value in enumerate(each)
    ]


def test_differences_of_thousands_of_bits_are_compared_and_recorded() -> None:
    a, b = [26_000.0, 26_400.0, 25_900.0], [20_000.0, 20_200.0, 19_700.0]
    plan = photographs(*CODED)
    done = trials("coded_bits_per_image", dict(zip(PAIR, (a, b), strict=True)))
    (result,) = compare_arms(plan, done, 0.05)
    record = check_record(Comparison, result.to_record().model_dump(mode="json"), "it", "run it again")
    assert record.difference == pytest.approx(np.mean(a) - np.mean(b))
    assert record.interval == pytest.approx(stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.9))
    assert record.margin == 500
    lead = study_verdict(plan, [result], done, 3).lead
    assert lead.startswith("single-level-healthy is worse than two-level-healthy (coded bits +6133.33, ")


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_the_margin_in_db_is_not_the_margin_of_another_metric(name: str) -> None:
    with pytest.raises(FlatvqError, match="metric 'ssim' is not in dB, so the default margin") as refused:
        load_recipe(name, ["metric=ssim"])
    assert "\n" not in str(refused.value)
    recipe = load_recipe(name, ["metric=ssim", "margin=0.005"])
    assert (recipe.metric, recipe.margin) == ("ssim", 0.005)
    assert load_recipe(name).margin == 0.1
    # The recipe that a study writes into its folder has all keys.
    assert parse(type(recipe), recipe.model_dump(mode="json")) == recipe


def test_a_metric_that_no_crop_is_large_enough_for_is_refused() -> None:
    smallest = TRIAL_METRICS["ms_ssim"].smallest_crop
    assert ms_ssim_defined(smallest, smallest)
    assert not ms_ssim_defined(smallest - 1, smallest - 1)
    overrides = ["metric=ms_ssim", "margin=0.01"]
    with pytest.raises(FlatvqError, match=r"needs crops of 176 pixels or more, but arm '.*' has 168"):
        load_recipe("photographs", [*overrides, "data.crop=168"])
    assert load_recipe("photographs", [*overrides, "data.crop=176"]).metric == "ms_ssim"


def test_the_margin_decides_how_many_digits_a_sentence_has() -> None:
    plan = photographs("metric=ssim", "margin=0.005", "seeds=[0, 1, 2]")
    done = trials("ssim", {PAIR[0]: [0.701, 0.702, 0.703], PAIR[1]: [0.7005, 0.7015, 0.7025]})
    lead = study_verdict(plan, compare_arms(plan, done, 0.05), done, 3).lead
    half = stats.t.ppf(0.95, 4) * 0.001 * np.sqrt(2 / 3)
    expected = f"(SSIM +0.0005, 90 % interval {0.0005 - half:+.4f} to {0.0005 + half:+.4f}, margin 0.005"
    assert expected in lead


def test_trials_without_a_value_are_named() -> None:
    plan = photographs("metric=psnr_db", "seeds=[0, 1, 2]")
    done = trials("psnr_db", {PAIR[0]: [25.0, None, 25.2], PAIR[1]: [24.0, 24.1, 24.2]})
    done += [Trial(arm="two-level-naive", seed=seed, status="failed", run="run") for seed in range(2)]
    sentence = study_verdict(plan, compare_arms(plan, done, 0.05), done, 3).sentence
    assert "1 of 3 trials of single-level-healthy has no result. The comparisons leave it out." in sentence
    assert "2 of 2 trials of two-level-naive have no result. The comparisons leave them out." in sentence
    assert "trials of two-level-healthy" not in sentence


def test_arms_with_fewer_seeds_than_the_first_look_cannot_be_primary() -> None:
    message = "arm 'two-level-healthy' of the primary comparison has max_seeds 15, fewer than the first look"
    with pytest.raises(FlatvqError, match=message) as refused:
        photographs("arms.two-level-healthy.max_seeds=15")
    assert "set it to 16 or more" in str(refused.value)
    assert photographs("arms.two-level-healthy.max_seeds=16").primary


def test_only_pairs_of_one_model_say_what_preventing_collapse_helps() -> None:
    """(a - b) - (c - d), where a and b, or c and d, are different models."""
    seeds = ["metric=psnr_db", "seeds=[0, 1, 2]", "arms.two-level-naive.max_seeds=0"]
    values = {"single-level-healthy": 25.0, "two-level-naive": 22.0, "two-level-healthy": 24.0}
    values["single-level-naive"] = 23.5
    done = trials("psnr_db", {arm: [value, value + 0.1, value - 0.1] for arm, value in values.items()})
    for (b, d), start in (
        (("single-level-naive", "two-level-naive"), "preventing collapse helps single-level-healthy less"),
        (("two-level-naive", "single-level-naive"), "single-level-healthy gains more over two-level-naive"),
    ):
        named = f"interactions=[[single-level-healthy, {b}, two-level-healthy, {d}]]"
        plan = photographs(*seeds, named)
        sentence = study_verdict(plan, compare_arms(plan, done, 0.05), done, 3).sentence
        assert f"Interaction: {start}" in sentence
