"""One registry entry makes a metric or a capacity appear in records, tables and reports."""

from __future__ import annotations

import re

import pytest

from flatvq.capacities import CAPACITIES, CapacityKind
from flatvq.cli import tables as terminal
from flatvq.cli.plan_tables import show_capacity
from flatvq.errors import FlatvqError
from flatvq.metrics import LEVEL_METRICS, TRIAL_METRICS, Metric
from flatvq.model.capacity import capacity_of
from flatvq.model.matching import residuals
from flatvq.number_format import NumberFormat
from flatvq.recipe import load_recipe
from flatvq.records import load_study
from flatvq.report import write_report
from flatvq.report.forest import groups
from flatvq.study import plan_study, planned_arms

pytestmark = pytest.mark.slow


@pytest.fixture
def lpips():
    metric = Metric("lpips", "LPIPS", format=NumberFormat(digits=3), higher_is_better=False, minimum=0)
    TRIAL_METRICS.register("lpips", metric)
    yield
    TRIAL_METRICS.unregister("lpips")


@pytest.fixture
def entropy():
    metric = Metric("entropy", "entropy", "bits", NumberFormat(digits=1), minimum=0, maximum=64)
    LEVEL_METRICS.register("entropy", metric)
    yield
    LEVEL_METRICS.unregister("entropy")


@pytest.fixture
def entries():
    """Register the number of codebook entries as a capacity that no solver can match."""
    kind = CapacityKind("entries", "codebook_parameters", "entries", "codebook entries", NumberFormat())
    CAPACITIES.register("entries", kind)
    yield
    CAPACITIES.unregister("entries")


def add_values(tree):
    for trial in tree["trials"]:
        trial["lpips"] = 0.25 + 0.125 * trial["seed"]
        for number, level in enumerate(trial["levels"]):
            level["entropy"] = 5.5 + number


def column(table, heading):
    index = table[0].index(heading)
    return [row[index] for row in table[1:]]


@pytest.mark.usefixtures("lpips", "entropy")
def test_a_registered_metric_is_read_and_shown(study_folder, edit, tables, capsys, monkeypatch):
    edit(study_folder, add_values)
    page = write_report(study_folder).read_text()
    shown = tables(page)
    assert column(shown["trial-table"], "LPIPS") == ["0.250", "0.375", "0.500"] * 4
    assert column(shown["fidelity-table"], "LPIPS") == ["0.375"] * 4
    assert page.count('title="lower is better">LPIPS</th>') == 2
    assert column(shown["fidelity-table"], "entropy, bits") == ["5.5 6.5", "5.5 6.5", "5.5", "5.5"]
    monkeypatch.setattr(terminal.console, "width", 120)
    terminal.show_study(load_study(study_folder))
    lines = capsys.readouterr().out.splitlines()
    (head,) = [line for line in lines if "LPIPS" in line]
    (levels_head,) = [line for line in lines if "entropy, bits" in line]
    fidelity, levels = [line for line in lines if re.match(r" *two-level-healthy +\d", line)]
    assert lines.index(head) < lines.index(fidelity) < lines.index(levels_head) < lines.index(levels)
    assert "0.375" in fidelity
    assert "5.5 / 6.5" in levels


@pytest.mark.usefixtures("lpips", "entropy")
def test_a_registered_metric_is_validated(study_folder, edit):
    edit(study_folder, lambda tree: tree["trials"][0].update(lpips=-1))
    with pytest.raises(FlatvqError, match=re.escape("no valid 'trials.0.lpips' (input should be from 0 to")):
        load_study(study_folder)
    edit(study_folder, lambda tree: tree["trials"][0].update(lpips="0.1"))
    with pytest.raises(FlatvqError, match=re.escape("no valid 'trials.0.lpips'")):
        load_study(study_folder)
    edit(study_folder, lambda tree: tree["trials"][0].update(lpips=None))
    edit(study_folder, lambda tree: tree["trials"][0]["levels"][1].update(entropy=65))
    with pytest.raises(FlatvqError, match=re.escape("no valid 'trials.0.levels.1.entropy'")):
        load_study(study_folder)


def test_an_unregistered_metric_is_ignored(study_folder, edit, tables):
    edit(study_folder, add_values)
    assert load_study(study_folder).trials[0].value("lpips") is None
    assert "LPIPS" not in tables(write_report(study_folder).read_text())["fidelity-table"][0]


def test_a_metric_without_values_has_no_column(study_folder, tables):
    assert "MS-SSIM" not in tables(write_report(study_folder).read_text())["fidelity-table"][0]


@pytest.mark.usefixtures("entries")
def test_a_registered_capacity_is_compared_and_shown(study_folder, tables, capsys):
    shown = tables(write_report(study_folder).read_text())["capacity-table"]
    assert column(shown, "codebook entries") == ["32,768", "32,768", "65,536", "65,536"]
    assert "entries +100.0 %" in groups(load_study(study_folder))[0].rows[0].mismatch
    recipe = load_recipe("photographs")
    show_capacity("photographs", planned_arms(recipe))
    assert "codebook entries" in capsys.readouterr().out
    two, single = (
        capacity_of(recipe.trial(name, 0).model, 64) for name in ("two-level-healthy", "single-level-healthy")
    )
    assert residuals(single, two)["entries"] == single.codebook_parameters / two.codebook_parameters - 1


@pytest.mark.usefixtures("entries")
def test_a_recipe_can_require_a_registered_capacity():
    with pytest.raises(FlatvqError, match=r"does not match 'two-level-healthy': entries \+"):
        plan_study(load_recipe("photographs", ["match.capacities=[bits, entries]"]), "photographs")


def test_an_unknown_capacity_names_the_closest_one():
    with pytest.raises(
        FlatvqError, match=r"no capacity is named 'parameter' .*: did you mean 'parameters'\?"
    ):
        load_recipe("photographs", ["match.capacities=[parameter]"])
