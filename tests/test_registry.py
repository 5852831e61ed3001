"""Registries: references, installed packages, and errors that name the package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from flatvq.errors import FlatvqError
from flatvq.recipe import HIERARCHIES, QUANTIZERS, SOURCES
from flatvq.registry import Registry


def shapes() -> Registry[int]:
    return Registry("shape", "flatvq.shapes", {"square": 4, "broken": "math:no_such_name"})


def test_every_reference_of_flatvq_leads_to_a_function() -> None:
    for registry in (SOURCES, HIERARCHIES):
        assert all(callable(entry) for entry in registry.values())
    assert {*QUANTIZERS} == {"vector", "scalar", "lookup-free", "residual"}


def test_names_are_listed_without_loading_their_objects() -> None:
    assert list(shapes()) == ["square", "broken"]
    assert "broken" in shapes()
    with pytest.raises(AttributeError):
        _ = shapes()["broken"]


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(FlatvqError, match="there is already a shape named 'square'"):
        shapes().register("square", 5)


def test_an_object_can_be_replaced() -> None:
    registry = shapes()
    registry.unregister("square")
    registry.register("square", 5)
    assert registry["square"] == 5
    with pytest.raises(FlatvqError, match="no shape is named 'squar': did you mean 'square'"):
        registry.unregister("squar")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "[flatvq.commands]\ncount = missing_module:count",
            "cannot load the command 'count' of package 'extras' (ModuleNotFoundError: No module named "
            "'missing_module'): repair or uninstall the package",
        ),
        (
            "[flatvq.commands]\nstudy = os:getcwd",
            "package 'extras' provides another command named 'study': uninstall it, or rename its "
            "entry point",
        ),
    ],
)
def test_a_bad_package_is_one_line(tmp_path: Path, entry: str, message: str) -> None:
    metadata = tmp_path / "extras-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: extras\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(entry + "\n")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from flatvq.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", program, "--help"], capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"flatvq: {message}\n"
