import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from flatvq.errors import FlatvqError
from flatvq.study.estimates import mean_interval, normality_p
from flatvq.study.statistics import compare, contrast

# Decibels in steps of 1/64, so that sums and differences are exact and properties hold for every bit.
decibels = st.integers(20 * 64, 30 * 64).map(lambda n: n / 64)
arms = st.integers(1, 8).flatmap(
    lambda n: st.tuples(
        st.lists(decibels, min_size=n, max_size=n), st.lists(decibels, min_size=n, max_size=n)
    )
)
margins = st.sampled_from([0.0625, 0.125, 0.5, 2.0])
MIRROR = {
    "better": "worse",
    "worse": "better",
    "not worse": "not better",
    "not better": "not worse",
    "equivalent": "equivalent",
    "inconclusive": "inconclusive",
}


def spread(differences):
    assume(len(differences) > 1 and len(set(differences)) > 1)


# --- against scipy


@given(arms, margins)
def test_interval_and_p_value_agree_with_scipys_one_sample_tests(ab, margin):
    a, b = ab
    differences = np.subtract(a, b)
    spread(differences.tolist())
    result = compare(a, b, margin)
    interval = stats.ttest_1samp(differences, 0).confidence_interval(0.90)
    assert result.interval90 == pytest.approx((interval.low, interval.high), rel=1e-9, abs=1e-9)
    above_lower = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    below_upper = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    assert result.p_equivalence == pytest.approx(max(above_lower, below_upper), rel=1e-7, abs=1e-12)
    assert result.mean == pytest.approx(differences.mean(), abs=1e-12)
    assert result.per_seed == tuple(differences)
    assert result.seeds == len(a)


@given(arms, margins)
def test_both_one_sided_tests_reject_exactly_when_the_verdict_is_equivalent(ab, margin):
    result = compare(*ab, margin)
    if result.p_equivalence is None:
        assert result.verdict == "inconclusive"
    else:
        assume(abs(result.p_equivalence - 0.05) > 1e-9)  # rounding may decide here
        assert (result.verdict == "equivalent") == (result.p_equivalence < 0.05)


def test_a_worked_example():
    """Differences 0.02, 0.04, 0.06: mean 0.04, s 0.02, t(0.95, 2) = 2.920."""
    result = compare([25.02, 25.04, 25.06], [25.0, 25.0, 25.0], margin=0.1)
    half = 2.91999 * 0.02 / math.sqrt(3)
    assert result.interval90 == pytest.approx((0.04 - half, 0.04 + half), abs=1e-5)
    # t = (0.1 - 0.04) / (0.02 / sqrt 3) = 5.196 on 2 degrees of freedom: p = (1 - t / sqrt(2 + t^2)) / 2
    assert result.p_equivalence == pytest.approx((1 - 5.19615 / math.sqrt(2 + 27)) / 2, rel=1e-4)
    assert result.verdict == "equivalent"
    assert result.margin == 0.1


@given(st.lists(decibels, min_size=2, max_size=10), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_mean_interval_agrees_with_scipy(values, level):
    spread(values)
    ours = mean_interval(values, level)
    theirs = stats.t.interval(level, len(values) - 1, loc=np.mean(values), scale=stats.sem(values))
    assert ours.interval == pytest.approx(theirs, rel=1e-9)
    assert (ours.seeds, ours.level) == (len(values), level)


# --- verdicts


@pytest.mark.parametrize(
    ("differences", "margin", "verdict"),
    [
        ([0.01, -0.01, 0.0], 0.1, "equivalent"),
        ([0.04, 0.05, 0.06], 0.1, "equivalent"),  # significantly above zero, but within the margin
        ([0.30, 0.31, 0.32], 0.1, "better"),
        ([0.08, 0.10, 0.12], 0.1, "better"),  # above zero, and not within the margin
        ([-0.30, -0.31, -0.32], 0.1, "worse"),
        ([0.5, -0.5, 0.1], 0.1, "inconclusive"),
        ([-0.02, 0.10, 0.22], 0.2, "not worse"),  # 0.1 ± 0.202: from -0.10 to 0.30
        ([0.02, -0.10, -0.22], 0.2, "not better"),
    ],
)
def test_verdicts(differences, margin, verdict):
    assert compare(differences, [0.0] * len(differences), margin).verdict == verdict
    # For a metric of which lower values are better, the signs are exchanged.
    mirrored = compare([-x for x in differences], [0.0] * len(differences), margin, higher_is_better=False)
    assert mirrored.verdict == verdict


@pytest.mark.parametrize(("mean", "verdict"), [(0.1686, "better"), (0.1685, "not worse"), (-0.1686, "worse")])
def test_better_and_worse_begin_where_the_interval_leaves_zero(mean, verdict):
    """With s 0.1 and three seeds, the half width of the interval is 2.91999 * 0.1 / sqrt(3) = 0.16859."""
    assert compare([mean - 0.1, mean, mean + 0.1], [0.0, 0.0, 0.0], margin=0.05).verdict == verdict


@given(arms, margins)
def test_swapping_the_arms_mirrors_everything(ab, margin):
    a, b = ab
    there, back = compare(a, b, margin), compare(b, a, margin)
    assert back.verdict == MIRROR[there.verdict]
    assert back.mean == -there.mean
    assert back.p_equivalence == there.p_equivalence
    if there.interval90 is None:
        assert back.interval90 is None
    else:
        assert back.interval90 == (-there.interval90[1], -there.interval90[0])


@given(arms, margins, st.integers(-64, 64))
def test_shifting_both_arms_changes_nothing(ab, margin, shift):
    a, b = ab
    assert compare([x + shift / 64 for x in a], [x + shift / 64 for x in b], margin) == compare(a, b, margin)


@given(arms, margins, st.sampled_from([0.25, 2.0, 1024.0]))
def test_another_unit_changes_the_numbers_but_not_the_verdict(ab, margin, scale):
    a, b = ab
    small = compare(a, b, margin)
    large = compare([x * scale for x in a], [x * scale for x in b], margin * scale)
    assert (large.verdict, large.p_equivalence) == (small.verdict, small.p_equivalence)
    assert large.mean == small.mean * scale


@given(arms, st.randoms(use_true_random=False))
def test_seeds_are_paired_and_their_order_is_not_evidence(ab, random):
    a, b = ab
    order = list(range(len(a)))
    random.shuffle(order)
    shuffled = compare([a[i] for i in order], [b[i] for i in order], 0.1)
    straight = compare(a, b, 0.1)
    assert shuffled.mean == straight.mean
    if straight.interval90 and shuffled.interval90:
        assert shuffled.interval90 == pytest.approx(straight.interval90, abs=1e-12)


# --- few seeds and no spread


def test_one_seed_decides_nothing():
    result = compare([25.3], [25.0], 0.1)
    assert result.verdict == "inconclusive"
    assert (result.interval90, result.p_equivalence, result.degrees_of_freedom) == (None, None, None)
    assert result.mean == pytest.approx(0.3)
    assert mean_interval([25.3]).interval is None


@pytest.mark.parametrize(
    ("difference", "verdict", "p"),
    [
        (0.0, "equivalent", 0.0),
        (0.125, "equivalent", 0.0),
        (0.25, "better", 1.0),
        (1.0, "better", 1.0),
        (-1.0, "worse", 1.0),
    ],
)
def test_equal_differences_have_an_interval_of_zero_width(difference, verdict, p):
    result = compare([25.0 + difference] * 3, [25.0] * 3, margin=0.25)
    assert result.interval90 == (difference, difference)
    assert (result.verdict, result.p_equivalence) == (verdict, p)


# --- Welch intervals and contrasts


def test_arms_without_spread_have_a_welch_interval_of_zero_width():
    result = compare([25.5] * 3, [25.0] * 5, margin=0.25, interval="welch")
    assert (result.interval90, result.degrees_of_freedom) == ((0.5, 0.5), 2.0)
    assert (result.verdict, result.p_equivalence) == ("better", 1.0)


def test_an_arm_without_spread_adds_nothing_to_a_welch_interval():
    values = [25.0, 25.3, 25.7, 25.1]
    result = compare(values, [25.0] * 9, margin=0.25, interval="welch")
    alone = stats.ttest_1samp(values, 25.0).confidence_interval(0.9)
    assert result.interval90 == pytest.approx((alone.low - 25.0, alone.high - 25.0))
    assert result.degrees_of_freedom == pytest.approx(3)


@given(
    st.lists(decibels, min_size=2, max_size=9),
    st.lists(decibels, min_size=2, max_size=9),
    st.floats(0.01, 0.4),
)
def test_welch_intervals_agree_with_scipy(a, b, level):
    assume(len(set(a)) > 1 and len(set(b)) > 1)
    result = compare(a, b, 0.25, interval="welch", level=level)
    test = stats.ttest_ind(a, b, equal_var=False)
    theirs = test.confidence_interval(1 - 2 * level)
    assert result.interval90 == pytest.approx((theirs.low, theirs.high), rel=1e-6, abs=1e-9)
    assert result.degrees_of_freedom == pytest.approx(test.df, rel=1e-9)
    assert result.seeds == min(len(a), len(b))
    error = (theirs.high - theirs.low) / 2 / stats.t.ppf(1 - level, test.df)
    expected = stats.t.sf((0.25 - abs(result.mean)) / error, test.df)
    assert result.p_equivalence == pytest.approx(expected, rel=1e-6, abs=1e-12)


def test_an_interaction_by_hand():
    """(a - b) - (c - d) = (2 - 1) - (4 - 1.5) = -1.5; variances 2, 0, 0.5, 0.5, each over two seeds."""
    arms = [[1.0, 3.0], [1.0, 1.0], [3.5, 4.5], [1.0, 2.0]]
    result = contrast(arms, [1, -1, -1, 1], 0.5, interval="welch")
    assert result.mean == pytest.approx(-1.5)
    variance = (2 + 0 + 0.5 + 0.5) / 2
    freedom = variance**2 / (1.0**2 + 0.25**2 + 0.25**2)
    assert result.degrees_of_freedom == pytest.approx(freedom)
    half = stats.t.ppf(0.95, freedom) * math.sqrt(variance)
    assert result.interval90 == pytest.approx((-1.5 - half, -1.5 + half))
    paired = contrast(arms, [1, -1, -1, 1], 0.5)
    assert paired.per_seed == (-2.5, -0.5)
    assert paired.interval90 == compare([-2.5, -0.5], [0.0, 0.0], 0.5).interval90


def test_an_arm_of_one_seed_has_no_welch_interval():
    result = compare([25.0, 25.2, 25.4], [25.0], 0.1, interval="welch")
    assert (result.interval90, result.verdict, result.seeds) == (None, "inconclusive", 1)
    assert result.mean == pytest.approx(0.2)


def test_normality_agrees_with_scipy():
    rng = np.random.default_rng(0)
    normal, skewed = rng.standard_normal((2, 30)), rng.exponential(size=(2, 30))
    p_values = [stats.shapiro(sample).pvalue for sample in skewed]
    # Fisher: -2 sum(log p) has a chi-squared distribution with 2 k degrees of freedom.
    assert normality_p(skewed.tolist()) == pytest.approx(stats.chi2.sf(-2 * np.log(p_values).sum(), 4))
    assert normality_p(skewed.tolist()) < 0.001 < 0.05 < normality_p(normal.tolist())
    assert normality_p([[1.0, 2.0], [3.0, 3.0, 3.0]]) is None


# --- long-run behaviour, with a fixed generator


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_arms_that_differ_by_the_margin_are_called_equivalent_at_most_one_time_in_twenty(seeds):
    """The test bounds this error at 5 %. With 2,000 studies its standard error is 0.5 %."""
    rng = np.random.default_rng(seeds)
    studies = rng.normal(0.1, 0.03, (2000, seeds))
    wrong = np.mean([compare(study, np.zeros(seeds), 0.1).verdict == "equivalent" for study in studies])
    assert wrong < 0.05 + 3 * 0.005
    assert wrong > 0.02  # the test does call arms equivalent


def test_equal_arms_are_called_better_or_worse_at_most_one_time_in_ten():
    rng = np.random.default_rng(1)
    verdicts = [compare(study, np.zeros(4), 0.1).verdict for study in rng.normal(0, 0.3, (2000, 4))]
    assert 0.03 < verdicts.count("better") / 2000 < 0.065
    assert 0.03 < verdicts.count("worse") / 2000 < 0.065


def test_the_interval_covers_the_truth_nine_times_in_ten():
    rng = np.random.default_rng(2)
    covered = 0
    for study in rng.normal(0.07, 0.2, (2000, 3)):
        low, high = compare(study, np.zeros(3), 0.1).interval90
        covered += low <= 0.07 <= high
    assert covered / 2000 == pytest.approx(0.90, abs=3 * 0.0067)


# --- invalid input


@pytest.mark.parametrize(
    ("a", "b", "margin", "message"),
    [
        ([1.0, 2.0], [1.0], 0.1, "the arms have 1 and 2 seeds"),
        ([], [], 0.1, "no seeds"),
        ([1.0, math.nan], [1.0, 2.0], 0.1, "arm 1 has the value nan"),
        ([1.0, 2.0], [1.0, -math.inf], 0.1, "arm 2 has the value -inf"),
        ([1.0], [1.0], 0.0, "margin 0.0 is not positive"),
        ([1.0], [1.0], -0.1, "margin -0.1 is not positive"),
        ([1.0], [1.0], math.nan, "margin nan is not positive"),
        ([1.0], [1.0], math.inf, "margin inf is not positive"),
    ],
)
def test_invalid_input_is_refused_in_one_line(a, b, margin, message):
    with pytest.raises(FlatvqError, match=message) as error:
        compare(a, b, margin)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("level", [0.0, 0.5, 5.0, math.nan])
def test_a_level_outside_zero_to_a_half_is_refused(level):
    with pytest.raises(FlatvqError, match=r"level .* is not between 0 and 0.5"):
        compare([1.0, 2.0], [1.0, 2.0], 0.1, level=level)


@pytest.mark.parametrize("interval", ["Paired", "pair", "", None])
def test_an_unknown_interval_is_refused(interval):
    with pytest.raises(FlatvqError, match=r"interval is .*: choose 'paired' or 'welch'"):
        compare([1.0, 2.0], [1.0, 2.5], 0.1, interval=interval)


@pytest.mark.parametrize("values", [[[1.0, 2.0], [1.5, 2.5]], 1.0])
@pytest.mark.parametrize("interval", ["paired", "welch"])
def test_an_arm_has_one_number_per_seed(values, interval):
    with pytest.raises(FlatvqError, match=r"arm 2 has [02] axes, not one: give one number per seed"):
        compare([1.0, 2.0], values, 0.1, interval=interval)
    with pytest.raises(FlatvqError, match=r"the sample has [02] axes, not one"):
        mean_interval(values)


@pytest.mark.parametrize("weights", [[1], [1, -1, 1], [1, math.nan], [1, math.inf], []])
@pytest.mark.parametrize("interval", ["paired", "welch"])
def test_each_arm_has_a_finite_weight(weights, interval):
    with pytest.raises(FlatvqError, match="give a finite weight for each arm"):
        contrast([[1.0, 2.0], [1.0, 2.5]], weights, 0.1, interval=interval)


@pytest.mark.parametrize("level", [0.0, 1.0, 90.0])
def test_a_level_outside_zero_to_one_is_refused(level):
    with pytest.raises(FlatvqError, match="confidence level"):
        mean_interval([1.0, 2.0], level)


@pytest.mark.processes
def test_importing_the_statistics_imports_no_scipy():
    import subprocess
    import sys

    code = "import sys, flatvq.study.statistics; sys.exit('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
