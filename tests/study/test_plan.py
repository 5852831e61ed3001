"""The plan of a study: matching, refusals, trial keys and the pairs to compare."""

from __future__ import annotations

from typing import Any

import pytest

from flatvq.errors import FlatvqError
from flatvq.recipe import StudyRecipe, load_recipe, merge, parse, shipped_recipes
from flatvq.study import plan_study, planned_trial

TWO = [{"downsample": 4, "codebook_size": 1024}, {"downsample": 2, "codebook_size": 1024}]
ONE = [{"downsample": 4, "codebook_size": 1024}]


def recipe(**changes: Any) -> StudyRecipe:
    tree = {
        "data": {"crop": 256},
        "arms": {"two": {"model": {"levels": TWO}}, "one": {"model": {"levels": ONE}}},
        "match": {"capacities": ["bits"]},
    }
    return parse(StudyRecipe, merge(tree, changes))


def test_an_unmatched_pair_is_refused_with_its_residual() -> None:
    # 64 x 64 x 10 = 40,960 bits against 64 x 64 x 10 + 32 x 32 x 10 = 51,200: a fifth less.
    with pytest.raises(FlatvqError, match=r"'one' does not match 'two': bits -20\.0% \(tolerance 1\.0%\)"):
        plan_study(recipe(), "pair")


def test_the_solver_matches_the_arms_and_lists_its_changes() -> None:
    plan = plan_study(recipe(match={"solve": True}), "pair")
    arm = plan.arm("one")
    assert arm.changes == {"levels.0.codebook_size": (1024, 5793)}
    assert {trial.recipe.model.levels[0].codebook_size for trial in plan.trials} == {1024, 5793}
    assert abs(arm.residuals["bits"]) < 1e-4


def test_an_unmatched_arm_is_accepted_if_it_is_named() -> None:
    plan = plan_study(recipe(match={"unmatched": ["one"]}), "pair")
    assert plan.arm("one").residuals["bits"] == pytest.approx(-0.2)


def test_an_arm_that_the_solver_cannot_match_is_refused() -> None:
    scalar = {"model": {"levels": [{"downsample": 4, "scalar_levels": [8, 5, 5, 5]}]}}
    with pytest.raises(FlatvqError, match="arm 'one' does not match 'two': bits"):
        plan_study(recipe(arms={"one": scalar}, match={"solve": True}), "pair")


def test_the_closest_match_is_accepted_if_the_recipe_says_so() -> None:
    everything = {"capacities": ["bits", "parameters", "multiply_adds"], "solve": True}
    with pytest.raises(FlatvqError, match=r"multiply_adds \+.*set match.nearest=true"):
        plan_study(recipe(match=everything), "pair")
    one = plan_study(recipe(match={**everything, "nearest": True}), "pair").arm("one")
    # One level has few weights for its multiply-adds: it has fewer parameters and more multiply-adds.
    assert one.residuals["parameters"] == pytest.approx(-one.residuals["multiply_adds"], abs=0.02)
    assert abs(one.residuals["bits"]) < 1e-4
    with pytest.raises(FlatvqError, match="nearest"):
        recipe(match={"nearest": True})


def test_pairs_that_differ_in_one_thing_are_compared() -> None:
    plan = plan_study(load_recipe("photographs"), "photographs")
    assert [(c.question, *c.arms) for c in plan.comparisons] == [
        ("hierarchy", "single-level-healthy", "two-level-healthy"),
        ("hierarchy", "single-level-naive", "two-level-naive"),
        ("intervention", "two-level-healthy", "two-level-naive"),
        ("intervention", "single-level-healthy", "single-level-naive"),
        (
            "interaction",
            "single-level-healthy",
            "single-level-naive",
            "two-level-healthy",
            "two-level-naive",
        ),
    ]
    assert [c.primary for c in plan.comparisons] == [True, False, False, False, False]


ODD = ["primary=[two-level-healthy, single-level-naive]", "arms.single-level-naive.max_seeds=0"]


def test_the_primary_comparison_and_the_interactions_can_be_named() -> None:
    named = ["primary=[two-level-healthy, two-level-naive]", "arms.two-level-naive.max_seeds=0"]
    named += ["interactions=[[two-level-naive, single-level-naive, two-level-healthy, single-level-healthy]]"]
    plan = plan_study(load_recipe("photographs", named), "photographs")
    assert (plan.comparisons[0].arms, plan.comparisons[0].primary) == (
        ("two-level-healthy", "two-level-naive"),
        True,
    )
    (interaction,) = (c for c in plan.comparisons if c.question == "interaction")
    assert interaction.arms[0] == "two-level-naive"
    assert interaction.weights == (1, -1, -1, 1)
    # A pair that is not among the comparisons is added.
    odd = plan_study(load_recipe("photographs", ODD), "p")
    assert (odd.comparisons[0].question, odd.comparisons[0].primary) == ("asked", True)


def test_trials_of_a_look() -> None:
    overrides = [
        "looks=[2, 4]",
        "arms.two-level-naive.max_seeds=3",
        "arms.single-level-naive.max_seeds=1",
        "seeds=[7, 5, 3, 1]",
    ]
    plan = plan_study(load_recipe("photographs", overrides), "photographs")
    assert [(t.recipe.arm, t.recipe.seed) for t in plan.trials_at(2)] == [
        ("two-level-naive", 7),
        ("two-level-healthy", 7),
        ("single-level-naive", 7),
        ("single-level-healthy", 7),
        ("two-level-naive", 5),
        ("two-level-healthy", 5),
        ("single-level-healthy", 5),
    ]
    assert len(plan.trials_at()) == len(plan.trials) == 3 + 4 + 1 + 4


def test_arms_of_which_no_two_can_be_compared_are_refused_before_anything_trains() -> None:
    arms = {"two": {"model": {"levels": TWO}}, "one": {"train": {"learning_rate": 0.1}}}
    with pytest.raises(FlatvqError, match=r"no arms would be compared") as raised:
        plan_study(recipe(arms=arms, match={"solve": True}), "pair")
    assert "compare: [[two, one]]" in str(raised.value)
    named = plan_study(recipe(arms=arms, match={"solve": True}, compare=[["two", "one"]]), "pair")
    assert [(pair.a, pair.b) for pair in named.comparisons] == [("two", "one")]


@pytest.mark.parametrize("section", [{"data": {"limit": 9}}, {"train": {"learning_rate": 0.1}}])
def test_arms_that_differ_in_the_data_or_the_training_are_not_compared(section: dict[str, Any]) -> None:
    other = {"model": {"levels": ONE}, **section}
    plan = plan_study(recipe(arms={"other": other}, match={"solve": True}), "three")
    assert [comparison.arms for comparison in plan.comparisons] == [("one", "two")]


def test_named_pairs_keep_their_order() -> None:
    plan = plan_study(recipe(compare=[["two", "one"]], match={"solve": True}), "pair")
    assert [(pair.question, pair.a, pair.b) for pair in plan.comparisons] == [("hierarchy", "two", "one")]


def test_a_trial_folder_is_named_after_its_recipe() -> None:
    base = plan_study(recipe(match={"solve": True}), "a")
    same = plan_study(recipe(match={"solve": True}, margin=0.2, title="other"), "b")
    other = plan_study(recipe(match={"solve": True}, train={"learning_rate": 1e-4}), "c")
    runs = [{trial.run for trial in plan.trials} for plan in (base, same, other)]
    assert runs[0] == runs[1]
    assert not runs[0] & runs[2]
    assert len(runs[0]) == 2 * 128


@pytest.mark.parametrize("name", sorted(shipped_recipes()))
def test_every_shipped_recipe_loads_plans_and_heads_with_what_to_expect(name: str) -> None:
    plan = plan_study(load_recipe(name), name)
    assert len(plan.trials) == sum(len(plan.recipe.seeds_of(arm.name)) for arm in plan.arms)
    assert plan.primary is not None
    head = [line for line in shipped_recipes()[name].splitlines() if line.startswith("#")]
    assert head[0].startswith(f"# flatvq study {name}")
    assert any(line.startswith("# Time:") for line in head)
    assert any(line.startswith("# Expect") for line in head)


def test_an_unknown_arm_names_the_nearest() -> None:
    with pytest.raises(FlatvqError, match="did you mean 'single-level-naive'"):
        planned_trial(load_recipe("photographs"), "single-level-naiv", 0)


def test_arms_with_one_and_three_channels_are_refused() -> None:
    grey = {"model": {"levels": ONE, "channels": 1}}
    with pytest.raises(FlatvqError, match=r"channels 1 and 3 .* give all arms the same"):
        plan_study(recipe(arms={"one": grey}, match={"solve": True}, compare=[["two", "one"]]), "pair")
    both = plan_study(recipe(model={"channels": 1}, match={"solve": True}), "pair")
    assert {trial.recipe.model.channels for trial in both.trials} == {1}
