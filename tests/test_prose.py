"""The prose check flags translated sentences, finds prose in files, and accepts plain English."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("proselint", reason="proselint needs google-re2, which is installed on Linux only")
from tools.prose.__main__ import findings
from tools.prose.passages import passages

TRANSLATED = [
    "A training that is killed goes on as if it never had been.",
    "another processor rounds otherwise, which is as good as another seed",
    "Of the same height and width it has to say the same again.",
    "By the way of decoding too: the two sides have different ones.",
    "which is as good as a lot",
    "the hopeless and the collapsed are given up",
    "admit arms that no choice brings within the tolerance, as near as they come. What is left is told",
    "How other processes come about",
    "the best of twenty looks at images that were kept aside counts",
    "where it could not be built, FAISS' flat search does",
    "told of the arm with fewer levels",
    "What the user gave wrong raises",
    "may leave to a search in floats before the next variant takes less",
    "do not ask again, each time twice as many",
    "measured of the question that it is made for",
]
PLAIN = [
    "A killed run resumes and ends with bit-identical weights.",
    "Rounding differs between processors, which acts like changing the seed.",
    "Must be deterministic in height and width.",
    "Keyed by decoder too: the splits decode differently.",
    "a reproducible random subset",
    "Unpromising and collapsed trials are pruned.",
    "Accept the closest match; report the residual.",
    "Spawn workers from a preloaded forkserver.",
    "Keeps the best of 20 validation checkpoints.",
    "Fallback: FAISS for small D.",
    "From the viewpoint of the arm with fewer levels.",
    "Invalid input raises an error.",
    "may fall back before we demote it",
    "Skip the check, with exponential back-off.",
    "flatvq's answer to its question",
    "Look up the code vectors of these indices.",
]


@pytest.mark.parametrize("sentence", TRANSLATED)
def test_translated_sentences_are_flagged(sentence: str) -> None:
    assert findings(sentence)


@pytest.mark.parametrize("sentence", PLAIN)
def test_plain_sentences_pass(sentence: str) -> None:
    assert findings(sentence) == []


def test_prose_is_found_where_it_is_written(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(
        '"""A first line of text.\n\nExample:\n    >>> hopeless = 1\n"""\n\n'
        "# A comment in\n# two lines.\nname = 'hopeless'\nraise ValueError('a message of five words')\n"
    )
    assert [(one.line, one.text) for one in passages(module)] == [
        (1, "A first line of text. Example:"),
        (10, "a message of five words"),
        (7, "A comment in two lines."),
    ]
    page = tmp_path / "page.md"
    page.write_text("# Title\n\n```\nhopeless\n```\nThe [text](hopeless.md) of `hopeless` code.\n")
    assert [(one.line, one.text) for one in passages(page)] == [
        (1, "# Title"),
        (6, "The [text] of code code."),
    ]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("# What it asks.\nkey: hopeless\n")
    assert [(one.line, one.text) for one in passages(recipe)] == [(1, "What it asks.")]
    template = tmp_path / "page.html"
    template.write_text("<p class='hopeless'>Text {{ hopeless }}\n</p>")
    assert [(one.line, one.text.split()) for one in passages(template)] == [(1, ["Text"])]


def test_the_command_names_file_and_line(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Plain.\n\nThe hopeless are given up.\n")
    command = [sys.executable, "-m", "tools.prose", str(page)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert [line.split(": ")[0] for line in result.stdout.splitlines()] == [f"{page}:3"] * 2
    page.write_text("Plain.\n")
    assert subprocess.run(command, check=False).returncode == 0
