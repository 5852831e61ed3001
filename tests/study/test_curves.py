"""Rate curves: Bjøntegaard's differences, their intervals, and what a study records of them."""

from __future__ import annotations

import json
import math
import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import integrate, stats

from flatvq import records
from flatvq.cli.tables import console, show_study
from flatvq.errors import FlatvqError
from flatvq.recipe import StudyRecipe, parse
from flatvq.report import write_report
from flatvq.study import plan_study
from flatvq.study.curves import Budget, CurveDifference, compare_curves, extra_bits, gain_at_equal_bits
from flatvq.study.rate_curves import compare_rate_curves

pytestmark = pytest.mark.slow

RATES, PSNR = [1.0, 2.0, 4.0], [20.0, 22.0, 23.0]


def test_a_curve_with_a_quarter_more_bits_everywhere() -> None:
    shifted = [1.25 * rate for rate in RATES]
    assert extra_bits((shifted, PSNR), (RATES, PSNR)) == pytest.approx(math.log(1.25))
    assert extra_bits((RATES, PSNR), (RATES, PSNR)) == pytest.approx(0)
    # In octaves, the first piece has 2 dB an octave and the second 1 dB. Shifted by s, the curve is lower by
    # 2 s where both are on the first piece, by s where both are on the second, and by 2 s to s in between.
    shift = math.log2(1.25)
    between = shift * (2 * shift + shift) / 2
    expected = -((1 - shift) * 2 * shift + between + (1 - shift) * shift) / (2 - shift)
    assert gain_at_equal_bits((shifted, PSNR), (RATES, PSNR)) == pytest.approx(expected, abs=1e-3)


def test_a_curve_that_is_better_everywhere_by_half_a_decibel() -> None:
    higher = [value + 0.5 for value in PSNR]
    assert gain_at_equal_bits((RATES, higher), (RATES, PSNR)) == pytest.approx(0.5)


def test_both_differences_are_integrals_over_the_common_range() -> None:
    one, other = ([0.8, 1.7, 3.1], [20.3, 21.9, 22.6]), (RATES, PSNR)

    def area(x: tuple[list[float], list[float]], y: tuple[list[float], list[float]]) -> float:
        low, high = max(x[0][0], x[1][0]), min(x[0][-1], x[1][-1])
        kinks = [place for place in (*x[0], *x[1]) if low < place < high]
        total, _ = integrate.quad(
            lambda at: np.interp(at, x[0], y[0]) - np.interp(at, x[1], y[1]), low, high, points=kinks
        )
        return float(total / (high - low))

    logs, values = tuple(np.log(each[0]).tolist() for each in (one, other)), (one[1], other[1])
    assert extra_bits(one, other) == pytest.approx(area(values, logs), abs=1e-4)
    assert gain_at_equal_bits(one, other) == pytest.approx(area(logs, values), abs=1e-4)


@pytest.mark.parametrize(
    ("one", "other", "problem"),
    [
        (([1, 2], [20, 21]), ([1, 2], [21, 22]), "no values of the metric in common"),
        (([1, 2], [21, 20]), ([1, 2], [20, 21]), "does not increase"),
        (([2, 1], [20, 21]), ([1, 2], [20, 21]), "does not increase"),
        (
            ([0, 1], [20, 21]),
            ([1, 2], [20, 21]),
            r"a curve has the bits \[0, 1\]: give budgets of more than 0",
        ),
        (([1, 2], [20, 21]), ([-1, 2], [20, 21]), r"a curve has the bits \[-1, 2\]"),
    ],
)
def test_curves_that_cannot_be_compared_are_refused(one: Any, other: Any, problem: str) -> None:
    with pytest.raises(FlatvqError, match=problem):
        extra_bits(one, other)


@pytest.mark.parametrize("shift", [-20.0, -21.0, -24.0, -1e4, 3.0])
def test_the_zero_of_the_metric_changes_nothing(shift: float) -> None:
    def shifted(by: float) -> CurveDifference:
        curves = [
            [Budget((bits, 1.1 * bits), (value - 0.5 + by, value + 0.5 + by)) for bits, value in points]
            for points in ([(1.0, 20.0), (2.0, 22.0), (4.0, 24.0)], [(1.0, 21.0), (4.0, 24.5)])
        ]
        return compare_curves(*curves)

    moved, own = shifted(shift), shifted(0.0)
    for name in ("difference", "log_ratio"):
        assert asdict(getattr(moved, name)) == pytest.approx(asdict(getattr(own, name)), rel=1e-3)


def test_curves_without_common_bits_are_refused() -> None:
    with pytest.raises(FlatvqError, match="no bits in common"):
        gain_at_equal_bits(([1, 2], [20, 21]), ([3, 4], [20, 21]))


@pytest.mark.parametrize("correlation", [0.0, 0.9, -0.9])
def test_intervals_cover_the_true_differences_in_nine_of_ten_studies(correlation: float) -> None:
    """1,000 simulated studies, in which bits and metric of a seed correlate."""
    rng = np.random.default_rng(0)
    covariance = np.array([[0.03**2, correlation * 0.03 * 0.2], [correlation * 0.03 * 0.2, 0.2**2]])
    truth = {"a": [(1.0, 20.4), (2.0, 22.4)], "b": [(1.0, 20.0), (2.0, 22.0)]}
    true_gain, true_ratio = 0.4, -0.2 * math.log(2)  # 0.4 dB at 2 dB an octave is a fifth of an octave
    covered = np.zeros(2)
    for _ in range(1000):
        curves = []
        for points in truth.values():
            drawn = [rng.multivariate_normal(point, covariance, size=6).T for point in points]
            curves.append([Budget(tuple(bits), tuple(values)) for bits, values in drawn])
        result = compare_curves(*curves)
        for number, (estimate, true) in enumerate(
            ((result.difference, true_gain), (result.log_ratio, true_ratio))
        ):
            low, high = estimate.interval(0.05) or (0.0, 0.0)
            covered[number] += low < true < high
    # Three standard errors of a share of 0.9 in 1,000 are 0.028.
    assert np.all(np.abs(covered / 1000 - 0.9) < 0.03)


def test_an_interval_follows_from_the_spread_of_seeds() -> None:
    """Of equal budgets with bits that do not vary, the gain is a mean of differences: Welch's interval."""
    a = [Budget((1.0,) * 3, (20.4, 20.6, 20.5)), Budget((2.0,) * 3, (22.4, 22.6, 22.5))]
    b = [Budget((1.0,) * 3, (20.0, 20.1, 20.2)), Budget((2.0,) * 3, (22.0, 22.1, 22.2))]
    error = math.sqrt(4 * 0.25 * 0.01 / 3)  # four arms, each with a weight of one half
    half = stats.t.ppf(0.95, 8) * error
    estimate = compare_curves(a, b).difference
    assert estimate.mean == pytest.approx(0.4)
    assert estimate.interval(0.05) == pytest.approx((0.4 - half, 0.4 + half), abs=1e-6)


# --- studies

ARMS = {
    f"{kind}-{size}": {"model": {"levels": levels}}
    for size in (16, 256)
    for kind, levels in (
        ("single", [{"codebook_size": size, "downsample": 4}]),
        ("double", [{"codebook_size": size, "downsample": 4}, {"codebook_size": 2, "downsample": 2}]),
    )
}
TREE = {
    "arms": ARMS,
    "data": {"crop": 32},
    "seeds": [0, 1],
    "match": {"unmatched": list(ARMS)},
    "curves": [{"a": ["double-256", "double-16"], "b": ["single-16", "single-256"], "bits": "nominal"}],
}


def trials() -> list[records.Trial]:
    values = {"single-16": 20.0, "single-256": 24.0, "double-16": 20.5, "double-256": 24.5}
    return [
        records.Trial(arm=arm, seed=seed, status="done", run=f"runs/{arm}/{seed}", psnr_db=value + 0.1 * seed)
        for arm, value in values.items()
        for seed in (0, 1)
    ]


def test_curves_are_sorted_by_bits_and_compared_in_bits_per_pixel() -> None:
    plan = plan_study(parse(StudyRecipe, TREE), "mine")
    (record,) = compare_rate_curves(plan, trials(), 0.05)
    assert record.a == ("double-256", "double-16")
    # 64 cells of 4 or 8 bits, and 16 more bits in a hierarchy.
    points = {
        name: ([bits / 1024 for bits in sizes], heights)
        for name, sizes, heights in (
            ("double", (64 * 4 + 16, 64 * 8 + 16), (20.55, 24.55)),
            ("single", (64 * 4, 64 * 8), (20.05, 24.05)),
        )
    }
    assert record.extra_bits_percent == pytest.approx(
        100 * math.expm1(extra_bits(points["double"], points["single"]))
    )
    assert record.difference == pytest.approx(gain_at_equal_bits(points["double"], points["single"]))
    assert record.verdict == "better"
    assert record.seeds == 2
    assert record.shared_bits == pytest.approx(((64 * 4 + 16) / 1024, 64 * 8 / 1024))
    assert record.shared_metric == pytest.approx((20.55, 24.05))


def test_a_trial_that_uses_one_code_counts_with_0_bits() -> None:
    """Two trials of 6 and 0 bits in effect have 3 bits on average, as in a study with seeds of 3 bits."""
    bits = {"single-16": 256.0, "single-256": 512.0, "double-16": 280.0, "double-256": 560.0}

    def compared(of_double_16: tuple[float, float]) -> records.Curves:
        tree = {**TREE, "curves": [{**TREE["curves"][0], "bits": "effective"}]}
        plan = plan_study(parse(StudyRecipe, tree), "mine")
        measured = [
            trial.model_copy(
                update={
                    "effective_bits_per_image": of_double_16[trial.seed]
                    if trial.arm == "double-16"
                    else bits[trial.arm]
                }
            )
            for trial in trials()
        ]
        (record,) = compare_rate_curves(plan, measured, 0.05)
        return record

    collapsed, even = compared((560.0, 0.0)), compared((280.0, 280.0))
    assert collapsed.difference == pytest.approx(even.difference)
    assert collapsed.extra_bits_percent == pytest.approx(even.extra_bits_percent)
    assert collapsed.seeds == 2
    assert compared((0.0, 0.0)).reason is not None


def test_less_is_better_for_some_metrics() -> None:
    plan = plan_study(parse(StudyRecipe, {**TREE, "metric": "mse", "margin": 0.001}), "mine")
    falling = [
        trial.model_copy(update={"mse": 0.3 - (trial.psnr_db or 0) / 100, "psnr_db": None})
        for trial in trials()
    ]
    (record,) = compare_rate_curves(plan, falling, 0.05)
    assert record.difference is not None
    assert record.difference < 0
    assert record.verdict == "better"
    assert record.shared_metric == pytest.approx((0.3 - 0.2405, 0.3 - 0.2055))


def test_a_curve_without_trials_has_a_reason(tmp_path: Path) -> None:
    plan = plan_study(parse(StudyRecipe, TREE), "mine")
    done = [trial for trial in trials() if trial.arm != "single-16"]
    (record,) = compare_rate_curves(plan, done, 0.05)
    assert record.difference is None
    assert record.reason == "arm 'single-16' has no finished trial with nominal bits"


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({"a": ["single-16", "lost"], "b": ["double-16", "double-256"]}, "no arm is named 'lost'"),
        ({"a": ["single-16"], "b": ["double-16", "double-256"]}, "curves.0.a"),
        ({"a": ["single-16", "single-256"], "b": ["single-16", "double-256"]}, "name an arm twice"),
        (
            {"a": ["single-16", "single-256"], "b": ["double-16", "double-256"], "bits": "coded"},
            "need evaluate.prior_images, which arm 'single-16' does not set",
        ),
    ],
)
def test_curves_of_a_recipe_are_checked(curves: dict[str, Any], message: str) -> None:
    with pytest.raises(FlatvqError, match=message) as refused:
        parse(StudyRecipe, {**TREE, "curves": [curves]})
    assert "\n" not in str(refused.value)


def test_curves_are_printed_and_in_the_report(tmp_path: Path) -> None:
    root = Path(__file__).parents[2] / "results" / "frontier-64" / "study.json"
    tree = json.loads(root.read_text(encoding="utf-8"))
    result = {
        "a": ["single-32", "single-512"],
        "b": ["parallel-32", "parallel-512"],
        "bits": "effective",
        "metric": "psnr_db",
        "difference": 0.123,
        "interval90": [0.05, 0.2],
        "verdict": "better",
        "extra_bits_percent": -12.4,
        "extra_bits_interval90": [-20.0, -3.0],
        "seeds": 4,
        "shared_bits": [0.3741, 0.6888],
        "shared_metric": [22.144, 22.553],
    }
    reason = "the curves have no bits in common"
    lost = {**result, "difference": None, "extra_bits_percent": None, "reason": reason}
    tree["curves"] = [result, lost]
    (tmp_path / "study.json").write_text(json.dumps(tree))
    study = records.load_study(tmp_path)
    with console.capture() as printed:
        show_study(study)
    text = " ".join(printed.get().split())
    assert re.search(r"effective \+0.12 better -12 % ", text)
    assert re.search(r"\+0.05 to \+0.20 .*-20 to -3", text)
    assert "the curves have no" in text
    assert "0.374 to 0.689 bits" in text
    assert "22.14 to 22.55 dB" in text
    html = write_report(tmp_path).read_text(encoding="utf-8")
    assert "−12 % [−20, −3]" in html
    assert "0.374 to 0.689 bits per pixel; 22.14 to 22.55 dB" in html
    assert reason in html


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"double-16": {"prior_images": 4}},
            "an equal evaluate.prior_images, but arm 'single-16' has 8 and arm",
        ),
        ({"single-16": {"prior_kind": "order-0"}}, "an equal evaluate.prior_kind, but arm 'single-16' has"),
        ({"single-256": {"prior_images": 0}}, "evaluate.prior_images, which arm 'single-256' does not set"),
        ({}, None),
    ],
)
@pytest.mark.parametrize(
    "compared", [{"metric": "coded_bits_per_image", "margin": 20, "curves": []}, {"metric": "psnr_db"}]
)
def test_coded_bits_are_compared_with_equal_priors(
    changes: dict[str, Any], message: str | None, compared: dict[str, Any]
) -> None:
    curves = [{"a": ["single-16", "single-256"], "b": ["double-16", "double-256"], "bits": "coded"}]
    arms = {name: {**arm, "evaluate": changes.get(name, {})} for name, arm in ARMS.items()}
    tree = {**TREE, "arms": arms, "evaluate": {"prior_images": 8}, "curves": curves, **compared}
    if message is None:
        assert parse(StudyRecipe, tree).arms
        return
    with pytest.raises(FlatvqError, match=message):
        parse(StudyRecipe, tree)
