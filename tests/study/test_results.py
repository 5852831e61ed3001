"""study.json is written through the schema that reads it, and no value is lost or converted on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flatvq import records
from flatvq.recipe import load_recipe
from flatvq.records import load_study
from flatvq.study import plan_study
from flatvq.study.results import compare_arms
from flatvq.study.statistics import compare

STUDIES = sorted((Path(__file__).parents[2] / "results").rglob("study.json"))


def texts(value: object) -> str:
    """JSON in which 1 and 1.0 differ."""
    return json.dumps(value, sort_keys=True)


def test_the_record_of_an_arm_holds_all_that_is_known_of_it() -> None:
    (arm, *_) = plan_study(load_recipe("photographs"), "photographs").arms
    expected = {**arm.to_dict(), "identity": None}
    written = records.Arm(**expected).model_dump(mode="json")
    assert texts(written) == texts(json.loads(texts(expected))), "an integer became a float, or the reverse"


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
def test_a_committed_study_is_the_same_when_it_is_written_again(path: Path) -> None:
    tree = json.loads(path.read_text())
    tree = records.to_format_3(tree) if tree["format"] == 2 else tree
    written = load_study(path.parent).model_dump(mode="json")
    for key in ("arms", "trials", "comparisons", "match", "data", "verdict"):
        assert texts(_only_keys_of(tree[key], written[key])) == texts(tree[key])


def _only_keys_of(before: Any, after: Any) -> Any:
    """Drop the keys of `after` that `before` does not have: older studies lack some.

    `seeds_needed` of older studies is not read: studies have looks instead.
    """
    if isinstance(before, dict):
        return {
            key: value if key == "seeds_needed" else _only_keys_of(value, after[key])
            for key, value in before.items()
        }
    if isinstance(before, list):
        return [_only_keys_of(*pair) for pair in zip(before, after, strict=True)]
    return after


def _trial(arm: str, seed: int, psnr: float | None) -> records.Trial:
    status = "failed" if psnr is None else "done"
    return records.Trial(arm=arm, seed=seed, status=status, run="run", psnr_db=psnr, mse=psnr and psnr / 1e3)


def _trials(a: str, b: str) -> list[records.Trial]:
    trials = [_trial(a, 1, 25.5), _trial(a, 2, None), _trial(a, 3, 25.0)]
    return [*trials, _trial(b, 1, 24.5), _trial(b, 2, 20.0), _trial(b, 3, 24.9)]


PAIRED = [
    "seeds=[3, 1, 2]",
    "interval=paired",
    "arms.two-level-naive.max_seeds=0",
    "arms.single-level-naive.max_seeds=0",
]


def test_paired_comparisons_use_the_seeds_that_both_arms_finished() -> None:
    plan = plan_study(load_recipe("photographs", [*PAIRED, "metric=psnr_db"]), "photographs")
    pair = plan.comparisons[0]
    (result,) = compare_arms(plan, _trials(pair.a, pair.b), 0.05)
    assert result.difference == compare([25.0, 25.5], [24.9, 24.5], plan.recipe.margin)
    record = result.to_record()
    assert (record.a, record.b, record.metric, record.seeds) == (pair.a, pair.b, "psnr_db", 2)
    assert record.per_seed == pytest.approx((0.1, 1.0))


def test_welch_comparisons_use_all_finished_seeds() -> None:
    plan = plan_study(load_recipe("photographs", ["seeds=[3, 1, 2]", "metric=psnr_db"]), "photographs")
    pair = plan.comparisons[0]
    (result,) = compare_arms(plan, _trials(pair.a, pair.b), 0.02)
    expected = compare([25.0, 25.5], [24.9, 24.5, 20.0], 0.1, interval="welch", level=0.02)
    assert result.difference.interval90 == expected.interval90
    assert result.difference.per_seed == pytest.approx((0.1, 1.0)), "of the seeds that both finished"


def test_another_metric_is_compared_with_its_own_direction() -> None:
    plan = plan_study(load_recipe("photographs", [*PAIRED, "metric=mse", "margin=0.0001"]), "photographs")
    pair = plan.comparisons[0]
    trials = [_trial(pair.a, seed, 20.0 + seed / 100) for seed in (1, 2, 3)]
    trials += [_trial(pair.b, seed, 25.0 + seed / 90) for seed in (1, 2, 3)]
    (result,) = compare_arms(plan, trials, 0.05)
    assert result.difference.mean < 0
    assert result.difference.verdict == "better", "a lower error is better"
    assert result.to_record().metric == "mse"
