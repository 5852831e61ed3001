"""The level of a look: against brute force, against published constants, and its properties."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from flatvq.study.looks import ERROR, SKEWED_ERROR, _level, nominal_level


def errors(looks: tuple[int, ...], studies: np.ndarray, level: float) -> tuple[float, float]:
    """Return how often the lower and the upper bound miss the true mean 0 at any look, by brute force."""
    below, above = np.zeros(len(studies), bool), np.zeros(len(studies), bool)
    for look in looks:
        seen = studies[:, :look]
        half = stats.t.ppf(1 - level, look - 1) * seen.std(axis=1, ddof=1) / np.sqrt(look)
        below |= seen.mean(axis=1) - half > 0
        above |= seen.mean(axis=1) + half < 0
    return float(below.mean()), float(above.mean())


@pytest.mark.parametrize("looks", [(3,), (4, 8), (4, 8, 16, 32), (8, 16, 32)])
def test_each_side_errs_as_rarely_as_stated(looks: tuple[int, ...]) -> None:
    level, studies = nominal_level(looks), 40_000
    rng = np.random.default_rng(99)  # not the generator of the simulation
    normal = rng.standard_normal((studies, looks[-1]))
    gamma = rng.gamma(4, 0.5, (studies, looks[-1])) - 2
    deviation = 4 * np.sqrt(0.06 * 0.94 / studies)
    assert max(errors(looks, normal, level)) < ERROR + deviation
    assert max(errors(looks, gamma, level)) < SKEWED_ERROR + deviation
    # The level is not needlessly low: the skewed studies err about as often as they may.
    assert max(errors(looks, gamma, level)) > SKEWED_ERROR - deviation


@pytest.mark.parametrize(
    ("looks", "published"),
    [((4,), 0.05), ((4, 8), 0.0287), ((4, 8, 16), 0.0204), ((8, 16), 0.0297), ((8, 16, 32), 0.0212)],
)
def test_levels_of_normal_seeds_are_those_of_an_independent_simulation(
    looks: tuple[int, ...], published: float
) -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((looks[-1], 100_000))
    paths = np.array([values[:n].mean(0) / (values[:n].std(0, ddof=1) / np.sqrt(n)) for n in looks])
    assert _level(looks, np.concatenate([paths, -paths], axis=1), 0.05) == pytest.approx(published, rel=0.03)


def test_more_looks_need_a_lower_level() -> None:
    levels = [nominal_level(looks) for looks in ((4,), (4, 8), (4, 8, 16), (4, 8, 16, 32))]
    assert levels == sorted(levels, reverse=True)
    assert len(set(levels)) == 4
