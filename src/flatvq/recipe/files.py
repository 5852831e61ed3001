"""Recipe files: those that ship with flatvq by name, the user's own by path, and `--set` overrides."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from flatvq.errors import FlatvqError, nearest
from flatvq.recipe.reading import parse, set_key
from flatvq.recipe.study import StudyRecipe

__all__ = ["load_recipe", "recipe_text", "shipped_recipes"]


def shipped_recipes() -> dict[str, str]:
    """Return the text of each recipe that comes with flatvq, by name.

    Example:
        >>> "photographs" in shipped_recipes()
        True
    """
    folder = resources.files("flatvq") / "recipes"
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    return {
        entry.name.removesuffix(".yaml"): entry.read_text() for entry in sorted(files, key=lambda f: f.name)
    }


def load_recipe(name: str, overrides: Sequence[str] = ()) -> StudyRecipe:
    """Read a recipe.

    Args:
        name: the name of a shipped recipe, or the path of a YAML file.
        overrides: `key=value` texts; the key is a dotted path, the value YAML.

    Returns:
        The checked recipe.

    Raises:
        FlatvqError: if there is no such recipe, the file is not YAML, or a key or value is wrong.

    Example:
        >>> load_recipe("photographs", ["train.steps=7", "seeds=[4]"]).train.steps
        7
    """
    tree = _tree(name, recipe_text(name))
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key:
            raise FlatvqError(f"override {override!r} is not key=value", "write it like train.steps=2000")
        tree = set_key(tree, key.strip(), _value(override, value))
    return parse(StudyRecipe, tree, f"recipe {name!r}")


def recipe_text(name: str) -> str:
    """Return the text of a shipped recipe or a recipe file.

    Raises:
        FlatvqError: if there is no such recipe.
    """
    shipped = shipped_recipes()
    if name in shipped:
        return shipped[name]
    path = Path(name)
    if path.suffix not in {".yaml", ".yml"}:
        raise FlatvqError(f"no recipe is named {name!r}", f"{nearest(name, shipped)}, or give a .yaml file")
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FlatvqError(f"cannot read recipe {name!r} ({type(error).__name__})", "check the path") from None


def _tree(name: str, text: str) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise FlatvqError(f"recipe {name!r} is not YAML{where}", "mend that line") from None
    if not isinstance(tree, dict):
        raise FlatvqError(f"recipe {name!r} holds no keys", "see `flatvq recipes photographs` for an example")
    return tree


def _value(override: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise FlatvqError(f"the value of override {override!r} is not YAML", "quote it") from None
