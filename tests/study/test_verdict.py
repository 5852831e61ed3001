"""The sentences follow from the comparisons. Every pair of verdicts is worked out by hand."""

from __future__ import annotations

import pytest

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
    return study_verdict(plan, [Compared(p, compare(differences[p.a], [0.0] * 3, 0.1)) for p in pairs])


@pytest.mark.parametrize(
    ("naive", "healthy", "conclusion"),
    [
        (WORSE, EQUIVALENT, "The hierarchy's advantage went away with the collapse."),
        (WORSE, BETTER, "The hierarchy's advantage went away with the collapse."),
        (INCONCLUSIVE, BETTER, "Once collapse is prevented, the hierarchy shows no advantage."),
        (EQUIVALENT, EQUIVALENT, "Once collapse is prevented, the hierarchy shows no advantage."),
        (WORSE, WORSE, "it remains when collapse is prevented."),
        (BETTER, WORSE, "it remains when collapse is prevented."),
        (WORSE, INCONCLUSIVE, "more seeds are needed."),
        (INCONCLUSIVE, INCONCLUSIVE, "more seeds are needed."),
    ],
)
def test_the_conclusion_follows_from_the_two_verdicts(naive, healthy, conclusion: str) -> None:
    assert verdict(naive, healthy).sentence.endswith(conclusion)


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
    assert sentence.count("Even so") == 1
    assert "Even so, two-level-healthy ended with a collapsed level in 1 of 2 trials." in sentence


def test_many_comparisons_are_counted() -> None:
    plan = plan_study(load_recipe("imagenet-64"), "imagenet-64")
    hierarchy = [pair for pair in plan.comparisons if pair.question == "hierarchy"]
    naive = [pair for pair in hierarchy if pair.a.endswith("nothing")][:3]
    compared = [Compared(pair, compare(BETTER, [0.0] * 3, 0.1)) for pair in [*naive, *naive[:1]]]
    compared.append(Compared(naive[0], compare(INCONCLUSIVE, [0.0] * 3, 0.1)))
    sentence = study_verdict(plan, compared).sentence
    assert sentence == "With naive codebooks, of 5 comparisons: 4 better, 1 inconclusive."
    assert study_verdict(plan, compared[:4]).sentence.count("With naive codebooks") == 4


def test_nothing_compared_says_so() -> None:
    plan = plan_study(load_recipe("photographs"), "photographs")
    assert study_verdict(plan, []).sentence == "No pair of arms could be compared."
