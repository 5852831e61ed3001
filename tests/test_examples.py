"""The examples run as a user runs them, with tiny settings, and print what they say they print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

pytestmark = [pytest.mark.slow, pytest.mark.processes]

EXAMPLES = Path(__file__).parents[1] / "examples"
NUMBER = r"(\d+\.\d\d) dB"


def run(folder: Path, script: str, *arguments: str) -> str:
    """Run an example in a folder and return what it printed; a warning or an error fails the test."""
    command = [sys.executable, "-W", "error::DeprecationWarning", str(EXAMPLES / script), *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_healthy_quantizer_uses_more_codes(tmp_path: Path) -> None:
    printed = run(tmp_path, "quantizer.py", "--steps", "100")
    used = {name: int(share) for name, share in re.findall(r"^(\w+): .* (\d+)% of the codes", printed, re.M)}
    assert used["healthy"] > used["naive"]


def test_a_hierarchy_prints_the_bits_of_its_levels(tmp_path: Path) -> None:
    printed = run(tmp_path, "hierarchy.py", "--steps", "20")
    assert re.search(NUMBER, printed)
    # 64 x 64 pixels: a grid of 8 x 8 cells of 8 bits, and one of 4 x 4 cells of 7 bits.
    assert "bottom: 64 indices, 512 bits" in printed
    assert "top: 16 indices, 112 bits" in printed


def test_a_study_and_its_records(tmp_path: Path) -> None:
    printed = run(tmp_path, "study.py", "--steps", "4", "--seeds", "2", "--out", "study")
    assert len(re.findall(NUMBER + ", codes used", printed)) == 4
    assert (tmp_path / "study/report.html").is_file()
    # The folder is complete: a second run trains nothing and gives the same figures.
    assert run(tmp_path, "study.py", "--steps", "4", "--seeds", "2", "--out", "study") == printed
    tables = run(tmp_path, "records.py", "study")
    decibels = {arm: float(mean) for arm, mean in re.findall(r"^(\w+-level) +(\d+\.\d+) ", tables, re.M)}
    for arm in ("one-level", "two-level"):
        trials = [float(value) for value in re.findall(rf"^{arm}, seed \d: {NUMBER}", printed, re.M)]
        assert decibels[arm] == pytest.approx(sum(trials) / len(trials), abs=0.02)


def test_a_generator_trains_on_the_tokens_of_a_folder(tmp_path: Path) -> None:
    printed = run(tmp_path, "generator.py", "--steps", "50")
    first, last = (float(bits) for bits in re.findall(r"step \d+: (\d+\.\d+) bits per index", printed))
    # 14 bits at first; four pictures are soon known by heart.
    assert first > 13
    assert last < 8
    with Image.open(tmp_path / "generated.png") as strip:
        assert strip.size == (4 * 64, 64)


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_is_short_and_uses_the_public_api_alone(script: Path) -> None:
    import flatvq

    text = script.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 80
    assert set(re.findall(r"\bflatvq\.(\w+)", text)) <= {*flatvq.__all__}
    assert not re.search(r"^(from|import) flatvq\.", text, re.M)
