"""The public API: what `import flatvq` offers, what the API reference documents, and what is typed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flatvq

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src/flatvq").rglob("*.py"))
# Modules of the standard library that only POSIX systems have.
POSIX_ONLY = {"fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"}


def documented() -> list[str]:
    """Return the public names that the API reference has a section for."""
    pages = sorted((ROOT / "docs/reference/api").glob("*.md"))
    entries = [name for page in pages for name in re.findall(r"^::: flatvq\.(\S+)$", page.read_text(), re.M)]
    return [re.sub(r"^model\.(save)_tokenizer$", r"\1", name) for name in entries]


def typed() -> set[str]:
    """Return the names that type checkers see: what the TYPE_CHECKING block imports or assigns."""
    tree = ast.parse((ROOT / "src/flatvq/__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {name.asname for node in block.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assigned = {
        name.id
        for node in block.body
        if isinstance(node, ast.Assign)
        for name in ast.walk(node.targets[0])
        if isinstance(name, ast.Name)
    }
    return {name for name in imported if name} | assigned


def test_every_public_name_can_be_imported() -> None:
    for name in flatvq.__all__:
        assert getattr(flatvq, name) is not None


def test_every_public_name_is_typed() -> None:
    assert typed() == {*flatvq.__all__} - {"__version__"}


def test_the_reference_documents_exactly_the_public_names() -> None:
    assert sorted(documented()) == sorted({*flatvq.__all__} - {"__version__"})


def test_every_public_name_has_a_docstring() -> None:
    assert [name for name in flatvq.__all__ if not getattr(flatvq, name).__doc__] == []


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = flatvq.nonsense
    assert {*flatvq.__all__} <= {*dir(flatvq)}


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import flatvq", {"torch", "numpy", "pydantic", "typer"}),
        ("import flatvq.cli.commands", {"torch", "numpy", "pydantic", "pyarrow"}),
        ("from flatvq import load_study, load_recipe", {"torch"}),
        ("from flatvq import VectorQuantizer", {"pydantic", "pyarrow", "PIL"}),
    ],
)
def test_an_import_brings_only_what_it_needs(statement: str, absent: set[str]) -> None:
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert absent & {*loaded.stdout.split()} == set()


def test_no_module_needs_a_posix_system_to_be_imported() -> None:
    """Modules that only POSIX has are imported by functions, which check for them."""
    at_import = {
        (path.name, name)
        for path in SOURCES
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        for name in _imported(node)
    }
    assert {entry for entry in at_import if entry[1] in POSIX_ONLY} == set()


def _imported(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import):
        return [name.name.partition(".")[0] for name in node.names]
    return [node.module.partition(".")[0]] if isinstance(node, ast.ImportFrom) and node.module else []
