"""The page of findings shows the committed records; its intervals are what other code makes of the images."""

from __future__ import annotations

import itertools
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from findings import figures, page, tables
from findings.answer import (
    Answer,
    answer_table,
    collapsed_hierarchies,
    earlier_designs,
    summary,
    unsettled,
)
from findings.coded import coded_table, read_coded
from findings.rates import ARCHITECTURES, BitsOfTrial, curve, effective_bits, rate_differences
from findings.records import Record, with_interval
from findings.repetitions import repetitions_sentence
from findings.searches import read_searches
from scipy import integrate, stats

from flatvq.evaluate import evaluate_folder
from flatvq.model import load_tokenizer
from flatvq.recipe import CodebookRecipe, ModelRecipe, TrainRecipe, load_recipe, parse
from flatvq.study import plan_study
from flatvq.study.curves import compare_curves
from flatvq.study.looks import nominal_level
from flatvq.versions import TRAINING_PROTOCOL

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results"
PHOTOGRAPHS = ROOT.parent / "shared" / "imagenet-sample" / "val"
PACKED = sorted(path.parent for path in RESULTS.glob("*/images.parquet"))
MODELS = sorted((RESULTS / "headline" / "models").glob("*"))
OF_256_PX = sorted((RESULTS / "frontier-256" / "models").glob("*"))
RECORDS = page.read(RESULTS)
DEFAULT_STUDY = page.read_default_study(RESULTS)
REPETITIONS = repetitions_sentence(RESULTS / "repetitions.json")
CODED = read_coded(RESULTS / "coded-bits.json", RECORDS)
SEARCHES = read_searches(RESULTS / "tuned" / "searches")


def test_the_page_is_rendered_from_the_records() -> None:
    shown = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    assert shown == page.render(RECORDS, DEFAULT_STUDY, CODED, SEARCHES, REPETITIONS), "run `make findings`"


@pytest.mark.slow
def test_every_figure_is_drawn_and_shown(tmp_path: Path) -> None:
    figures.draw(RECORDS, tmp_path)
    drawn = {path.name for path in tmp_path.glob("*.svg")}
    assert drawn == {path.name for path in (ROOT / "docs" / "findings").glob("*.svg")}
    assert all(
        f"(findings/{name})" in page.render(RECORDS, DEFAULT_STUDY, CODED, SEARCHES, REPETITIONS)
        for name in drawn
    )


def test_the_records_are_of_the_current_protocol_and_of_committed_code() -> None:
    for record in RECORDS.values():
        assert record.study["training_protocol"] == TRAINING_PROTOCOL
        assert re.fullmatch(r"[0-9a-f]{40}", record.study["commit"])  # no uncommitted change


@pytest.mark.parametrize("folder", PACKED, ids=lambda path: path.name)
def test_a_trials_psnr_is_that_of_its_images(folder: Path) -> None:
    images = pq.read_table(folder / "images.parquet").to_pylist()
    study = json.loads((folder / "study.json").read_text())
    for trial in study["trials"]:
        own = [row for row in images if (row["arm"], row["seed"]) == (trial["arm"], trial["seed"])]
        assert len(own) == study["data"]["validation_images"] >= 100
        # Single precision: 24 bits of some 25 dB.
        assert trial["psnr_db"] == pytest.approx(np.mean([row["psnr_db"] for row in own]), abs=1e-5)
        mse = np.mean([10 ** (-row["psnr_db"] / 10) for row in own])
        assert trial["psnr_of_mean_mse_db"] == pytest.approx(-10 * math.log10(mse), abs=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(not PHOTOGRAPHS.is_dir(), reason="the photographs of the record are not on this machine")
@pytest.mark.parametrize("folder", [*MODELS[::7], OF_256_PX[0]], ids=lambda path: path.name)
def test_the_committed_tokenizers_are_those_of_the_record(folder: Path) -> None:
    arm, seed = folder.name.rsplit("-seed-", 1)
    record = RECORDS[folder.parents[1].name]
    resize = record.setting("data", "resize")
    metrics = evaluate_folder(load_tokenizer(folder), PHOTOGRAPHS, crop=record.size, resize=resize)
    (trial,) = (trial for trial in record.trials(arm) if trial["seed"] == int(seed))
    # The weights are stored in 16 bits, and convolutions of another machine may round differently.
    assert metrics["psnr_db"] == pytest.approx(trial["psnr_db"], abs=0.01)
    for level, recorded in zip(metrics["levels"], trial["levels"], strict=True):
        assert level["used_codes"] == pytest.approx(recorded["used_codes"], abs=2)
        assert level["perplexity"] == pytest.approx(recorded["perplexity"], rel=0.005)


def test_each_healthy_arm_and_seed_has_a_committed_tokenizer_of_less_than_a_megabyte() -> None:
    expected = {
        f"{arm}-seed-{trial['seed']}" for arm in ARCHITECTURES for trial in RECORDS["headline"].trials(arm)
    }
    assert {folder.name for folder in MODELS} == expected
    for folder in MODELS:
        assert sum(path.stat().st_size for path in folder.iterdir()) < 1_000_000


def test_coded_bits_are_those_of_files_and_compared_by_welch() -> None:
    rows = json.loads((RESULTS / "coded-bits.json").read_text(encoding="utf-8"))["tokenizers"]
    measured = [(row["study"], row["arm"], row["seed"]) for row in rows if row["prior"] == "table"]
    assert len(set(measured)) == len(measured)
    committed = {
        (path.parents[1].name, arm, int(seed))
        for path in RESULTS.glob("*/models/*-seed-*")
        for arm, _, seed in [path.name.rpartition("-seed-")]
        if path.parents[1].name in RECORDS
    }
    trials = {
        (name, trial["arm"], trial["seed"])
        for name, record in RECORDS.items()
        for trial in record.study["trials"]
    }
    assert committed <= set(measured) <= trials
    for study in (study for study in CODED if study.record.name == "headline"):
        one, other = (
            np.log([bits for (name, _), bits in study.bits.items() if name == arm])
            for arm in ("residual", "single")
        )
        test = stats.ttest_ind(one, other, equal_var=False)
        low, high = 100 * np.expm1(test.confidence_interval(1 - 2 * nominal_level((8, 16, 32))))
        shown = with_interval(100 * np.expm1(one.mean() - other.mean()), (low, high), " %", 1)
        row = coded_table([study]).splitlines()[-1]
        assert f"| {study.prior} | residual |" in row
        assert row.endswith(f"| {shown} |")


@pytest.mark.parametrize("path", sorted((ROOT / "findings" / "recipes").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_recipe_can_be_planned_and_is_that_of_its_record(path: Path) -> None:
    plan = plan_study(load_recipe(str(path)), path.stem)
    recorded = RECORDS[path.stem].recipes
    assert {arm.name for arm in plan.arms} == recorded.keys()
    for arm in plan.arms:
        # Keys that are newer than the record have their defaults there.
        assert arm.recipe.model == parse(ModelRecipe, recorded[arm.name]["model"])
        assert arm.recipe.train == parse(TrainRecipe, recorded[arm.name]["train"])
        assert arm.recipe.codebook == parse(CodebookRecipe, recorded[arm.name]["codebook"])


@pytest.mark.parametrize("name", [name for name in RECORDS if "frontier" in name])
def test_arms_of_a_budget_have_the_same_bits_and_multiply_adds(name: str) -> None:
    record = RECORDS[name]
    for budget in {arm.split("-")[1] for arm in record.arms}:
        arms = [record.arm(f"{kind}-{budget}") for kind in ARCHITECTURES]
        for key in ("bits_per_image", "multiply_adds"):
            reference = record.arm(f"parallel-{budget}")[key]
            assert [arm[key] for arm in arms] == pytest.approx([reference] * 4, rel=0.01)


COMPARISONS = [(record, one) for record in RECORDS.values() for one in record.study["comparisons"]]


@pytest.mark.parametrize(
    ("record", "one"), COMPARISONS, ids=[f"{r.name}-{c['a']}-{c['b']}-{c['c']}" for r, c in COMPARISONS]
)
def test_intervals_follow_from_the_images(record: Record, one: dict[str, Any]) -> None:
    """Welch's interval over two or four arms, computed from the PSNR of each image."""
    images = pq.read_table(RESULTS / record.name / "images.parquet").to_pandas()
    seeds = images.groupby(["arm", "seed"], observed=True)["psnr_db"].mean()
    arms = [one[key] for key in "abcd" if one[key]]
    samples = [seeds[arm].to_numpy() for arm in arms]
    signs = (1, -1, -1, 1)[: len(arms)]
    mean = sum(sign * sample.mean() for sign, sample in zip(signs, samples, strict=True))
    errors = [stats.sem(sample) ** 2 for sample in samples]
    freedom = sum(errors) ** 2 / sum(e**2 / (len(s) - 1) for e, s in zip(errors, samples, strict=True))
    level = nominal_level(tuple(record.study["design"]["looks"]))
    interval = stats.t.interval(1 - 2 * level, freedom, mean, math.sqrt(sum(errors)))
    assert one["interval90"] == pytest.approx(interval, abs=1e-4)
    shown = f"{mean:+.2f} [{interval[0]:+.2f}, {interval[1]:+.2f}] dB".replace("-", "−")
    assert with_interval(one["difference"], one["interval90"]) == shown
    assert shown in tables.comparisons_table([(record, arms)])


@pytest.mark.parametrize("name", ["headline", "frontier-64"])
def test_effective_bits_are_entropies_of_the_indices(name: str) -> None:
    record = RECORDS[name]
    rows = pq.read_table(RESULTS / name / "codes.parquet").to_pylist()
    counts = {(row["arm"], row["seed"], row["level"]): row["counts"] for row in rows}
    for arm in record.arms:
        for trial in record.trials(arm):
            bits = 0.0
            for number, level in enumerate(record.arm(arm)["level_table"]):
                bits += math.prod(level["grid"]) * stats.entropy(counts[arm, trial["seed"], number], base=2)
            assert trial["effective_bits_per_image"] == pytest.approx(bits, rel=1e-6)


FRONTIERS = [record for name, record in RECORDS.items() if "frontier" in name]


CURVES = [
    *(pytest.param(record, effective_bits, id=f"{record.name}-effective") for record in FRONTIERS),
    *(
        pytest.param(one.record, one.of_trial, id=f"{one.record.name}-{one.prior}")
        for one in CODED
        if one.complete and one.record in FRONTIERS
    ),
]


@pytest.mark.parametrize(("record", "bits_of"), CURVES)
@pytest.mark.parametrize("architecture", ARCHITECTURES[1:])
def test_rate_differences_are_integrals_over_the_means(
    record: Record, bits_of: BitsOfTrial, architecture: str
) -> None:
    (shown,) = (each for each in rate_differences(record, bits_of) if each.architecture == architecture)
    curves = curve(record, architecture, bits_of), curve(record, "single", bits_of)
    points = [([np.mean(b.bits) for b in each], [np.mean(b.values) for b in each]) for each in curves]
    exact = _log_ratio(*points)
    assert shown.percent == pytest.approx(100 * (math.exp(exact) - 1), abs=0.05)
    low, high = (math.log1p(bound / 100) for bound in shown.interval)
    assert (low + high) / 2 == pytest.approx(exact, abs=1e-3)
    estimate = compare_curves(*curves).log_ratio
    quantile = stats.t.ppf(1 - nominal_level(tuple(record.study["design"]["looks"])), estimate.freedom)
    assert (high - low) / 2 == pytest.approx(quantile * estimate.error, rel=1e-2)
    heights = [point[1] for point in points]
    assert shown.shared == pytest.approx(
        (max(each[0] for each in heights), min(each[-1] for each in heights))
    )


def _log_ratio(one: tuple[list[float], list[float]], other: tuple[list[float], list[float]]) -> float:
    low, high = max(one[1][0], other[1][0]), min(one[1][-1], other[1][-1])
    area, _ = integrate.quad(
        lambda psnr: np.interp(psnr, one[1], np.log(one[0])) - np.interp(psnr, other[1], np.log(other[0])),
        low,
        high,
        points=sorted(psnr for psnr in {*one[1], *other[1]} if low < psnr < high) or None,
    )
    return float(area / (high - low))


def test_the_page_names_every_healthy_level_that_collapsed() -> None:
    text = page.render(RECORDS, DEFAULT_STUDY, CODED, SEARCHES, REPETITIONS)
    for record in RECORDS.values():
        for trial in record.study["trials"]:
            table = record.arm(trial["arm"])["level_table"]
            for number, (level, shape) in enumerate(zip(trial["levels"], table, strict=True)):
                most = min(level["codebook_size"], 100 * math.prod(shape["grid"]))
                collapsed = level["perplexity"] < max(most / 10, most**0.3)
                line = f"{trial['arm']}, seed {trial['seed']}, level {number}:"
                named = f"- [{record.name}](../results/{record.name}/study.json), {line}" in text
                assert named == (collapsed and not trial["arm"].endswith("-naive")), line


def _record(verdicts: dict[str, tuple[str, float]], collapsed: dict[str, list[bool]]) -> Record:
    """Return a study of one level against hierarchies, with 100 steps at 64 px."""
    recipe = {"data": {"crop": 64}, "train": {"steps": 100}}
    comparisons = [
        {
            **{"a": "single", "b": arm, "c": None, "d": None, "primary": arm == "parallel"},
            **{"verdict": verdict, "difference": mean, "interval90": [mean - 0.1, mean + 0.1], "seeds": 2},
        }
        for arm, (verdict, mean) in verdicts.items()
    ]
    trials = [
        {
            **{"arm": arm, "seed": seed, "status": "done", "psnr_db": 24.0 + seed},
            "levels": [{"collapse": "codes" if dead else None}],
        }
        for arm, seeds in collapsed.items()
        for seed, dead in enumerate(seeds)
    ]
    study = {"comparisons": comparisons, "trials": trials, "looks": [{"seeds": 2}], "arms": []}
    study["arms"] = [{"name": arm} for arm in collapsed]
    return Record("small", study, {"single": recipe})


def test_the_answer_states_each_verdict_and_each_collapsed_seed() -> None:
    record = _record(
        {"parallel": ("inconclusive", 0.25), "conditioned": ("worse", -0.5), "residual": ("worse", -0.75)},
        {
            **{"single": [False, False], "parallel": [True, False]},
            **{"conditioned": [True, True], "residual": [False, False]},
        },
    )
    answer = Answer("healthy", "shared", record, "single", ("parallel", "conditioned", "residual"))
    assert summary([answer]) == (
        "**Healthy codebooks, shared settings.** One level reconstructs worse than *conditioned* and "
        "*residual* at 64 px, by 0.50 to 0.75 dB. No study shows a difference from *parallel*."
    )
    better = Answer("naive", "tuned", _record({"parallel": ("better", 0.5)}, {}), "single", ("parallel",))
    assert summary([better]) == (
        "**Naive codebooks, tuned settings.** One level reconstructs better than *parallel* at 64 px, "
        "by 0.50 dB."
    )
    both = replace(answer, record=better.record, hierarchies=("parallel",))
    assert summary([answer, both]) == (
        "**Healthy codebooks, shared settings.** One level reconstructs better than *parallel* at 64 px, by "
        "0.50 dB, and reconstructs worse than *conditioned* and *residual* at 64 px, by 0.50 to 0.75 dB."
    )
    assert answer_table([answer, better]).splitlines()[2:] == [
        "| healthy | shared | [64 px](../results/small/study.json) | 100 | 2 "
        "| **inconclusive**, +0.25 [+0.15, +0.35] dB "
        "| **worse**, −0.50 [−0.60, −0.40] dB | **worse**, −0.75 [−0.85, −0.65] dB |",
        "| naive | tuned | [64 px](../results/small/study.json) | 100 | 2 "
        "| **better**, +0.50 [+0.40, +0.60] dB | – | – |",
    ]
    assert collapsed_hierarchies([answer, replace(answer, settings="tuned", hierarchies=("parallel",))]) == [
        "*parallel* at 64 px in 1 of 2 seeds (−0.50 dB without them)",
        "*conditioned* at 64 px in 2 of 2 seeds",
        "*parallel* at 64 px (tuned) in 1 of 2 seeds (−0.50 dB without them)",
    ]
    assert collapsed_hierarchies([replace(answer, codebooks="naive")]) == []
    assert unsettled([record]) == "[small](../results/small/study.json) after 2 seeds"


def test_a_study_that_replaced_an_earlier_design_is_named_with_what_changed() -> None:
    record = _record({"parallel": ("better", 0.5)}, {})
    design = {"margin": 0.1, "looks": [2], "level": 0.05, "arms": {"single": "1", "parallel": "2"}}
    earlier = {**design, "margin": 0.2, "level": 0.01, "arms": {"single": "1", "parallel": "3"}}
    study = {**record.study, "design": design, "earlier_designs": [{"design": earlier, "looks": [{}]}]}
    assert earlier_designs([Record("small", study, {})]) == (
        "[small](../results/small/study.json) replaced an earlier design after 1 look "
        "(changed: margin and the arm *parallel*)"
    )
    assert earlier_designs([Record("small", {**study, "earlier_designs": []}, {})]) == ""
    assert "replaced an earlier design before its first look (changed: the arm *residual*)" in page.render(
        RECORDS, DEFAULT_STUDY, CODED, SEARCHES, REPETITIONS
    )


def test_repetitions_are_counted_by_verdict(tmp_path: Path) -> None:
    verdicts = ["better", "not worse", "inconclusive", "better"]
    rows = [{"verdict": verdict, "isa": "AVX2" if verdict == "better" else None} for verdict in verdicts]
    path = tmp_path / "repetitions.json"
    assert repetitions_sentence(path) == ""
    path.write_text(json.dumps({"repetitions": rows}))
    assert repetitions_sentence(path) == (
        "The study was repeated 4 times with other seeds, 2 times with float32 on AVX2 alone. 3 of the 4 "
        "were settled at the first look: *better* in 2, *not worse* in 1."
    )


def test_the_readme_states_the_comparisons_of_the_records() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("## What it found")[1].split("\n## ")[0]
    rows = re.findall(
        r"^\| .+ \| (.+) \| (.+) \| (.+) \| \[.+\]\(results/(.+)/study.json\) \|$", text, re.MULTILINE
    )
    assert len(rows) == 10
    for arms, difference, verdict, name in rows:
        one = (DEFAULT_STUDY if name == "photographs" else RECORDS[name]).comparison(*arms.split(" − "))
        assert difference == with_interval(one["difference"], one["interval90"])
        assert verdict == one["verdict"]


def test_results_of_two_arms_at_equal_seeds_hardly_correlate() -> None:
    """docs/concepts.md states the pooled correlations of the committed studies."""
    pooled = {}
    for folder in PACKED:
        record = Record.read(folder)
        pairs = []
        for one, other in itertools.combinations(record.arms, 2):
            values = [{t["seed"]: t["psnr_db"] for t in record.trials(arm)} for arm in (one, other)]
            shared = sorted(values[0].keys() & values[1].keys())
            pairs.append(np.array([stats.zscore([each[seed] for seed in shared]) for each in values]))
        pooled[record.name] = np.corrcoef(np.concatenate(pairs, axis=1))[0, 1]
    assert pooled.pop("tuned") == pytest.approx(0.50, abs=0.005)
    assert max(pooled.values()) < 0.12, pooled
    assert min(pooled.values()) > -0.12, pooled
