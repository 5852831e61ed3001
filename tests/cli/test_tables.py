"""Tables on a terminal of 80 characters."""

from __future__ import annotations

from pathlib import Path

import pytest

from flatvq.cli import tables
from flatvq.records import load_study

RESULTS = Path(__file__).parents[2] / "results"


@pytest.mark.parametrize("study", ["photographs", "headline"])
def test_the_results_of_a_study_fit_into_80_characters(study: str, capsys, monkeypatch) -> None:
    monkeypatch.setattr(tables.console, "width", 80)
    record = load_study(RESULTS / study)
    tables.show_study(record)
    lines = capsys.readouterr().out.splitlines()
    assert not [line for line in lines if len(line) > 80 or "…" in line]
    # One line for each arm in each of the two tables.
    start = lines.index(next(line for line in lines if line.startswith("Fidelity on held-out crops")))
    end = lines.index(next(line for line in lines if "comparison" in line))
    first_words = [line.split()[0] for line in lines[start:end] if line.startswith(" ") and line.split()]
    names = [arm.name for arm in record.arms]
    assert [word for word in first_words if word in names] == [*names, *names]
    assert len(first_words) == 2 * (len(names) + 2), "headings and rules, and no line that is wrapped"
