"""Recipe files: those that ship with flatvq, the user's own, `--set` overrides, and the recipe of a run."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from flatvq.errors import FlatvqError, nearest
from flatvq.paths import expanded
from flatvq.recipe.reading import parse, set_key
from flatvq.recipe.renamed import current_key, current_keys
from flatvq.recipe.strict_json import load_json
from flatvq.recipe.strict_yaml import load_yaml
from flatvq.recipe.study import StudyRecipe, TrialRecipe

__all__ = ["load_recipe", "load_trial", "recipe_text", "shipped_recipes"]

_LARGEST_FILE = 2**18


def shipped_recipes() -> dict[str, str]:
    """Return the text of each recipe that comes with flatvq, by name.

    Example:
        >>> "photographs" in shipped_recipes()
        True
    """
    folder = resources.files("flatvq") / "recipes"
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    files.sort(key=lambda file: file.name)
    return {file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8") for file in files}


def load_recipe(name: str, overrides: Sequence[str] = ()) -> StudyRecipe:
    """Read a recipe.

    Args:
        name: the name of a shipped recipe, or the path of a YAML file.
        overrides: `key=value` texts; the key is a dotted path, the value YAML.

    Returns:
        The checked recipe.

    Raises:
        FlatvqError: if there is no such recipe, the file is not YAML, a key or value is wrong, or an override
            replaces another.

    Example:
        >>> load_recipe("photographs", ["train.steps=7", "seeds=[4]"]).train.steps
        7
    """
    origin = f"recipe {name!r}"
    tree = load_yaml(recipe_text(name), origin)
    if not isinstance(tree, dict):
        what = f"{origin} {'is empty' if tree is None else 'is not a mapping of keys to values'}"
        raise FlatvqError(what, "see `flatvq recipes photographs` for an example")
    if "codebook" in tree:
        tree = {**tree, "codebook": _current(tree["codebook"], origin)}
    before: dict[str, str] = {}
    for override in overrides:
        key, value = _key_and_value(override)
        for other in before:
            if f"{other}.".startswith(f"{key}."):
                what = f"override {override!r} replaces {before[other]!r}"
                raise FlatvqError(what, "give each key once, a section before its keys")
        before[key] = override
        tree = set_key(tree, key, value)
    return parse(StudyRecipe, tree, origin)


def _current(codebook: Any, origin: str) -> Any:
    try:
        return current_keys(codebook)
    except ValueError as error:
        raise FlatvqError(f"{error} under 'codebook'", f"change it in {origin}") from None


def recipe_text(name: str) -> str:
    """Return the text of a shipped recipe or a recipe file.

    Raises:
        FlatvqError: if there is no such recipe, or its file is too large or not UTF-8.
    """
    shipped = shipped_recipes()
    if name in shipped:
        return shipped[name]
    path = expanded(name)
    if path.suffix not in {".yaml", ".yml"}:
        raise FlatvqError(f"no recipe is named {name!r}", f"{nearest(name, shipped)}, or give a .yaml file")
    try:
        # The byte-order mark that some editors write is no part of the text.
        return _content(path, f"recipe {name!r}").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"recipe {name!r} is not UTF-8 (byte {error.start + 1})"
        raise FlatvqError(what, "save it as UTF-8") from None


def load_trial(run: Path) -> TrialRecipe:
    """Read the recipe of a run, recipe.json in its folder.

    Raises:
        FlatvqError: if there is none, or it is damaged.
    """
    path = run / "recipe.json"
    return parse(TrialRecipe, load_json(_content(path, f"'{path}'"), f"'{path}'"), f"'{path}'")


def _content(path: Path, origin: str) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_FILE + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise FlatvqError(f"cannot read {origin} ({reason})", "check the path") from None
    if len(content) > _LARGEST_FILE:
        raise FlatvqError(f"{origin} is larger than {_LARGEST_FILE // 1024} KiB", "name a recipe's file")
    return content


def _key_and_value(override: str) -> tuple[str, Any]:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise FlatvqError(f"override {override!r} is not key=value", "write it like train.steps=2000")
    if not value.strip():
        raise FlatvqError(f"override {override!r} has no value", "write null for none, or '\"\"' for no text")
    return current_key(key.strip()), load_yaml(value, f"override {override!r}")
