"""Follow docs/how-to/extend.md: install the package that it writes, and run its study.

The code blocks of the page are the only source of the package.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/extend.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Trains the arm with the new quantizer to the end, and again with an interruption after the first step.
RESUME = """
import os, signal
from flatvq.recipe import load_recipe
from flatvq.study import planned_trial
from flatvq.train import run_trial

trial = planned_trial(load_recipe("recipe.yaml"), "product", 0)
assert run_trial(trial, "whole")
assert not run_trial(trial, "stopped", progress=lambda done, total: os.kill(os.getpid(), signal.SIGTERM))
assert [path.name for path in sorted(os.scandir("stopped/checkpoints"), key=str)] == ["step-00000001"]
assert run_trial(trial, "stopped")
"""

pytestmark = [pytest.mark.slow, pytest.mark.processes]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the package of the page, installed into `site`, its recipe and some images."""
    folder: Path = tmp_path_factory.mktemp("extend")
    project = ""
    for language, text in BLOCK.findall(PAGE):
        if language == "toml":
            project += text + "\n"
        elif name := re.match(r"# (\S+\.\w+)\n", text):
            (folder / name[1]).parent.mkdir(exist_ok=True)
            (folder / name[1]).write_text(text, encoding="utf-8")
    (folder / "pyproject.toml").write_text(project, encoding="utf-8")
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--target", "site"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "."], cwd=folder, check=True)
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    np.save(folder / "images.npy", images)
    return folder


@pytest.fixture(scope="module")
def study(workplace: Path) -> dict[str, Any]:
    """Run the study of the page, in the processes that a study starts, and return its study.json."""
    run(workplace, "-m", "flatvq", "study", "recipe.yaml", "--out", "study")
    record: dict[str, Any] = json.loads((workplace / "study/study.json").read_text())
    return record


def run(workplace: Path, *arguments: str) -> str:
    """Run Python in the folder with the package installed, and return what it prints."""
    path = os.pathsep.join([str(workplace / "site"), str(ROOT / "src")])
    result = subprocess.run(
        [sys.executable, *arguments],
        cwd=workplace,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def arm(study: dict[str, Any], name: str) -> dict[str, Any]:
    return next(arm for arm in study["arms"] if arm["name"] == name)


def trial(study: dict[str, Any], name: str) -> dict[str, Any]:
    return next(trial for trial in study["trials"] if trial["arm"] == name)


def folder_of(workplace: Path, study: dict[str, Any], name: str) -> Path:
    return workplace / "study" / trial(study, name)["run"]


def test_a_quantizer(workplace: Path, study: dict[str, Any]) -> None:
    product, vector = arm(study, "product"), arm(study, "vector")
    bottom = product["level_table"][0]
    assert (bottom["codebook_size"], bottom["code_dim"], bottom["indices_per_cell"]) == (8, 4, 2)
    # 2 log2 8 = log2 64, and one group of channels is searched at a time.
    assert product["bits_per_image"] == vector["bits_per_image"] == 64 * 6 + 16 * 4 + 4 * 4
    assert product["codebook_parameters"] == 8 * 4 + 2 * 16 * 4
    assert product["search_multiply_adds"] == 64 * 8 * 4 + (16 + 4) * 16 * 4
    counts = json.loads((folder_of(workplace, study, "product") / "codes.json").read_text())["levels"][0]
    assert len(counts["counts"]) == 2 * 8
    assert sum(counts["counts"]) == 2 * 64 * 2


def test_a_quantizer_resumes_exactly(workplace: Path) -> None:
    run(workplace, "-c", RESUME)
    weights = [(workplace / name / "model/model.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]
    rows = [json.loads(row) for row in (workplace / "whole/records.jsonl").read_text().splitlines()]
    inits = [row["level"] for row in rows if row["kind"] == "init"]
    assert sorted(inits) == [0, 0, 1, 2]  # both codebooks of the bottom level report theirs


def test_a_quantizer_checks_its_keys(workplace: Path) -> None:
    program = """
from flatvq import FlatvqError, load_recipe
for change in ("code_dim=5", "options={group: 2}"):
    try:
        load_recipe("recipe.yaml", [f"model.levels.0.{change}"])
    except FlatvqError as error:
        print(error)
"""
    first, second = run(workplace, "-c", program).splitlines()
    assert "code_dim=5 is not a multiple of options.groups=2, under 'model.levels.0'" in first
    assert "options.group is unknown for quantizer=product under 'model.levels.0'" in second
    assert second.endswith("did you mean 'groups'?")


def test_a_metric(workplace: Path, study: dict[str, Any]) -> None:
    values = {name: trial(study, name) for name in ("product", "vector")}
    page = (workplace / "study/report.html").read_text()
    for name, value in values.items():
        metrics = json.loads((folder_of(workplace, study, name) / "metrics.json").read_text())
        # An untrained model misses some pixel by much, but by no more than the whole range.
        assert 0.25 < value["max_error"] == metrics["max_error"] <= 1
        counts = json.loads((folder_of(workplace, study, name) / "codes.json").read_text())["levels"]
        shares = [max(level["counts"]) / sum(level["counts"]) for level in counts]
        assert [level["top_share"] for level in value["levels"]] == pytest.approx(shares)
        assert f"{value['max_error']:.3f}</td>" in page
    assert 'title="lower is better">largest error</th>' in page
    assert ">top code</th>" in page
    program = """
from flatvq import load_study
from flatvq.cli.tables import show_study
show_study(load_study("study"))
"""
    table = run(workplace, "-c", program)
    assert "largest error" in table
    assert f"{values['vector']['max_error']:.3f}" in table


def test_a_data_source(study: dict[str, Any]) -> None:
    assert study["data"]["source"] == "array"
    assert (study["data"]["training_images"], study["data"]["validation_images"]) == (6, 2)
    assert study["data"]["held_out"] == "the last 2 images of the array are held out"


def test_a_hierarchy(workplace: Path, study: dict[str, Any]) -> None:
    assert {arm["hierarchy"] for arm in study["arms"]} == {"bottom-conditioned"}
    program = """
import flatvq, sys, torch
model = flatvq.load(sys.argv[1])
print(len(model.decoders), sum(p.numel() for name, p in model.named_parameters() if "quantizers" not in name))
images = torch.rand(1, 3, 32, 32)
before = model(images).levels
model.quantizers[2].codebook.weight += 1
print([bool((a.latents == b.latents).all()) for a, b in zip(before, model(images).levels)])
"""
    printed = run(workplace, "-c", program, str(folder_of(workplace, study, "vector") / "model")).splitlines()
    assert printed[0] == f"2 {arm(study, 'vector')['network_parameters']}"
    # Other codes at the top change what the bottom level quantizes, and not what the middle one does.
    assert printed[1] == "[False, True, True]"


def test_a_capacity(workplace: Path, study: dict[str, Any]) -> None:
    for each in study["arms"]:
        assert each["weight_bytes"] == 4 * each["parameters"]
    difference = arm(study, "vector")["weight_bytes"] / arm(study, "product")["weight_bytes"] - 1
    assert study["match"]["residuals"]["vector"]["weight_bytes"] == pytest.approx(difference)
    assert "bytes of weights" in run(workplace, "-m", "flatvq", "capacity", "recipe.yaml")
    assert ">bytes of weights</th>" in (workplace / "study/report.html").read_text()


def test_a_capacity_can_be_required(workplace: Path) -> None:
    program = """
from flatvq import FlatvqError, load_recipe, plan_study
try:
    plan_study(load_recipe("recipe.yaml", ["match.tolerance=0.001"]), "recipe")
except FlatvqError as error:
    print(error)
"""
    assert "arm 'vector' does not match 'product': weight_bytes +" in run(workplace, "-c", program)


def test_a_report_section(workplace: Path, study: dict[str, Any]) -> None:
    page = (workplace / "study/report.html").read_text()
    section = page[page.index('<section id="training-time"') :].partition("</section>")[0]
    assert '<h2 id="training-time-heading">Training time</h2>' in section
    for each in study["trials"]:
        assert f"<td>{each['arm']}</td><td>0</td><td>{each['seconds']:.0f}</td>" in section


def test_a_command(workplace: Path, study: dict[str, Any]) -> None:
    assert "unused" in run(workplace, "-m", "flatvq", "--help")
    folder = folder_of(workplace, study, "vector")
    levels = json.loads((folder / "codes.json").read_text())["levels"]
    unused = [level["counts"].count(0) for level in levels]
    printed = run(workplace, "-m", "flatvq", "unused", str(folder)).splitlines()
    assert printed == [
        f"level {n}: {count} of {len(levels[n]['counts'])} codes unused" for n, count in enumerate(unused)
    ]


def test_the_table_of_the_page_lists_every_registry() -> None:
    import flatvq
    from flatvq import Registry
    from flatvq.cli.commands import COMMANDS

    registries = [getattr(flatvq, name) for name in flatvq.__all__]
    groups = {each.group for each in (*registries, COMMANDS) if isinstance(each, Registry)}
    assert groups == set(re.findall(r"`\"(flatvq\.[a-z_]+)\"`", PAGE.partition("## Start a package")[0]))
