"""Failed trials, single seeds, missing and hostile files: the page reports them and renders."""

from __future__ import annotations

import json
import re
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from flatvq.errors import FlatvqError
from flatvq.report import write_report

pytestmark = pytest.mark.slow


def plain(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def fail(tree, arm, seed, error):
    trial = next(t for t in tree["trials"] if (t["arm"], t["seed"]) == (arm, seed))
    trial |= {"status": "failed", "error": error, "psnr_db": None, "ssim": None, "mse": None, "levels": None}
    trial |= {"effective_bits_per_image": None, "psnr_of_mean_mse_db": None, "seconds": None}


def test_a_failed_trial_is_prominent_and_left_out_of_the_mean(study_folder, edit, tables):
    edit(study_folder, lambda tree: fail(tree, "two-level-naive", 1, "out of memory at step 3"))
    page = write_report(study_folder).read_text()
    assert "1 of 12 trials failed" in page
    assert "two-level-naive, seed 1 : out of memory at step 3" in plain(page)
    assert page.index('id="failed"') < page.index('id="comparisons"')
    study = json.loads((study_folder / "study.json").read_text())
    values = [
        t["psnr_db"] for t in study["trials"] if t["arm"] == "two-level-naive" and t["status"] == "done"
    ]
    row = next(row for row in tables(page)["fidelity-table"] if row[0] == "two-level-naive")
    assert row[1].startswith(f"{np.mean(values):.2f} ")
    assert row[2] == f"0: {values[0]:.2f} 2: {values[1]:.2f} 1 failed"


def test_an_arm_without_a_finished_trial(study_folder, edit, tables):
    def fail_all(tree):
        for seed in range(3):
            fail(tree, "single-level-naive", seed, "no")
        tree["comparisons"] = [c for c in tree["comparisons"] if "single-level-naive" not in (c["a"], c["b"])]

    edit(study_folder, fail_all)
    row = next(
        r
        for r in tables(write_report(study_folder).read_text())["fidelity-table"]
        if r[0] == "single-level-naive"
    )
    assert row[1] == "no finished trial"
    assert row[3] == "–"


def test_one_seed_has_no_interval(fabricate, tmp_path, tables):
    page = write_report(fabricate(tmp_path / "one", seeds=(7,))).read_text()
    assert "One seed only" in page
    assert all("one seed, no interval" in row[1] for row in tables(page)["fidelity-table"][1:])
    assert plain(page).count("no interval") >= 8
    assert 'class="interval"' not in page


def test_three_levels_and_many_arms(study_folder, edit, tables):
    def grow(tree):
        level = {"grid": [4, 4], "codebook_size": 64, "code_dim": 8}
        three = tree["arms"][1]
        three["levels"] = 3
        three["level_table"].append(level)
        for trial in tree["trials"]:
            if trial["arm"] == three["name"]:
                trial["levels"].append({**trial["levels"][0], "codebook_size": 64, "usage": 0.5})
        for number in range(12):
            sized = {"grid": [16, 16], "codebook_size": 2 + number, "code_dim": 4}
            tree["arms"].append({**tree["arms"][0], "name": f"arm {number}", "level_table": [sized]})

    edit(study_folder, grow)
    page = write_report(study_folder).read_text()
    rows = tables(page)["fidelity-table"]
    assert len(rows) == 17
    assert rows[2][5] == "bottom, K 256 middle, K 256 top, K 64"
    assert rows[2][6].endswith("50.0 %")
    assert len(page) < 3_000_000


def test_hostile_names_are_escaped(study_folder, edit):
    evil = "<script>alert(1)</script>\"'><img src=x onerror=y>"

    def poison(tree):
        text = json.dumps(tree).replace("two-level-naive", "@@")
        tree |= json.loads(text.replace("@@", json.dumps(evil)[1:-1]))
        tree["title"] = tree["verdict"]["sentence"] = tree["evaluation_protocol"] = evil
        tree["data"]["files"] = [{"name": evil, "split": evil, "status": "skipped", "reason": evil}]
        tree["machine"] = {evil: evil}
        fail(tree, "single-level-naive", 0, evil)
        for question in tree["comparisons"]:
            question["question"] = question["verdict"] = evil

    edit(study_folder, poison)
    page = write_report(study_folder).read_text()
    assert "<script" not in page
    assert "<img src=x" not in page
    assert page.count("&lt;script&gt;") > 20
    # The runs of the renamed arm are missing, and the page says so.
    assert "is missing" in page


@pytest.mark.parametrize(
    ("remove", "words"),
    [
        ("samples", "No pictures of seed 0: two-level-healthy."),
        ("codes.json", "codes.json"),
        ("records.jsonl", "cannot read"),
        ("", "is missing"),
    ],
)
def test_missing_files_are_named(study_folder, remove, words):
    for seed in range(3):
        target = study_folder / "runs/two-level-healthy" / f"seed-{seed}" / remove
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    assert words in plain(write_report(study_folder).read_text()).replace("&#39;", "'")


def test_no_run_folder_at_all(study_folder):
    shutil.rmtree(study_folder / "runs")
    page = plain(write_report(study_folder).read_text())
    assert "No trial has readable pictures" in page
    assert "No validation records." in page
    assert "No training records." in page
    assert page.count("This study folder does not contain the folders of the runs") == 1


def test_a_run_outside_of_the_study_is_not_read(study_folder, edit):
    edit(study_folder, lambda tree: tree["trials"][0].update(run="../elsewhere"))
    edit(study_folder, lambda tree: tree["trials"][1].update(run="/etc"))
    assert write_report(study_folder).read_text().count("lies outside of the study") == 2


def test_a_run_whose_path_is_too_long_is_not_read(study_folder, edit):
    edit(study_folder, lambda tree: tree["trials"][0].update(run="runs/" + 300 * "x"))
    edit(study_folder, lambda tree: tree["trials"][1].update(run=2100 * "x/"))
    page = write_report(study_folder).read_text()
    assert page.count("has a path of 305 characters") == 1
    assert page.count("has a path of 4200 characters") == 1


def test_an_incomplete_record_is_noted(study_folder):
    path = study_folder / "runs/two-level-naive/seed-0/records.jsonl"
    path.write_text(path.read_text() + '{"kind": "vali')
    assert "the incomplete last line of records.jsonl was dropped" in write_report(study_folder).read_text()


def test_damaged_codes_and_pictures_are_shown_as_missing(study_folder):
    run = study_folder / "runs/two-level-naive/seed-0"
    (run / "codes.json").write_text('{"levels": [{"counts": ["x"]}]}')
    (run / "samples/0-reconstruction.png").write_bytes(b"\x89PNG nonsense")
    Image.new("RGB", (8, 8)).save(run / "samples/1-reconstruction.png")
    page = write_report(study_folder).read_text()
    assert "codes.json&#39; holds no valid" in page
    assert page.count('<span class="missing">missing</span>') == 2


def test_a_picture_that_claims_to_be_huge_is_missing(study_folder):
    run = study_folder / "runs/two-level-naive/seed-0"
    for number, width in ((0, 2**15), (1, 2**31 - 1)):
        path = run / f"samples/{number}-original.png"
        content = path.read_bytes()
        header = b"IHDR" + struct.pack(">II", width, 2**15) + content[24:29]
        path.write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])
    page = write_report(study_folder).read_text()
    assert page.count('<span class="missing">missing</span>') == 2


def test_noisy_large_pictures_stay_within_the_budget(study_folder):
    rng = np.random.default_rng(0)
    for folder in study_folder.glob("runs/*/seed-0/samples"):
        for path in folder.glob("*.png"):
            Image.fromarray(rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(path)
    path = write_report(study_folder)
    assert path.stat().st_size < 3_000_000
    assert "as WebP of quality" in path.read_text()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no study.json"),
        ("{", "is damaged"),
        ("[]", "has format None"),
        ('{"format": 1}', "has format 1"),
        ('{"format": 2, "margin_db": "wide"}', "holds no valid 'margin_db'"),
    ],
)
def test_a_folder_without_a_valid_study_is_a_one_line_error(tmp_path, text, words):
    if text is not None:
        (tmp_path / "study.json").write_text(text)
    with pytest.raises(FlatvqError, match=words) as caught:
        write_report(tmp_path)
    assert "\n" not in str(caught.value)
