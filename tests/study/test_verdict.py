"""The sentence follows from the comparisons: every pair of verdicts, worked out by hand."""

from __future__ import annotations

import pytest

from flatvq.recipe import load_recipe
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
    ("naive", "healthy", "moral"),
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
def test_the_moral_is_no_more_than_the_two_verdicts_carry(naive, healthy, moral: str) -> None:
    assert verdict(naive, healthy).sentence.endswith(moral)


def test_the_sentence_gives_difference_interval_margin_and_seeds() -> None:
    found = verdict(WORSE, EQUIVALENT)
    # Mean -1.1, standard deviation 0.1, t(0.95, 2) = 2.920: half width 2.920 x 0.1 / sqrt(3) = 0.169.
    assert "single-level-naive reconstructs worse than two-level-naive (-1.10 dB" in found.sentence
    assert "90 % interval -1.27 to -0.93, margin 0.1 dB, 3 seeds)" in found.sentence
    assert (found.naive, found.healthy) == ("worse", "equivalent")


def test_one_seed_has_no_interval_and_no_verdict() -> None:
    plan = plan_study(load_recipe("photographs", ["seeds=[0]"]), "photographs")
    pairs = [pair for pair in plan.comparisons if pair.question == "hierarchy"]
    found = study_verdict(plan, [Compared(pair, compare([1.0], [0.0], 0.1)) for pair in pairs])
    assert "is inconclusive (+1.00 dB, no interval, margin 0.1 dB, 1 seed)" in found.sentence


def test_one_means_against_collapse_is_neither_naive_nor_healthy() -> None:
    plan = plan_study(load_recipe("imagenet-64"), "imagenet-64")
    pairs = {(pair.a, pair.b): pair for pair in plan.comparisons}
    hierarchy = [pairs[f"single-{kind}", f"parallel-{kind}"] for kind in ("init", "replacement", "nothing")]
    found = study_verdict(plan, [Compared(pair, compare(BETTER, [0.0] * 3, 0.1)) for pair in hierarchy])
    naive, initialized, replaced = found.sentence.split(" With ")
    assert naive.startswith("With naive codebooks, single-nothing")
    assert initialized.startswith("codebooks initialized from data and not replaced, single-init")
    assert replaced.startswith("codebooks replaced and not initialized from data, single-replacement")
    assert (found.naive, found.healthy) == ("better", None)
    # An intervention's gain: the arm with more means comes first.
    for more, fewer in (
        ("both", "init"),
        ("both", "replacement"),
        ("init", "nothing"),
        ("replacement", "nothing"),
    ):
        assert (f"single-{more}", f"single-{fewer}") in pairs


def test_a_healthy_arm_that_collapsed_even_so_is_told() -> None:
    plan = plan_study(load_recipe("photographs"), "photographs")
    pairs = [pair for pair in plan.comparisons if pair.question == "hierarchy"]
    compared = [Compared(pair, compare(BETTER, [0.0] * 3, 0.1)) for pair in pairs]

    def trial(arm: str, *collapses: str | None) -> dict:
        return {"arm": arm, "status": "done", "levels": [{"collapse": collapse} for collapse in collapses]}

    trials = [
        trial("two-level-healthy", None, "latents"),
        trial("two-level-healthy", None, None),
        {"arm": "two-level-healthy", "status": "failed", "levels": []},
        trial("single-level-healthy", None),
        trial("two-level-naive", "codes", "codes"),  # nothing was done for it: no surprise, no word
    ]
    sentence = study_verdict(plan, compared, trials).sentence
    assert sentence.count("Even so") == 1
    assert "Even so, two-level-healthy ended with a collapsed level in 1 of 2 trials." in sentence


def test_many_comparisons_are_counted() -> None:
    plan = plan_study(load_recipe("imagenet-64"), "imagenet-64")
    hierarchy = [pair for pair in plan.comparisons if pair.question == "hierarchy"]
    naive = [pair for pair in hierarchy if pair.a.endswith("nothing")]
    compared = [Compared(pair, compare(BETTER, [0.0] * 3, 0.1)) for pair in [*naive, *naive[:1]]]
    compared.append(Compared(naive[0], compare(INCONCLUSIVE, [0.0] * 3, 0.1)))
    told = study_verdict(plan, compared).sentence
    assert told == "With naive codebooks, of 5 comparisons: 4 better, 1 inconclusive."
    assert study_verdict(plan, compared[:4]).sentence.count("With naive codebooks") == 4


def test_nothing_compared_says_so() -> None:
    plan = plan_study(load_recipe("photographs"), "photographs")
    assert study_verdict(plan, []).sentence == "No pair of arms could be compared."
