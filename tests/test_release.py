"""The release notes of a tag, and the refusals where tag, version and changelog disagree."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / ".github/release_notes.py"
PACKAGE = 'VERSION = "1.2.0"\n'
CITATION = "title: flatvq\nversion: 1.2.0\n"
CHANGELOG = """# Changelog

## [Unreleased]

## [1.2.0] - 2026-01-31

### Added

- One thing.

## [1.1.0] - 2025-12-31

- Another thing.
"""


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = spec_from_file_location("release_notes", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_notes_are_the_section_of_the_version(script: ModuleType) -> None:
    assert script.release_notes("v1.2.0", PACKAGE, CHANGELOG, CITATION) == "### Added\n\n- One thing."


@pytest.mark.parametrize(
    ("tag", "package", "changelog", "citation", "message"),
    [
        ("v1.3.0", PACKAGE, CHANGELOG, CITATION, "VERSION"),
        ("v1.2.0", PACKAGE, CHANGELOG, "version: 1.1.0\n", "CITATION"),
        ("v1.2.0", PACKAGE, CHANGELOG.replace("1.2.0", "1.0.0"), CITATION, "no section"),
        ("v1.2.0", PACKAGE, CHANGELOG.replace("### Added\n\n- One thing.\n", ""), CITATION, "empty"),
    ],
)
def test_a_disagreement_is_refused(
    script: ModuleType, tag: str, package: str, changelog: str, citation: str, message: str
) -> None:
    with pytest.raises(SystemExit, match=message):
        script.release_notes(tag, package, changelog, citation)


def test_the_next_release_has_its_version_everywhere() -> None:
    root = SCRIPT.parents[1]
    version = (root / "src/flatvq/versions.py").read_text().partition('VERSION = "')[2].partition('"')[0]
    assert f"\nversion: {version}\n" in (root / "CITATION.cff").read_text()
