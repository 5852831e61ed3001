"""A slice of `python -m benchmarks.fuzz`, and whether the harness behind it finds faults."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random

import pytest
from benchmarks.fuzz.child import Batch, files_of
from benchmarks.fuzz.runner import batches_of, merged, run, write_corpus_in
from benchmarks.fuzz.targets import TARGETS
from tests.fuzz.faulty import Faulty

pytestmark = pytest.mark.slow

RECORD = Path(__file__).parents[2] / "results" / "fuzz.json"

# Inputs; those of the others cost a tenth of a second on a slow machine.
CHEAP, EACH = (
    {"study": 300, "states": 300, "search": 300, "tokenizers": 300, "images": 300, "compressed": 300},
    100,
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus_in(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.slow
def test_no_reader_has_a_fault(corpus: Path, tmp_path: Path) -> None:
    counts = {target: CHEAP.get(target, EACH) for target in TARGETS}
    batches = [batch for target, count in counts.items() for batch in batches_of(target, 20, 0, count)]
    results = run(corpus, tmp_path / "work", batches)
    assert {batch.target: result.faults for batch, result in results if result.faults} == {}
    assert {batch.target for batch, _ in results} == set(TARGETS)
    for batch, result in results:
        assert sum(result.outcomes.values()) == counts[batch.target]
        assert len(result.outcomes) > 1, f"{batch.target} accepts or refuses everything"


def test_every_kind_of_fault_is_found(corpus: Path, tmp_path: Path) -> None:
    name, seed, count = "tests.fuzz.faulty:Faulty", 1, 12
    drawn = [Random(f"{name} {seed} {number}").choice(Faulty.deeds) for number in range(count)]
    assert set(drawn) == set(Faulty.deeds)
    batches = batches_of(name, seed, 0, count)
    result = merged([result for _, result in run(corpus, tmp_path / "work", batches)])
    assert result.outcomes == {
        "accepted": drawn.count("accept"),
        "refused": drawn.count("refuse"),
        "fault": count - drawn.count("accept") - drawn.count("refuse"),
    }
    expected = {
        "raise": "KeyError in faulty.py",
        "warn": "UserWarning in faulty.py",
        "print": "prints on standard error",
        "die": "ends with SIGSEGV",
        "assert": "AssertionError in faulty.py",
        "allocate": "takes ",
    }
    for number, fault in result.faults.items():
        assert expected[drawn[number]] in fault


def test_an_input_follows_from_its_target_seed_and_number(corpus: Path, monkeypatch) -> None:
    monkeypatch.chdir(corpus)
    target = TARGETS["images"]()
    drawn = [files_of(target, Batch("images", seed, 0, 1), number) for seed in (0, 1) for number in range(30)]
    again = [files_of(target, Batch("images", seed, 0, 1), number) for seed in (0, 1) for number in range(30)]
    assert drawn == again
    assert len({tuple(files.items()) for files in drawn}) == 60


def test_the_record_has_100_000_inputs_of_each_target_without_a_fault() -> None:
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    assert {one["target"] for one in record["targets"]} == set(TARGETS)
    for one in record["targets"]:
        assert one["count"] == sum(one["outcomes"].values()) >= 100_000
        assert (one["faults"], "fault" in one["outcomes"]) == ([], False)
        assert one["limit_bytes"] == TARGETS[one["target"]].limit_bytes
        assert one["input_bytes"] <= one["limit_bytes"]
        assert one["seed"] >= 0
        assert re.fullmatch("[0-9a-f]{40}", one["commit"]), "made with changes that are not committed"
