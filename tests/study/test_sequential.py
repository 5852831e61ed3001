"""Looks of a study: which one runs, when it stops, and what a change of the design leaves behind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flatvq.errors import FlatvqError
from flatvq.recipe import StudyRecipe, load_recipe, parse
from flatvq.records import Trial, load_study
from flatvq.study import Plan, fix_design, look_to_run, plan_study, results, run_study, seconds_to, sequential
from flatvq.study.design import design_of
from flatvq.study.looks import nominal_level

pytestmark = pytest.mark.slow

MODEL = {"levels": [{"downsample": 4, "codebook_size": 16, "code_dim": 4}], "width": 8, "residual_width": 4}
TREE = {
    "data": {"source": "photographs", "resize": 100, "crop": 16},
    "model": MODEL,
    "arms": {"a": {}, "b": {"codebook": {"replacement": None}}},
    "looks": [2, 4, 6],
    "metric": "psnr_db",
    "margin": 0.1,
}
Values = Callable[[str, int], float | None]


@pytest.fixture
def train(monkeypatch) -> Callable[[Values], list[tuple[str, int]]]:
    """Replace training: a trial's PSNR is a function of arm and seed, and None makes it fail."""
    trained: list[tuple[str, int]] = []

    def use(values: Values) -> list[tuple[str, int]]:
        def run_trials(plan, folder, data, watch, look=None):
            outcomes = [results.Outcome(trial, "done") for trial in plan.trials_at(look)]
            trained[:] = [(outcome.trial.recipe.arm, outcome.trial.recipe.seed) for outcome in outcomes]
            return outcomes

        def record(outcome, folder, before):
            recipe = outcome.trial.recipe
            value = values(recipe.arm, recipe.seed)
            status = "failed" if value is None else "done"
            outcome.status = status
            return Trial(
                arm=recipe.arm, seed=recipe.seed, status=status, run="x", psnr_db=value, seconds=10.0
            )

        monkeypatch.setattr(sequential, "run_trials", run_trials)
        monkeypatch.setattr(results, "_trial_record", record)
        monkeypatch.setattr(results, "_files", lambda *arguments: [])
        return trained

    return use


def study(**changes: object) -> StudyRecipe:
    return parse(StudyRecipe, {**TREE, **changes})


def plan(**changes: object) -> Plan:
    return plan_study(study(**changes), "st")


def clear(arm: str, seed: int) -> float:
    return 25.0 + (2.0 if arm == "a" else 0.0) + seed % 2 / 100


def noisy(arm: str, seed: int) -> float:
    return 25.0 + (1 if (seed + (arm == "a")) % 2 else -1) * (2 + seed / 10)


def test_a_clear_study_stops_at_the_first_look(train, tmp_path: Path) -> None:
    trained = train(clear)
    record = run_study(study(), tmp_path)
    assert trained == [("a", 0), ("b", 0), ("a", 1), ("b", 1)]
    assert (record.verdict.primary, record.next_look) == ("better", None)
    assert [look.seeds for look in record.looks] == [2]
    assert look_to_run(plan(), tmp_path) == 2, "nothing is left to train"
    assert look_to_run(plan(), tmp_path, further=True) == 4


def test_an_open_study_goes_from_look_to_look_and_keeps_each(train, tmp_path: Path) -> None:
    trained = train(noisy)
    first = run_study(study(), tmp_path, until_settled=False)
    assert (first.verdict.primary, first.next_look) == ("inconclusive", 4)
    # Four more trials of ten seconds each.
    workers = sequential.workers_for(plan().recipe, 4)
    assert seconds_to(plan(), first, 4) == pytest.approx(4 * 10 / workers)
    assert look_to_run(plan(), tmp_path) == 4
    last = run_study(study(), tmp_path)
    assert [look.seeds for look in last.looks] == [2, 4, 6]
    assert last.looks[0] == first.looks[0], "an earlier look is not computed again"
    assert len(trained) == 12
    assert last.next_look is None, "there is no look left"
    assert last.design is not None
    assert last.comparisons[0].level == last.design.level == design_of(plan()).level


def test_a_failed_trial_is_tried_again_before_the_next_look(train, tmp_path: Path) -> None:
    train(lambda arm, seed: None if (arm, seed) == ("b", 1) else noisy(arm, seed))
    record = run_study(study(), tmp_path)
    assert [look.seeds for look in record.looks] == [2]
    assert look_to_run(plan(), tmp_path) == 2
    train(noisy)
    later = run_study(study(), tmp_path)
    assert [look.seeds for look in later.looks] == [2, 4, 6]
    # The first look has the trial now.
    (first,), (again,) = record.looks[0].comparisons, later.looks[0].comparisons
    assert first.difference == pytest.approx(noisy("a", 0) / 2 + noisy("a", 1) / 2 - noisy("b", 0))
    assert again.difference == pytest.approx(sum(noisy("a", n) - noisy("b", n) for n in (0, 1)) / 2)


def test_a_damaged_record_is_written_again_from_the_trials(train, tmp_path: Path) -> None:
    train(clear)
    before = run_study(study(), tmp_path)
    (tmp_path / "study.json").write_text("{")
    assert run_study(study(), tmp_path).comparisons == before.comparisons


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"margin": 0.2}, "The margin changed"),
        ({"looks": [2, 6]}, "The looks changed"),
        ({"interval": "paired"}, "The interval changed"),
        ({"metric": "psnr_of_mean_mse_db"}, "The metric changed"),
        ({"primary": ["b", "a"]}, "The primary comparison and the comparisons changed"),
        ({"seeds": [0, 1, 2]}, "The looks and the seeds changed"),
        (
            {"arms": {**TREE["arms"], "c": {"codebook": {"init": {"kind": "data"}}}}},
            "The comparisons and the arms",
        ),
        ({"arms": {**TREE["arms"], "b": {**TREE["arms"]["b"], "max_seeds": 3}}}, "The arms changed"),
    ],
)
def test_another_design_starts_another_study_and_leaves_a_trace(
    train, tmp_path: Path, change: dict[str, object], named: str
) -> None:
    train(noisy)
    before = run_study(study(), tmp_path, until_settled=False)
    changes = fix_design(plan(**change), tmp_path)
    assert changes.startswith(named)
    assert "this is another study" in changes
    assert not (tmp_path / "study.json").exists()
    assert load_study(tmp_path / "superseded" / "1").model_dump() == before.model_dump()
    train(lambda arm, seed: noisy("a" if arm == "c" else arm, seed))
    changed = change.get("metric") is None
    after = run_study(study(**change), tmp_path, until_settled=False) if changed else None
    if after is not None:
        (earlier,) = after.earlier_designs
        assert (earlier.design, earlier.looks) == (before.design, before.looks)
        assert len(after.looks) == 1
    assert fix_design(plan(**change), tmp_path) == "", "the same design changes nothing"


def test_other_rate_curves_are_another_study(tmp_path: Path) -> None:
    levels = MODEL["levels"][0]
    arms = {
        f"{k}-{d}": {"model": {"levels": [{**levels, "codebook_size": k, "code_dim": d}]}}
        for k in (8, 16)
        for d in (2, 4)
    }
    tree = {"arms": arms, "match": {"unmatched": list(arms)}}
    pair = {"a": ["8-2", "16-2"], "b": ["8-4", "16-4"]}
    assert fix_design(plan(**tree, curves=[pair]), tmp_path) == ""
    changes = fix_design(plan(**tree, curves=[{**pair, "bits": "nominal"}]), tmp_path)
    assert changes.startswith("The rate curves changed, so this is another study.")


def test_without_a_primary_comparison_there_is_no_next_look(train, tmp_path: Path) -> None:
    train(clear)
    record = run_study(study(arms={"a": {}}), tmp_path)
    assert [look.seeds for look in record.looks] == [2]
    assert record.next_look is None
    assert look_to_run(plan(arms={"a": {}}), tmp_path, further=True) == 4


def test_a_study_does_not_write_into_the_folder_of_another_one(train, tmp_path: Path) -> None:
    def values(arm: str, seed: int) -> float:
        fix_design(plan(margin=0.2, interval="paired"), tmp_path)  # of a study that starts meanwhile
        return noisy(arm, seed)

    train(values)
    message = "another study has started in '.*', with a change of margin and interval: run one of the"
    with pytest.raises(FlatvqError, match=message):
        run_study(study(), tmp_path)
    assert not (tmp_path / "study.json").exists()
    train(noisy)
    other = run_study(study(margin=0.2, interval="paired"), tmp_path, until_settled=False)
    assert other.design == design_of(plan(margin=0.2, interval="paired"))


def test_the_title_and_the_number_of_workers_are_not_part_of_the_design(train, tmp_path: Path) -> None:
    train(noisy)
    run_study(study(), tmp_path, until_settled=False)
    stored = json.loads((tmp_path / "design.json").read_text())
    assert fix_design(plan(title="another", workers=1), tmp_path) == ""
    assert json.loads((tmp_path / "design.json").read_text()) == stored


def test_seeds_and_looks_follow_from_each_other() -> None:
    assert study().seeds == tuple(range(6))
    assert study(seeds=[5, 3, 1]).looks == (2, 3)
    assert study(looks=[], seeds=[5, 3, 1]).looks == (3,)
    assert study(looks=[]).looks == (8, 16, 32, 64, 128)
    resolved = study(seeds=[5, 3, 1])
    assert parse(StudyRecipe, resolved.model_dump(mode="json")) == resolved


def test_a_look_at_one_seed_cannot_err_and_does_not_make_the_others_stricter() -> None:
    levels = [design_of(plan(looks=looks)).level for looks in ([1, 4], [4], [2, 4])]
    assert levels[0] == levels[1] == nominal_level((4,))
    assert levels[2] < levels[1]
    assert design_of(plan(looks=[1])).level == nominal_level((2,))


def test_an_old_name_of_the_margin_still_works(tmp_path: Path) -> None:
    path = tmp_path / "old.yaml"
    path.write_text("margin_db: 0.25\nseeds: [0]\n")
    with pytest.warns(FutureWarning, match="'margin_db' is now 'margin'"):
        assert load_recipe(str(path)).margin == 0.25
