"""A document that links a record of results/ states which version made it, unless it is the current one."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flatvq.versions import TRAINING_PROTOCOL

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "results" / "README.md"]
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")


def unstated(page: Path, results: Path = ROOT / "results") -> set[str]:
    """Return the linked records of another training protocol whose version the page does not state."""
    text = " ".join(page.read_text(encoding="utf-8").split())
    missing = set()
    for path in linked_records(page, results):
        version, protocol = version_of(json.loads(path.read_text(encoding="utf-8")))
        if protocol != TRAINING_PROTOCOL and not states(text, version, protocol):
            missing.add(f"{path.relative_to(results)}: say 'made with version {version}' on the page")
    return missing


def linked_records(page: Path, results: Path) -> Iterator[Path]:
    """Yield the records of each folder of `results` that a page links, or links a file of."""
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / link).resolve()
        if "://" in link or not target.is_relative_to(results) or target == results:
            continue
        folder = results / target.relative_to(results).parts[0]
        yield from (path for path in folder.glob("*.json") if path.name != "recipes.json")


def version_of(record: dict[str, Any]) -> tuple[str, int | None]:
    """Return the package version and the training protocol of a study, a search or an analysis of levels."""
    identity = record.get("identity") or {}
    version = record.get("flatvq") or identity.get("flatvq") or "0.1.0"  # which did not always store it
    return version, record.get("training_protocol") or identity.get("training_protocol")


def states(text: str, version: str, protocol: int | None) -> bool:
    """Return whether a text states a version, without its patch number, or a training protocol."""
    minor = re.escape(".".join(version.split(".")[:2]))
    number = protocol or r"\d+ or earlier"
    return bool(re.search(rf"made with version {minor}\b|\btraining protocol {number}\b", text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_state_the_version_of_older_records(page: Path) -> None:
    assert not unstated(page)


@pytest.mark.parametrize("link", ["study.json", "report.png", "models", "", "/"])
@pytest.mark.parametrize(
    ("protocol", "sentence", "accepted"),
    [
        (TRAINING_PROTOCOL, "", True),
        (TRAINING_PROTOCOL - 1, "", False),
        (TRAINING_PROTOCOL - 1, "The study was made\nwith version 1.2, and later repeated.", True),
        (TRAINING_PROTOCOL - 1, "The study was made with version 1.20.", False),
        (TRAINING_PROTOCOL - 1, f"It is of training protocol {TRAINING_PROTOCOL - 1}.", True),
        (TRAINING_PROTOCOL - 1, f"It is of training protocol {TRAINING_PROTOCOL}.", False),
        (None, f"It is of training protocol {TRAINING_PROTOCOL}.", False),
        (None, "It is of training protocol 4\nor earlier.", True),
        (None, "The studies were made with version 1.2.", True),
    ],
)
def test_an_older_record_needs_the_sentence(
    tmp_path: Path, link: str, protocol: int | None, sentence: str, accepted: bool
) -> None:
    folder = tmp_path / "results" / "one"
    (folder / "models").mkdir(parents=True)
    record = {"format": 2, "flatvq": "1.2.3", "training_protocol": protocol}
    (folder / "study.json").write_text(json.dumps(record))
    (folder / "report.png").touch()
    page = tmp_path / "docs" / "page.md"
    page.parent.mkdir()
    page.write_text(f"# Page\n\n[A study](../results/one{link and '/' + link.strip('/')}).\n\n{sentence}\n")
    assert (not unstated(page, tmp_path / "results")) is accepted


def test_an_analysis_of_levels_has_its_version_in_the_identity(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "levels"
    folder.mkdir(parents=True)
    identity = {"flatvq": "1.2.3", "training_protocol": TRAINING_PROTOCOL - 1}
    (folder / "run.json").write_text(json.dumps({"format": 2, "identity": identity}))
    page = tmp_path / "README.md"
    page.write_text("[Levels](results/levels)")
    (missing,) = unstated(page, folder.parent)
    assert missing.startswith("levels/run.json: say 'made with version 1.2.3'")
    page.write_text("[Levels](results/levels), made with version 1.2")
    assert not unstated(page, folder.parent)


def test_benchmarks_and_other_links_need_no_sentence(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "bench.json").write_text("{}")
    page = tmp_path / "README.md"
    page.write_text(
        "[Bench](results/bench.json), [all](results), [site](https://example.org/results/a/b.json)"
    )
    assert not unstated(page)
