"""Recipes and records of studies from an attacker."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.cli.hostile import Case, refused

RECIPE, REPORT = ("study", "x.yaml", "--out", "out"), ("report", "s")


def recipe(content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "x.yaml").write_bytes(content)


def study(write: Callable[[Path], object]) -> Callable[[Path], object]:
    def prepare(folder: Path) -> None:
        (folder / "s").mkdir()
        write(folder / "s" / "study.json")

    return prepare


def text(content: str) -> Callable[[Path], object]:
    return study(lambda path: path.write_text(content))


def sparse(path: Path) -> None:
    """Write a file that claims a terabyte and takes none."""
    path.touch()
    os.truncate(path, 2**40)


ALIASES = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
CASES = {
    "FIFO": Case(lambda folder: os.mkfifo(folder / "x.yaml"), RECIPE, "'x.yaml' is a FIFO"),
    "device": Case(lambda folder: (folder / "x.yaml").symlink_to("/dev/zero"), RECIPE, "is a device"),
    "folder": Case(lambda folder: (folder / "x.yaml").mkdir(), RECIPE, "x.yaml"),
    "loop": Case(lambda folder: (folder / "x.yaml").symlink_to("x.yaml"), RECIPE, "symbolic links"),
    "empty": Case(recipe(b""), RECIPE, "is empty"),
    "not UTF-8": Case(recipe(b"\xff\xfe"), RECIPE, "is not UTF-8"),
    "null": Case(recipe(b"a\0b: 1"), RECIPE, "not printable"),
    "nested": Case(recipe(b"[" * 5000), RECIPE, "nested more than"),
    "large": Case(recipe(b"#" * 2**19), RECIPE, "is larger than 256 KiB"),
    "aliases": Case(recipe(ALIASES.encode()), RECIPE, "more than 20,000 values"),
    "self": Case(recipe(b"&a [*a]"), RECIPE, "an alias that contains itself"),
    "object": Case(recipe(b"title: !!python/object/apply:os.system [x]"), RECIPE, "is not YAML"),
    "duplicate": Case(recipe(b"title: a\ntitle: b"), RECIPE, "the key 'title' twice"),
    "control characters": Case(recipe(b'"a\\e[31m\\n": 1'), RECIPE, r"\x1b"),
    "arm above": Case(recipe(b"arms: {../../x: {}}"), RECIPE, "starts with '.'"),
    "arms that collide": Case(recipe(b"arms: {A: {}, a: {}}"), RECIPE, "share a folder"),
    "huge number": Case(recipe(b"train: {steps: " + b"9" * 5000 + b"}"), RECIPE, "x.yaml"),
    "no study": Case(lambda folder: (folder / "s").mkdir(), REPORT, "no study.json"),
    "study as FIFO": Case(study(os.mkfifo), REPORT, "no study.json"),
    "study as folder": Case(study(Path.mkdir), REPORT, "no study.json"),
    "linked study": Case(study(lambda path: path.symlink_to(path.name)), REPORT, "no study.json"),
    "huge study": Case(study(sparse), REPORT, "bytes, more than"),
    "cut study": Case(text('{"format": 3'), REPORT, "is damaged"),
    "nested study": Case(text("[" * 10**5), REPORT, "nested too deeply"),
    "list": Case(text("[]"), REPORT, "has format"),
    "format": Case(text('{"format": "3\\n\\u001b[31m"}'), REPORT, "has format"),
    "no keys": Case(text('{"format": 3}'), REPORT, "holds no valid"),
    "same key": Case(text('{"format": 3, "format": 3}'), REPORT, "twice"),
    "lone surrogate": Case(text('{"format": 3, "name": "\\ud800"}'), REPORT, "not Unicode"),
}


@pytest.mark.parametrize("name", CASES)
def test_hostile_recipes_and_studies(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_flatvq: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(run_flatvq, CASES[name], tmp_path)
