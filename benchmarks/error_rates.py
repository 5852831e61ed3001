"""How often a verdict is wrong: `python -m benchmarks.error_rates` writes results/error-rates.json.

Simulates studies that follow flatvq's own advice: they go on from look to look until the primary comparison
is settled or no look is left. The rule is computed here a second time, for many studies at once; a sample of
the studies of every setting is judged by `flatvq.study.statistics.compare` too, and must get the same answer.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from flatvq.study.looks import nominal_level
from flatvq.study.statistics import Interval, Verdict, compare
from flatvq.versions import VERSION, commit

RECORD = Path(__file__).parents[1] / "results" / "error-rates.json"
STUDIES = 100_000
CHECKED = 100
MARGIN = 0.1
DIFFERENCES = (0.0, MARGIN, 2 * MARGIN)
DEVIATIONS = (0.1, 0.2, 0.4)
SCHEDULES = ((4, 8, 16, 32), (4, 8, 16), (8, 16, 32), (16, 32), (8, 16, 32, 64, 128))

Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], tuple[Values, Values]]


def _normal(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Values, Values]:
    """Return the same normal spread in both arms."""
    return rng.standard_normal(shape) / np.sqrt(2), rng.standard_normal(shape) / np.sqrt(2)


def _skewed(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Values, Values]:
    """Return differences with a skewness of 1: one arm has all the spread, from a gamma distribution."""
    return 0.5 * rng.standard_gamma(4.0, shape) - 2.0, np.zeros(shape) + 1e-9 * rng.standard_normal(shape)


def _skewed_arms(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Values, Values]:
    """Return arms with a skewness of 1 each, of opposite sign."""
    first, second = (0.5 * rng.standard_gamma(4.0, shape) - 2.0 for _ in range(2))
    return first / np.sqrt(2), -second / np.sqrt(2)


def _unequal(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Values, Values]:
    """Return normal arms of which one spreads three times as far."""
    return rng.standard_normal(shape) * 3 / np.sqrt(10), rng.standard_normal(shape) / np.sqrt(10)


def _collapsing(rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Values, Values]:
    """Return normal arms; one loses five standard deviations in 1 of 20 trials. The loss has mean 0."""
    first, second = _normal(rng, shape)
    return first, second + 0.25 - 5.0 * (rng.random(shape) < 0.05)


SPREADS: dict[str, Draw] = {
    "normal": _normal,
    "skewed differences": _skewed,
    "skewed arms": _skewed_arms,
    "unequal arms": _unequal,
    "collapsing trials": _collapsing,
}


@dataclass(frozen=True)
class Setting:
    """A schedule, an interval, a true difference and a spread of the seeds."""

    looks: tuple[int, ...]
    interval: Interval
    spread: str
    difference: float
    deviation: float


def simulated(setting: Setting, studies: int, seed: int) -> dict[str, Any]:
    """Simulate studies of one setting.

    Returns:
        The share of each answer, the share of false answers on either side, and the mean number of seeds.
    """
    rng = np.random.default_rng(
        [seed, len(setting.looks), setting.looks[0], list(SPREADS).index(setting.spread)]
    )
    shape = (studies, setting.looks[-1])
    a, b = (setting.deviation * values for values in SPREADS[setting.spread](rng, shape))
    a = a + setting.difference
    level = nominal_level(setting.looks)
    answers, seeds = _answers(setting, a, b, level)
    for number in range(min(studies, CHECKED)):
        assert _by_flatvq(setting, a[number], b[number], level) == answers[number], (setting, number)
    counts = Counter(answers.tolist())
    return {
        "looks": list(setting.looks),
        "interval": setting.interval,
        "spread": setting.spread,
        "difference": setting.difference,
        "deviation": setting.deviation,
        "level": level,
        "answers": {verdict: counts[verdict] / studies for verdict in get_args(Verdict)},
        **{
            f"false_{side}": sum(counts[v] for v in false) / studies
            for side, false in _false(setting).items()
        },
        "mean_seeds": round(float(seeds.mean()), 1),
    }


def _false(setting: Setting) -> dict[str, list[str]]:
    """Return the answers that are false: those that put the difference too high, and too low."""
    difference = setting.difference
    high = ["better"] if difference <= 0 else []
    low = ["worse"] if difference >= 0 else []
    if difference >= MARGIN:
        low += ["equivalent", "not better"]
    return {"high": high, "low": low}


def _answers(
    setting: Setting, a: Values, b: Values, level: float
) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    answers = np.full(len(a), "inconclusive", dtype="<U12")
    seeds = np.full(len(a), setting.looks[-1])
    for look in setting.looks:
        low, high = _intervals(setting.interval, a[:, :look], b[:, :look], level)
        now = np.select(
            [(low > -MARGIN) & (high < MARGIN), low > 0, high < 0, low > -MARGIN, high < MARGIN],
            ["equivalent", "better", "worse", "not worse", "not better"],
            "inconclusive",
        )
        settled = (answers == "inconclusive") & (now != "inconclusive")
        answers[settled], seeds[settled] = now[settled], look
    return answers, seeds


def _intervals(interval: Interval, a: Values, b: Values, level: float) -> tuple[Values, Values]:
    seeds = a.shape[1]
    mean = a.mean(axis=1) - b.mean(axis=1)
    if interval == "paired":
        variance, freedom = (a - b).var(axis=1, ddof=1) / seeds, np.full(len(a), seeds - 1.0)
    else:
        first, second = a.var(axis=1, ddof=1) / seeds, b.var(axis=1, ddof=1) / seeds
        variance = first + second
        freedom = variance**2 / ((first**2 + second**2) / (seeds - 1))
    half = stdtrit(freedom, 1 - level) * np.sqrt(variance)
    return mean - half, mean + half


def _by_flatvq(setting: Setting, a: Values, b: Values, level: float) -> str:
    answer = "inconclusive"
    for look in setting.looks:
        answer = compare(
            a[:look].tolist(), b[:look].tolist(), MARGIN, interval=setting.interval, level=level
        ).verdict
        if answer != "inconclusive":
            break
    return answer


def table(record: dict[str, Any], interval: Interval = "welch") -> str:
    """Write the worst error of each schedule and spread, and the mean number of seeds, in Markdown."""
    lines = [
        "| looks | spread of the seeds | largest error of a side, % | mean seeds at 0 / 0.1 / 0.2 dB |",
        "|---|---|---|---|",
    ]
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in record["settings"]:
        if row["interval"] == interval:
            groups.setdefault((", ".join(map(str, row["looks"])), row["spread"]), []).append(row)
    for key, rows in groups.items():
        worst = max(max(row["false_high"], row["false_low"]) for row in rows)
        seeds = [
            f"{np.mean([row['mean_seeds'] for row in rows if row['difference'] == difference]):.0f}"
            for difference in DIFFERENCES
        ]
        lines.append(f"| {' | '.join(key)} | {100 * worst:.1f} | {' / '.join(seeds)} |")
    return "\n".join(lines)


def main() -> None:
    """Simulate all settings and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.error_rates", description=__doc__)
    parser.add_argument("--studies", type=int, default=STUDIES, help="studies of each setting")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RECORD)
    asked = parser.parse_args()
    intervals: tuple[Interval, ...] = get_args(Interval)
    rows = [
        simulated(Setting(*setting), asked.studies, asked.seed)
        for setting in product(SCHEDULES, intervals, SPREADS, DIFFERENCES, DEVIATIONS)
    ]
    record = {
        "format": 1,
        "flatvq": VERSION,
        "commit": commit(),
        "packages": {name: version(name) for name in ("numpy", "scipy")},
        "studies": asked.studies,
        "seed": asked.seed,
        "margin": MARGIN,
        "settings": rows,
    }
    asked.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for interval in intervals:
        print(f"{interval}\n{table(record, interval)}")


if __name__ == "__main__":
    main()
