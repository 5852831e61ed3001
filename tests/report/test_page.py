"""Numbers on the page, compared with values that the tests compute from the records."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from math import log2
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from flatvq.cli.tables import show_study
from flatvq.records import load_study
from flatvq.report import write_report

pytestmark = pytest.mark.slow

RESULTS = Path(__file__).parents[2] / "results"


def test_psnr_means_intervals_and_every_seed(study_folder, tables):
    page = write_report(study_folder).read_text()
    study = json.loads((study_folder / "study.json").read_text())
    rows = {row[0]: row for row in tables(page)["fidelity-table"][1:]}
    assert list(rows) == [arm["name"] for arm in study["arms"]]
    for name, row in rows.items():
        values = [trial["psnr_db"] for trial in study["trials"] if trial["arm"] == name]
        low, high = stats.t.interval(0.9, 2, np.mean(values), stats.sem(values))
        assert row[1] == f"{np.mean(values):.2f} [{low:.2f}, {high:.2f}]"
        assert row[2] == " ".join(f"{seed}: {value:.2f}" for seed, value in enumerate(values))


def test_the_metric_of_the_comparisons_is_named_and_in_the_table(study_folder, tables, tmp_path):
    page = write_report(study_folder).read_text()
    assert "differences in PSNR, equivalence margin" in page
    # The default study compares the PSNR of the mean MSE, which no other table of arms has.
    shutil.copy(RESULTS / "photographs" / "study.json", tmp_path)
    page = write_report(tmp_path).read_text()
    assert "differences in PSNR of mean MSE, equivalence margin" in page
    head, *rows = tables(page)["fidelity-table"]
    place = head.index("PSNR of mean MSE, dB")
    trials = json.loads((tmp_path / "study.json").read_text())["trials"]
    for row in rows:
        values = [trial["psnr_of_mean_mse_db"] for trial in trials if trial["arm"] == row[0]]
        assert row[place] == f"{np.mean(values):.2f}"


def test_the_precision_of_the_trials_is_stated(study_folder, tmp_path, capsys):
    study = json.loads((study_folder / "study.json").read_text())

    def page(precisions: list[str | None]) -> str:
        for trial, precision in zip(study["trials"], precisions, strict=True):
            trial["precision"] = precision
        (tmp_path / "study.json").write_text(json.dumps(study))
        show_study(load_study(tmp_path))
        return write_report(tmp_path).read_text()

    trials = len(study["trials"])
    assert "trained in" not in page([None] * trials)
    assert "set before the runs; trained in bfloat16." in page(["bfloat16"] * trials)
    assert "different precisions" not in capsys.readouterr().out
    mixed = page(["float32"] * (trials - 1) + ["bfloat16"])
    sentence = f"Trials were trained in different precisions: {trials - 1} in float32; 1 in bfloat16."
    assert sentence in mixed
    assert sentence in capsys.readouterr().out


def test_usage_and_perplexity_agree_with_the_code_counts(study_folder, tables):
    page = write_report(study_folder).read_text()
    row = next(row for row in tables(page)["fidelity-table"] if row[0] == "two-level-naive")
    usage, perplexity = [], []
    for level in (0, 1):
        counts = [
            np.array(
                json.loads((study_folder / f"runs/two-level-naive/seed-{seed}/codes.json").read_text())[
                    "levels"
                ][level]["counts"]
            )
            for seed in range(3)
        ]
        usage.append(f"{100 * np.mean([np.mean(c > 0) for c in counts]):.1f} %")
        perplexity.append(f"{np.mean([np.exp(stats.entropy(c)) for c in counts]):.0f}")
    assert row[-2].split(" %") == [" ".join(usage).split(" %")[0], *" ".join(usage).split(" %")[1:]]
    assert row[-1].split() == perplexity


def test_capacity_table(study_folder, tables):
    page = write_report(study_folder).read_text()
    rows = {row[0]: row for row in tables(page)["capacity-table"][1:]}
    two, single = rows["two-level-healthy"], rows["single-level-naive"]
    assert two[1] == "16 × 16, K 256, D 64 8 × 8, K 256, D 64"
    assert two[2].startswith(f"{256 * log2(256) + 64 * log2(256):,.1f}")
    assert two[3] == "1,376,25932,768+0.0 %"
    assert two[5] == "1,343,491"
    assert two[7] == "41.5"
    assert single[7] == "–"
    assert single[3].endswith("−38.5 %")
    assert single[4].endswith("+0.2 %")
    assert single[8] == "levels.0.codebook_size: 900 → 1024"
    assert two[8] == "nothing"


def test_a_capacity_outside_the_tolerance_is_marked(study_folder, tables):
    path = study_folder / "study.json"
    record = json.loads(path.read_text())
    record["match"]["residuals"]["single-level-naive"]["bits"] = 0.02
    path.write_text(json.dumps(record))
    rows = {row[0]: row for row in tables(write_report(study_folder).read_text())["capacity-table"][1:]}
    assert rows["single-level-naive"][2].endswith("+2.0 %, unmatched")
    assert rows["two-level-naive"][2].endswith("+0.0 %")


def test_every_trial_is_listed(study_folder, tables):
    page = write_report(study_folder).read_text()
    study = json.loads((study_folder / "study.json").read_text())
    head, *rows = tables(page)["trial-table"]
    columns = [0, 1, head.index("PSNR, dB"), head.index("effective bits")]
    listed = [tuple(row[column] for column in columns) for row in rows]
    assert listed == [
        (t["arm"], str(t["seed"]), f"{t['psnr_db']:.2f}", f"{t['effective_bits_per_image']:,.0f}")
        for t in study["trials"]
    ]


def test_comparisons_show_difference_interval_and_verdict(study_folder):
    page = " ".join(re.sub(r"<[^>]+>", " ", write_report(study_folder).read_text()).split())
    study = json.loads((study_folder / "study.json").read_text())
    assert study["verdict"]["sentence"].replace("'", "&#39;") in page
    for comparison in study["comparisons"]:
        low, high = comparison["interval90"]
        text = f"{comparison['verdict']} {comparison['difference']:+.2f} dB [{low:+.2f}, {high:+.2f}]"
        assert text.replace("-", "−") in page


def test_psnr_of_a_crop_is_that_of_the_files(study_folder):
    page = write_report(study_folder).read_text()
    shown = re.findall(r'class="caption">([\d.]+) dB', page)
    expected = []
    for arm in ("two-level-naive", "two-level-healthy", "single-level-naive", "single-level-healthy"):
        for crop in range(6):
            folder = study_folder / "runs" / arm / "seed-0" / "samples"
            pair = [
                np.asarray(Image.open(folder / f"{crop}-{kind}.png"), dtype=float) / 255
                for kind in ("original", "reconstruction")
            ]
            expected.append(f"{10 * np.log10(1 / np.mean((pair[0] - pair[1]) ** 2)):.2f}")
    assert shown == expected


def test_the_same_records_give_the_same_bytes(study_folder, fabricate, tmp_path):
    first = write_report(study_folder).read_bytes()
    assert write_report(study_folder).read_bytes() == first
    assert write_report(fabricate(tmp_path / "elsewhere")).read_bytes() == first
    assert [path.name for path in study_folder.iterdir() if "report" in path.name] == ["report.html"]


def test_the_page_is_self_contained_and_small(study_folder):
    page = write_report(study_folder).read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!data:)""", page)
    assert "<script" not in page
    assert "url(" not in page
    assert len(page) < 1_000_000


def test_torch_is_never_imported(study_folder):
    code = (
        "import sys; from pathlib import Path; from flatvq.report import write_report;"
        f"write_report(Path({str(study_folder)!r})); print('torch' in sys.modules)"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "False"
