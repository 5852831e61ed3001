"""Committed records are consistent, and the figures of the README and the quickstart are those of records."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest
from scipy.stats import t as student
from scipy.stats import ttest_ind

from flatvq.recipe import load_recipe
from flatvq.study.looks import nominal_level
from flatvq.study.statistics import SETTLED, compare

ROOT = Path(__file__).parents[1]
STUDIES = sorted((ROOT / "results").glob("*/study.json"))


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def _values(study: dict[str, Any], arm: str) -> dict[int, float]:
    metric = study["design"]["metric"] if "design" in study else "psnr_db"
    done = [trial for trial in study["trials"] if trial["status"] == "done" and trial["arm"] == arm]
    return {trial["seed"]: trial[metric] for trial in done}


def _compared(study: dict[str, Any], arm: str, other: str) -> tuple[float, list[float] | None, str]:
    """Compute the mean difference, its interval and the verdict from the trials of a study."""
    a, b = _values(study, arm), _values(study, other)
    if "design" in study:
        return _compared_by_welch(study, [*a.values()], [*b.values()])
    differences = [a[seed] - b[seed] for seed in sorted(a.keys() & b.keys())]
    mean, count = fmean(differences), len(differences)
    if count == 1:
        return mean, None, "inconclusive"
    half = student.ppf(0.95, count - 1) * stdev(differences) / math.sqrt(count)
    low, high, margin = mean - half, mean + half, study["margin_db"]
    if -margin < low and high < margin:
        return mean, [low, high], "equivalent"
    return mean, [low, high], "better" if low > 0 else "worse" if high < 0 else "inconclusive"


def _compared_by_welch(
    study: dict[str, Any], a: list[float], b: list[float]
) -> tuple[float, list[float] | None, str]:
    assert study["design"]["interval"] == "welch"
    level, margin = study["design"]["level"], study["design"]["margin"]
    low, high = ttest_ind(a, b, equal_var=False).confidence_interval(1 - 2 * level)
    answers = {
        "equivalent": -margin < low and high < margin,
        "better": low > 0,
        "worse": high < 0,
        "not worse": low > -margin,
        "not better": high < margin,
        "inconclusive": True,
    }
    return fmean(a) - fmean(b), [low, high], next(answer for answer, holds in answers.items() if holds)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.parent.name)
def test_comparisons_follow_from_the_trials(path: Path) -> None:
    study = _read(path)
    pairs = [comparison for comparison in study["comparisons"] if not comparison.get("c")]
    assert pairs
    for comparison in pairs:
        difference, interval, verdict = _compared(study, comparison["a"], comparison["b"])
        assert comparison["difference"] == pytest.approx(difference)
        assert comparison["interval90"] == (interval and pytest.approx(interval))
        assert comparison["verdict"] == verdict


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
    counts = {"parameters", "multiply_adds", "network_parameters", "network_multiply_adds"}
    for capacity in counts & set(rule["capacities"]):
        spent = {arm["name"]: arm[capacity] for arm in study["arms"]}
        for name, value in spent.items():
            off = value / spent[rule["reference"]] - 1
            assert rule["residuals"][name][capacity] == pytest.approx(off)
            assert abs(off) < 0.01 or rule.get("nearest") or name in rule.get("unmatched", ())


def _block(page: str, name: str) -> str:
    """Return the part of a page between the comments `<!-- name -->` and `<!-- /name -->`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    shown = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", text, re.DOTALL)
    assert shown is not None
    return shown[1]


def _summary(study: dict[str, Any]) -> str:
    """Summarize a study as the quickstart shows it: one row for each arm, and the verdict."""
    rows = ["| arm | PSNR, dB | SSIM | codes used, by level |", "|---|---|---|---|"]
    for arm in study["arms"]:
        done = [trial for trial in study["trials"] if trial["arm"] == arm["name"]]
        usage = [fmean(trial["levels"][n]["usage"] for trial in done) for n in range(arm["levels"])]
        shares = " and ".join(f"{share:.0%}" for share in usage)
        psnr, ssim = fmean(trial["psnr_db"] for trial in done), fmean(trial["ssim"] for trial in done)
        rows.append(f"| {arm['name']} | {psnr:.2f} | {ssim:.3f} | {shares} |")
    return "\n".join([*rows, "", f"> {study['verdict']['sentence']}"])


def test_the_quickstart_shows_the_committed_default_study() -> None:
    expected = _summary(_read(ROOT / "results" / "photographs" / "study.json"))
    assert expected in _block("docs/quickstart.md", "results"), f"the block should hold:\n\n{expected}"


def test_the_readme_quotes_comparisons_of_committed_studies() -> None:
    rows = _block("README.md", "findings").splitlines()[2:]
    assert rows
    for row in rows:
        _, arms, shown, shown_verdict, link = row.strip("| ").split(" | ")
        study = _read(ROOT / re.sub(r".*\((.+)\)", r"\1", link))
        difference, interval, verdict = _compared(study, *arms.split(" − "))
        assert interval is not None
        low, high = interval
        assert shown == f"{difference:+.2f} [{low:+.2f}, {high:+.2f}] dB".replace("-", "−"), row
        assert shown_verdict == verdict, row


def test_the_table_of_compressed_photographs_is_that_of_its_record() -> None:
    page = (ROOT / "docs/how-to/compress.md").read_text()
    sizes = _read(ROOT / "results/compression.json")["sizes"]
    for size in sizes:
        nominal = size["none"]["collection_bytes_per_image"]
        cells = [f"{nominal:,.0f}"]
        for kind in ("order-0", "table", "network"):
            value = size[kind]["collection_bytes_per_image"]
            cells.append(f"{value:,.0f} (−{1 - value / nominal:.1%})".replace("%", " %"))
        assert f"| {size['crop']} px | {' | '.join(cells)} |" in page
    for kind in ("table", "network"):
        prior = sizes[-1][kind]
        cells = [f"{prior['prior_bytes'] / 1e6:.1f} MB", f"{prior['fit_cpu_seconds']:,.0f} s"]
        cells.append(f"{prior['read_per_second'] / 1000:,.0f} thousand")
        assert f"| `{kind}` | {' | '.join(cells)} |" in page


EVALUATED = {
    name: ROOT / "results" / "evaluation" / f"{name}.json"
    for name in ("single", "parallel", "conditioned", "residual")
}


def test_the_tables_of_measured_tokenizers_are_those_of_their_records() -> None:
    records = {name: _read(path) for name, path in EVALUATED.items()}
    for name, rows in (
        ("against", _against(records)),
        ("text", _text(records)),
        ("detail", _detail(records)),
    ):
        expected = "\n".join(rows) + "\n"
        assert expected == _block("docs/how-to/compare.md", name), f"the block should hold:\n\n{expected}"


def test_the_records_of_measured_tokenizers_agree() -> None:
    """Codecs do not depend on the tokenizer, and the same text is read in the originals."""
    first, *others = (_read(path) for path in EVALUATED.values())
    assert all(row["read_reliably"] for row in first["text"]["sizes"])
    assert first["against"]["images"] == 25
    for other in others:
        assert other["against"]["curves"] == first["against"]["curves"]
        for kind in ("pages_sha256", "characters"):
            assert [row[kind] for row in other["text"]["sizes"]] == [
                row[kind] for row in first["text"]["sizes"]
            ]
        assert other["commit"] == first["commit"]
        assert "dirty" not in other["commit"]


def _against(records: dict[str, Any]) -> list[str]:
    """One row for each tokenizer, and for each codec within the bytes of `single`."""
    heads = [
        "bits per pixel",
        "PSNR, dB",
        "SSIM",
        "MS-SSIM",
        "SSIMULACRA 2",
        "top-1 agreement",
        "Lite0 Fréchet",
    ]
    rows = [f"| | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, record in records.items():
        own = record["against"]["tokenizer"]
        rows.append(_quality(f"`{name}`", own["bits_per_pixel"]["nominal"], own["metrics"]))
    single = records["single"]["against"]
    for row in single["at_equal_bytes"]["nominal"]:
        assert row["images_that_do_not_fit"] == 0
        rows.append(_quality(single["codecs"][row["codec"]]["label"], row["bits_per_pixel"], row["metrics"]))
    rates = [
        f"{single['codecs'][codec]['label']} {rate:.3f}"
        for codec, rate in single["bits_per_pixel_at_equal_psnr"].items()
        if rate is not None
    ]
    return [*rows, "", f"Bits per pixel with the PSNR of `single`: {', '.join(rates)}."]


def _quality(name: str, rate: float, metrics: dict[str, float]) -> str:
    cells = [
        f"{rate:.3f}",
        f"{metrics['psnr_db']:.2f}",
        f"{metrics['ssim']:.3f}",
        f"{metrics['ms_ssim']:.3f}",
        f"{metrics['ssimulacra2']:.1f}",
        f"{metrics['efficientnet_lite0_top1_agreement']:.0%}".replace("%", " %"),
        f"{metrics['efficientnet_lite0_frechet']:.0f}",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def _text(records: dict[str, Any]) -> list[str]:
    sizes = [f"{row['size']} px" for row in records["single"]["text"]["sizes"]]
    rows = [f"| errors | {' | '.join(sizes)} |", "|---" * (len(sizes) + 1) + "|"]
    for name, key in (("original", "original"), *((f"`{name}`", "reconstruction") for name in records)):
        record = records[name.strip("`")] if key == "reconstruction" else records["single"]
        rates = [row["character_error_rate"][key]["mean"] for row in record["text"]["sizes"]]
        rows.append(f"| {name} | {' | '.join(f'{100 * rate:.1f} %' for rate in rates)} |")
    return rows


def _detail(records: dict[str, Any]) -> list[str]:
    octaves = records["single"]["detail"]["octaves"]
    heads = [f"{1 / row['high']:g} to {1 / row['low']:g} px" for row in octaves]
    rows = [f"| contrast kept | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for kind in ("gratings", "photographs"):
        for name, record in records.items():
            kept = [row[kind]["contrast_kept"]["mean"] for row in record["detail"]["octaves"]]
            rows.append(f"| {kind}, `{name}` | {' | '.join(f'{100 * share:.1f} %' for share in kept)} |")
    return rows


def test_every_repetition_of_the_default_study_settled_at_its_first_look() -> None:
    """The intervals are computed again, from the values of each seed."""
    repetitions = _read(ROOT / "results" / "repetitions.json")["repetitions"]
    recipe = load_recipe("photographs")
    level = nominal_level(recipe.looks)
    seeds = [seed for each in repetitions for seed in each["seeds"]]
    assert len(seeds) == len(set(seeds)) == recipe.looks[0] * len(repetitions)
    assert min(seeds) >= 10_000, "smaller ones were used to choose the recipe"
    for each in repetitions:
        assert each["verdict"] in SETTLED
        a, b = each["values"].values()
        interval = ttest_ind(a, b, equal_var=False).confidence_interval(1 - 2 * level)
        assert each["difference"] == pytest.approx(fmean(a) - fmean(b))
        assert each["interval90"] == pytest.approx([interval.low, interval.high], abs=1e-6)
        assert compare(a, b, recipe.margin, interval="welch", level=level).verdict == each["verdict"]


def test_no_record_holds_a_path_of_the_machine_that_made_it() -> None:
    paths = [path for kind in ("json", "yaml", "md") for path in (ROOT / "results").rglob(f"*.{kind}")]
    assert len(paths) > 50
    absolute = re.compile(r"""["' ]/(home|mnt|root|tmp|Users|work)/""")
    assert [str(path) for path in paths if absolute.search(path.read_text(encoding="utf-8"))] == []
