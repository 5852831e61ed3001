"""The package's layout: its layers from top to bottom, and the first line of every module's docstring."""

from __future__ import annotations

import ast
import tomllib
from pathlib import Path

from docsite.links import REPOSITORY

__all__ = ["modules"]

ROOT = Path(__file__).parents[1]
_PACKAGE = ROOT / "src/flatvq"


def modules() -> str:
    """Return a section for each package with a list of its modules, in the order of the import contract."""
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = [name.strip() for layer in contract["contracts"][0]["layers"] for name in layer.split("|")]
    paths = [_PACKAGE / name.removeprefix("flatvq.").replace(".", "/") for name in layers]
    packages = [path for path in paths if path.is_dir()]
    single = [path.with_suffix(".py") for path in paths if not path.is_dir()]
    sections = [_section(package) for package in packages]
    return "\n\n".join([*sections, "## Modules without a package\n\n" + "\n".join(map(_entry, single))])


def _section(package: Path) -> str:
    lines = [_entry(path) for path in sorted(package.rglob("*.py")) if path != package / "__init__.py"]
    return f"## `flatvq.{package.name}`\n\n{_summary(package / '__init__.py')}\n\n" + "\n".join(lines)


def _entry(path: Path) -> str:
    name = path.relative_to(_PACKAGE).with_suffix("").as_posix().removesuffix("/__init__")
    link = f"{REPOSITORY}/{path.relative_to(ROOT).as_posix()}"
    return f"- [`{name}`]({link}): {_summary(path)}"


def _summary(path: Path) -> str:
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return docstring.partition("\n\n")[0].replace("\n", " ")
