"""Committed records hold together, and the README's figures are theirs."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from scipy.stats import t as student

ROOT = Path(__file__).parents[1]
STUDIES = sorted((ROOT / "results").glob("*/study.json"))


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _psnr(study: dict[str, Any], arm: str) -> dict[int, float]:
    done = [trial for trial in study["trials"] if trial["status"] == "done" and trial["arm"] == arm]
    return {trial["seed"]: trial["psnr_db"] for trial in done}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
def test_comparisons_follow_from_the_trials(path: Path) -> None:
    study = _read(path)
    assert study["comparisons"]
    for found in study["comparisons"]:
        a, b = _psnr(study, found["a"]), _psnr(study, found["b"])
        differences = [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]
        assert found["difference"] == pytest.approx(fmean(differences))
        if len(differences) == 1:
            assert (found["interval90"], found["verdict"]) == (None, "inconclusive")
            continue
        half = student.ppf(0.95, len(differences) - 1) * stdev(differences) / math.sqrt(len(differences))
        low, high = fmean(differences) - half, fmean(differences) + half
        assert found["interval90"] == pytest.approx([low, high])
        margin = study["margin_db"]
        if -margin < low and high < margin:
            verdict = "equivalent"
        else:
            verdict = "better" if low > 0 else "worse" if high < 0 else "inconclusive"
        assert found["verdict"] == verdict


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
def test_arms_are_matched_as_the_study_says(path: Path) -> None:
    study = _read(path)
    bits = {
        arm["name"]: sum(
            math.prod(level["grid"]) * math.log2(level["codebook_size"]) for level in arm["level_table"]
        )
        for arm in study["arms"]
    }
    assert [arm["bits_per_image"] for arm in study["arms"]] == pytest.approx(list(bits.values()))
    rule = study["match"]
    if "bits" in rule["capacities"]:
        matched = [bits[name] for name in bits if name not in rule.get("unmatched", ())]
        assert max(matched) / min(matched) - 1 < 0.01
    for capacity in {"parameters", "multiply_adds"} & set(rule["capacities"]):
        spent = {arm["name"]: arm[capacity] for arm in study["arms"]}
        for name, value in spent.items():
            off = value / spent[rule["reference"]] - 1
            assert rule["residuals"][name][capacity] == pytest.approx(off)
            assert abs(off) < 0.01 or rule.get("nearest") or name in rule.get("unmatched", ())


def readme_block(study: dict[str, Any]) -> str:
    """What the README says of a study: one row an arm, and the sentence."""
    rows = ["| arm | PSNR, dB | SSIM | codes used, by level |", "|---|---|---|---|"]
    for arm in study["arms"]:
        done = [trial for trial in study["trials"] if trial["arm"] == arm["name"]]
        usage = [fmean(trial["levels"][n]["usage"] for trial in done) for n in range(arm["levels"])]
        shares = " and ".join(f"{share:.0%}" for share in usage)
        psnr, ssim = fmean(trial["psnr_db"] for trial in done), fmean(trial["ssim"] for trial in done)
        rows.append(f"| {arm['name']} | {psnr:.2f} | {ssim:.3f} | {shares} |")
    return "\n".join([*rows, "", f"> {study['verdict']['sentence']}"])


def test_the_readme_shows_the_committed_default_study() -> None:
    readme = (ROOT / "README.md").read_text()
    shown = re.search(r"<!-- results -->\n(.*?)<!-- /results -->", readme, re.DOTALL)
    assert shown is not None
    expected = readme_block(_read(ROOT / "results" / "photographs" / "study.json"))
    assert expected in shown[1], f"the block of figures in the README should hold:\n\n{expected}"
