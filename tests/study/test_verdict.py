"""The sentences follow from the comparisons. Every pair of verdicts is worked out by hand."""

from __future__ import annotations

import pytest

from flatvq.metrics import TRIAL_METRICS
from flatvq.recipe import load_recipe
from flatvq.records import Trial, TrialLevel
from flatvq.study import plan_study
from flatvq.study.statistics import compare
from flatvq.study.verdict import Compared, study_verdict

# Single-level minus two-level, in dB, for three seeds; the margin is 0.1 dB.
BETTER, WORSE = [1.0, 1.1, 1.2], [-1.0, -1.1, -1.2]
EQUIVALENT, INCONCLUSIVE = [0.01, 0.0, -0.01], [0.5, -0.5, 0.1]


def verdict(naive: list[float], healthy: list[float]):
    plan = plan_study(load_recipe("photographs"), "photographs")
    pairs = [pair for pair in plan.comparisons if pair.question == "hierarchy"]
    differences = {"single-level-naive": naive, "single-level-healthy": healthy}
    return study_verdict(
        plan, [Compared(p, compare(differences[p.a], [0.0] * 3, 0.1)) for p in pairs], look=16
    )


YES = "So single-level-healthy is on a par (at most 0.1 dB worse)."
NO = "So single-level-healthy is not on a par (more than 0.1 dB worse)."
OPEN = "Whether single-level-healthy is on a par (at most 0.1 dB worse) is open."


@pytest.mark.parametrize(
    ("healthy", "statement", "on_a_par"),
    [
        (BETTER, "single-level-healthy reconstructs better than two-level-healthy", None),
        (EQUIVALENT, "single-level-healthy is equivalent to two-level-healthy", YES),
        (WORSE, "single-level-healthy reconstructs worse than two-level-healthy", NO),
        (INCONCLUSIVE, "single-level-healthy against two-level-healthy is inconclusive", OPEN),
        # 0.1 ± 0.169 and -0.1 ± 0.169: neither leaves zero, and each leaves the margin on one side only.
        ([0.0, 0.1, 0.2], "single-level-healthy is at most the margin worse than two-level-healthy", YES),
        (
            [0.0, -0.1, -0.2],
            "single-level-healthy is at most the margin better than two-level-healthy",
            OPEN,
        ),
    ],
)
def test_the_primary_comparison_comes_first_and_says_whether_the_arm_is_on_a_par(
    healthy: list[float], statement: str, on_a_par: str | None
) -> None:
    result = verdict(WORSE, healthy)
    assert result.sentence.startswith(statement)
    assert "(look 1 of 2, " in result.sentence
    if on_a_par:
        assert on_a_par in result.lead
    else:
        assert "on a par" not in result.lead
    assert result.primary == result.healthy
    assert result.sentence == f"{result.lead} {result.rest}"
    assert result.rest.startswith("With naive codebooks")


@pytest.mark.parametrize(
    ("higher", "on_a_par"), [(WORSE, YES), (EQUIVALENT, YES), (BETTER, NO), (INCONCLUSIVE, OPEN)]
)
def test_an_arm_with_a_lower_value_is_on_a_par_if_less_is_better(higher: list[float], on_a_par: str) -> None:
    plan = plan_study(load_recipe("photographs"), "photographs")
    difference = compare(higher, [0.0] * 3, 0.1, higher_is_better=False)
    lead = study_verdict(
        plan, [Compared(plan.comparisons[0], difference, TRIAL_METRICS["mse"])], look=16
    ).lead
    if difference.verdict == "better":
        assert "on a par" not in lead
    else:
        assert on_a_par.replace(" dB", "") in lead


@pytest.mark.parametrize(
    ("values", "statement"),
    [
        (BETTER, "preventing collapse helps single-level-healthy more than two-level-healthy"),
        (WORSE, "preventing collapse helps single-level-healthy less than two-level-healthy"),
        (EQUIVALENT, "preventing collapse helps single-level-healthy as much as two-level-healthy"),
        (INCONCLUSIVE, "whether preventing collapse helps single-level-healthy more or less"),
    ],
)
def test_an_interaction_has_its_own_sentence(values: list[float], statement: str) -> None:
    plan = plan_study(load_recipe("photographs"), "photographs")
    (interaction,) = (pair for pair in plan.comparisons if pair.question == "interaction")
    assert interaction.arms == (
        "single-level-healthy",
        "single-level-naive",
        "two-level-healthy",
        "two-level-naive",
    )
    sentence = study_verdict(plan, [Compared(interaction, compare(values, [0.0] * 3, 0.1))]).sentence
    assert sentence.startswith(f"Interaction: {statement}")


def test_an_interaction_of_other_changes_names_all_four_arms() -> None:
    recipe = "findings/recipes/length.yaml"
    plan = plan_study(load_recipe(recipe), "length")
    interaction = next(pair for pair in plan.comparisons if pair.question == "interaction")
    sentence = study_verdict(plan, [Compared(interaction, compare(BETTER, [0.0] * 3, 0.1))]).sentence
    assert sentence.startswith(
        "Interaction: single-4000 gains more over single-250 than parallel-4000 over parallel-250 ("
    )


def test_seeds_that_do_not_spread_normally_are_reported() -> None:
    plan = plan_study(load_recipe("photographs"), "photographs")
    result = Compared(plan.comparisons[0], compare(BETTER, [0.0] * 3, 0.1), normality_p=0.004)
    assert "do not spread normally (p = 0.004)" in study_verdict(plan, [result]).sentence


def test_the_sentence_gives_difference_interval_margin_and_seeds() -> None:
    result = verdict(WORSE, EQUIVALENT)
    # Mean -1.1, standard deviation 0.1, t(0.95, 2) = 2.920: half width 2.920 x 0.1 / sqrt(3) = 0.169.
    assert "single-level-naive reconstructs worse than two-level-naive (-1.10 dB" in result.sentence
    assert "90 % interval -1.27 to -0.93, margin 0.1 dB, 3 seeds)" in result.sentence
    assert (result.naive, result.healthy) == ("worse", "equivalent")


def test_one_seed_has_no_interval_and_no_verdict() -> None:
    plan = plan_study(load_recipe("photographs", ["seeds=[0]"]), "photographs")
    pairs = [pair for pair in plan.comparisons if pair.question == "hierarchy"]
    result = study_verdict(plan, [Compared(pair, compare([1.0], [0.0], 0.1)) for pair in pairs])
    assert "is inconclusive (+1.00 dB, no interval, margin 0.1 dB, 1 seed)" in result.sentence
    assert "on a par" not in result.sentence


def test_one_measure_against_collapse_is_neither_naive_nor_healthy() -> None:
    plan = plan_study(load_recipe("imagenet-64"), "imagenet-64")
    pairs = {(pair.a, pair.b): pair for pair in plan.comparisons}
    hierarchy = [pairs[f"single-{kind}", f"parallel-{kind}"] for kind in ("init", "replacement", "nothing")]
    result = study_verdict(plan, [Compared(pair, compare(BETTER, [0.0] * 3, 0.1)) for pair in hierarchy])
    naive, initialized, replaced = result.sentence.split(" With ")
    assert naive.startswith("With naive codebooks, single-nothing")
    assert initialized.startswith("codebooks initialized from data and not replaced, single-init")
    assert replaced.startswith("codebooks replaced and not initialized from data, single-replacement")
    assert (result.naive, result.healthy) == ("better", None)
    # The arm with more measures against collapse comes first.
    for more, fewer in (
        ("both", "init"),
        ("both", "replacement"),
        ("init", "nothing"),
        ("replacement", "nothing"),
    ):
        assert (f"single-{more}", f"single-{fewer}") in pairs


def test_a_healthy_arm_with_collapsed_trials_is_named() -> None:
    plan = plan_study(load_recipe("photographs"), "photographs")
    pairs = [pair for pair in plan.comparisons if pair.question == "hierarchy"]
    compared = [Compared(pair, compare(BETTER, [0.0] * 3, 0.1)) for pair in pairs]

    def trial(arm: str, *collapses: str | None, status: str = "done") -> Trial:
        levels = tuple(TrialLevel(codebook_size=8, collapse=collapse) for collapse in collapses)
        return Trial(arm=arm, seed=0, status=status, run="run", levels=levels)

    trials = [
        trial("two-level-healthy", None, "latents"),
        trial("two-level-healthy", None, None),
        trial("two-level-healthy", status="failed"),
        trial("single-level-healthy", None),
        trial("two-level-naive", "codes", "codes"),  # a collapse of a naive codebook is expected
    ]
    sentence = study_verdict(plan, compared, trials).sentence
    assert sentence.count("Despite") == 1
    assert "collapse, two-level-healthy ended with a collapsed level in 1 of 2 trials." in sentence


def test_many_comparisons_are_counted() -> None:
    plan = plan_study(load_recipe("imagenet-64"), "imagenet-64")
    hierarchy = [pair for pair in plan.comparisons if pair.question == "hierarchy" and not pair.primary]
    naive = [pair for pair in hierarchy if pair.a.endswith("nothing")][:3]
    compared = [Compared(pair, compare(BETTER, [0.0] * 3, 0.1)) for pair in [*naive, *naive[:1]]]
    compared.append(Compared(naive[0], compare(INCONCLUSIVE, [0.0] * 3, 0.1)))
    sentence = study_verdict(plan, compared).sentence
    assert sentence == "With naive codebooks, of 5 comparisons: 4 better, 1 inconclusive."
    assert study_verdict(plan, compared[:4]).sentence.count("With naive codebooks") == 4


def test_nothing_compared_says_so() -> None:
    plan = plan_study(load_recipe("photographs"), "photographs")
    assert study_verdict(plan, []).sentence == "No pair of arms could be compared."
