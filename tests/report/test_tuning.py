"""The report of a search, compared with its record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flatvq.report import write_tuning

RECORDS = sorted((Path(__file__).parents[1] / "data").glob("tune-*/tune.json"))


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.parent.name)
def test_every_trial_is_listed_with_its_values_and_reason(tmp_path, tables, record):
    shutil.copy(record, tmp_path)
    page = write_tuning(tmp_path).read_text()
    search = json.loads(record.read_text())
    (head, *rows) = tables(page)[""]
    assert head == ["number", "state", "PSNR, dB", *search["space"], "reason"]
    assert len(rows) == len(search["trials"])
    for row, trial in zip(rows, sorted(search["trials"], key=lambda trial: trial["number"]), strict=True):
        is_best = trial["number"] == search["best"]
        psnr = "" if trial["psnr_db"] is None else f"{trial['psnr_db']:.2f}"
        assert row[:3] == [str(trial["number"]), trial["state"] + " best" * is_best, psnr]
        assert row[-1] == (trial["reason"] or "")
    assert page.count('class="dot pruned"') == sum(
        trial["state"] != "done" and bool(trial["validations"]) for trial in search["trials"]
    )
