"""Positions of marks, checked against a scale that is fitted to the tick labels."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flatvq.records import load_study
from flatvq.report.curves import loss_chart, validation_chart
from flatvq.report.forest import groups
from flatvq.report.palette import styles_of
from flatvq.report.runs import load_run
from flatvq.report.svg import Scale, span
from flatvq.report.usage import panels

pytestmark = pytest.mark.slow

LINE = "{*}polyline"


def value_of(label: str) -> float:
    return float(label.replace("−", "-").replace("k", "e3"))


def axis(svg: ET.Element, place: str) -> np.poly1d:
    """Fit position -> value through the tick labels of an axis, `x` in percent or `y` in pixels."""
    ticks = [t for t in svg.iter("text") if (t.get("text-anchor") == "end") == (place == "y")]
    places = [float(str(t.get(place)).rstrip("%")) for t in ticks]
    return np.poly1d(np.polyfit(places, [value_of(str(t.text)) for t in ticks], 1))


@pytest.fixture
def study(study_folder):
    return load_study(study_folder)


@pytest.fixture
def runs(study_folder, study):
    return [load_run(study_folder, trial) for trial in study.trials]


def test_comparisons_are_drawn_at_their_values(study):
    for group in groups(study):
        scale = axis(ET.fromstring(group.axis), "x")
        for row in group.rows:
            svg = ET.fromstring(row.strip)
            (mean,) = [c for c in svg.iter("circle") if c.get("class") == "mean"]
            seeds = [scale(float(c.get("cx")[:-1])) for c in svg.iter("circle") if c.get("class") == "seed"]
            (interval,) = [line for line in svg.iter("line") if line.get("class") == "interval"]
            (band,) = svg.iter("rect")
            left, width = (float(band.get(key)[:-1]) for key in ("x", "width"))
            # Percentages are written with two decimals: 0.005 % of an axis of about 4 dB.
            near = {"abs": 5e-4}
            assert scale(float(mean.get("cx")[:-1])) == pytest.approx(row.comparison.difference, **near)
            assert seeds == pytest.approx(row.comparison.per_seed, **near)
            ends = [scale(float(interval.get(key)[:-1])) for key in ("x1", "x2")]
            assert ends == pytest.approx(row.comparison.interval, **near)
            assert [scale(left), scale(left + width)] == pytest.approx([-0.1, 0.1], **near)


def test_hierarchy_questions_come_first_and_seeds_are_named(study):
    questions = groups(study)
    assert [group.heading.split("?")[0] for group in questions] == [
        "Which model is better",
        "Do the measures against codebook collapse help",
    ]
    titles = re.findall(r"<title>(seed \d+): ", questions[0].rows[0].strip)
    assert titles == ["seed 0", "seed 1", "seed 2"]


def test_the_report_states_differences_in_the_unit_of_the_metric(study) -> None:
    def texts(metric: str, margin: float) -> str:
        change = {"metric": metric, "margin": margin, "difference": 0.0012}
        comparisons = tuple(each.model_copy(update=change) for each in study.comparisons)
        drawn = groups(study.model_copy(update={"comparisons": comparisons}))
        return "".join(
            str(part) for group in drawn for part in (group.axis, *(row.strip for row in group.rows))
        )

    assert "difference +0.00 dB; " in texts("psnr_db", 0.1)
    ssim = texts("ssim", 0.005)
    assert "difference +0.0012; " in ssim
    assert not re.search(r"\bdB\b", ssim)


def test_each_comparison_states_the_difference_of_capacities(study):
    hierarchy, intervention = groups(study)
    of_network, total = 826_691 / 1_343_491, (826_691 + 64 * 1024) / (1_343_491 + 64 * 512)
    of_network, total = (f"{100 * (ratio - 1):+.1f} %".replace("-", "−") for ratio in (of_network, total))
    assert f"parameters {total}" in hierarchy.rows[0].mismatch.split(", ")
    assert intervention.rows[0].mismatch == "same bits, parameters, multiply-adds"
    # A part of another capacity is stated only if the study matches it.
    assert "without codebooks" not in hierarchy.rows[0].mismatch
    matched = study.match.model_copy(update={"capacities": ("bits", "network_parameters")})
    hierarchy, _ = groups(study.model_copy(update={"match": matched}))
    assert f"parameters without codebooks {of_network}" in hierarchy.rows[0].mismatch.split(", ")


def test_the_validation_curve_is_the_mean_over_seeds(study, runs, study_folder):
    svg = ET.fromstring(validation_chart(runs, styles_of(study.arms)).picture)
    rows = [
        json.loads(line)
        for seed in range(3)
        for line in (study_folder / f"runs/two-level-naive/seed-{seed}/records.jsonl")
        .read_text()
        .splitlines()
    ]
    final = np.mean([r["psnr_db"] for r in rows if r["kind"] == "validation" and r["step"] == 600])
    line = next(p for p in svg.iter("polyline") if p.get("class") == "line strong")
    across, down = map(float, line.get("points").split()[-1].split(","))
    assert across == 1000
    # A thousandth of the axis of about 6 dB.
    assert axis(svg, "y")(260 * down / 1000) == pytest.approx(final, abs=0.01)


def test_the_last_record_of_a_step_is_drawn(study, study_folder):
    path = study_folder / study.trials[0].run / "records.jsonl"
    again = {"kind": "validation", "step": 600, "psnr_db": 99.0, "levels": []}
    path.write_text(path.read_text() + json.dumps(again) + "\n")
    curve = load_run(study_folder, study.trials[0]).curve("validation", "psnr_db")
    assert curve[-1] == (600.0, 99.0)
    assert len({step for step, _ in curve}) == len(curve)


def test_values_below_the_chart_are_counted(study, runs):
    chart = validation_chart(runs, styles_of(study.arms))
    svg = ET.fromstring(chart.picture)
    thin = [p for p in svg.iter("polyline") if p.get("class") == "line thin"]
    below = sum(float(point.split(",")[1]) > 1000 for line in thin for point in line.get("points").split())
    assert below > 0
    assert chart.note.startswith(f"{below} early values below")


def test_an_arm_has_the_same_style_in_every_chart(study, runs):
    style_of = styles_of(study.arms)
    assert style_of["two-level-naive"].hue == style_of["two-level-healthy"].hue
    assert style_of["single-level-naive"].hue != style_of["two-level-naive"].hue
    assert len({style.css for style in style_of.values()}) == 4
    for chart in (validation_chart(runs, style_of), loss_chart(runs, style_of)):
        styles = {line.get("style") for line in ET.fromstring(chart.picture).iter("polyline")}
        assert styles == {style.css for style in style_of.values()}


def test_code_counts_are_sorted_and_unused_codes_are_counted(study, runs):
    arm = study.arms[2]
    mine = [run for run in runs if run.trial.arm == arm.name]
    (panel,) = panels(study, arm, mine, styles_of(study.arms)[arm.name])
    svg = ET.fromstring(panel.drawings[0][1])
    unused = np.mean([sum(count == 0 for count in run.counts[0]) for run in mine])
    assert svg.find("desc").text == f"{unused:,.0f} of 1,024 codes never used"
    for line in svg.iter("polyline"):
        downs = [int(point.split(",")[1]) for point in line.get("points").split()]
        falling = downs[1:-1] if line.get("class") == "area" else downs
        assert falling == sorted(falling)
    assert "no replacement events" in panel.facts
    assert [heading for heading, _ in panel.drawings] == [
        "uses per code, codes sorted by use",
        "perplexity over steps",
    ]


def test_replacements_are_counted_from_the_events(study, runs):
    arm = study.arms[1]
    mine = [run for run in runs if run.trial.arm == arm.name]
    bottom = panels(study, arm, mine, styles_of(study.arms)[arm.name])[0]
    replaced = np.mean([sum(row["replaced"] for row in run.of_level("replacement", 0)) for run in mine])
    survived = [
        row["survived"]
        for run in mine
        for row in run.of_level("replacement", 0)
        if row["survived"] is not None
    ]
    alive = f"{100 * np.mean(survived):.0f} % of them still active at the next event"
    assert f"{replaced:.0f} codes replaced per trial; {alive}" in bottom.facts
    assert "initialized by k-means from 2,048 vectors" in bottom.facts


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6), st.integers(2, 8))
def test_linear_ticks_are_few_evenly_spaced_and_inside(low, width, most):
    ticks = Scale(low, low + width).ticks(most)
    assert 2 <= len(ticks) <= max(most + 1, 6)
    assert np.diff(ticks) == pytest.approx(ticks[1] - ticks[0])
    assert all(low - 1e-6 * width - 1e-9 <= tick <= low + width + 1e-6 * width + 1e-9 for tick in ticks)


@given(st.floats(1e-5, 1e3), st.floats(1.3, 1e9), st.integers(2, 6))
def test_log_ticks_are_inside_and_round(low, ratio, most):
    ticks = Scale(low, low * ratio, log=True).ticks(most)
    assert all(low * (1 - 1e-9) <= tick <= low * ratio * (1 + 1e-9) for tick in ticks)
    assert all(f"{tick:e}"[0] in "125" for tick in ticks)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1))
def test_a_span_holds_its_values_inside(values):
    scale = span(values)
    assert all(0 < scale(value) < 1 for value in values)
