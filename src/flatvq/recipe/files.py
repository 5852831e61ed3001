"""Reading of recipe files: shipped recipes, YAML files of the user, `--set` overrides and `recipe.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any

from flatvq.errors import FlatvqError, suggestion
from flatvq.paths import expanded
from flatvq.recipe.cluster import ClusterRecipe
from flatvq.recipe.reading import merge, parse, set_key
from flatvq.recipe.renamed import CODEBOOK_KEYS, STUDY_KEYS, current_key, current_keys
from flatvq.recipe.strict_json import load_json
from flatvq.recipe.strict_yaml import load_yaml
from flatvq.recipe.study import StudyRecipe, TrialRecipe
from flatvq.regular import open_regular

__all__ = [
    "load_cluster",
    "load_recipe",
    "load_trial",
    "recipe_text",
    "shipped_recipes",
    "with_cluster_of_user",
]

_MAX_BYTES = 2**18


def shipped_recipes() -> dict[str, str]:
    """Return the text of each recipe that ships with flatvq, by name.

    Example:
        >>> "photographs" in shipped_recipes()
        True
    """
    folder = resources.files("flatvq.recipe") / "shipped"
    files = [entry for entry in folder.iterdir() if entry.name.endswith(".yaml")]
    files.sort(key=lambda file: file.name)
    return {file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8") for file in files}


def load_recipe(name: str, overrides: Sequence[str] = ()) -> StudyRecipe:
    """Read a recipe.

    Args:
        name: the name of a shipped recipe, or the path of a YAML file.
        overrides: strings of the form `key=value`, with a dotted key and a YAML value.

    Returns:
        The validated recipe.

    Raises:
        FlatvqError: if there is no such recipe, the file is not YAML, a key or value is not valid, or two
            overrides set the same key.

    Example:
        >>> load_recipe("photographs", ["train.steps=7", "seeds=[4]"]).train.steps
        7
    """
    origin = f"recipe {name!r}"
    tree = load_yaml(recipe_text(name), origin)
    if not isinstance(tree, dict):
        what = f"{origin} {'is empty' if tree is None else 'is not a mapping of keys to values'}"
        raise FlatvqError(what, "see `flatvq recipes photographs` for an example")
    tree = _with_current_keys(tree, STUDY_KEYS, origin)
    if "codebook" in tree:
        codebook = _with_current_keys(tree["codebook"], CODEBOOK_KEYS, f"'codebook' of {origin}")
        tree = {**tree, "codebook": codebook}
    earlier: dict[str, str] = {}
    for override, key, value in _keys_and_values(overrides):
        _require_arm(tree.get("arms"), key)
        earlier[key] = override
        tree = set_key(tree, key, value)
    return parse(StudyRecipe, tree, origin, earlier)


def with_cluster_of_user(recipe: StudyRecipe) -> StudyRecipe:
    """Fill in keys of the section `cluster` from the user's settings.

    These settings are in the file flatvq/cluster.yaml in the folder $XDG_CONFIG_HOME, by default ~/.config.
    The keys of the recipe have precedence.

    Args:
        recipe: the recipe.

    Raises:
        FlatvqError: if the file is not YAML, or a key or value is not valid.
    """
    return recipe.model_copy(update={"cluster": _completed(recipe.cluster.model_dump(exclude_unset=True))})


def load_cluster(overrides: Sequence[str] = ()) -> ClusterRecipe:
    """Load the user's section `cluster`, for a command without a recipe.

    Args:
        overrides: `KEY=VALUE` items, such as `cluster.partition=gpu`.

    Raises:
        FlatvqError: see `with_cluster_of_user`; also if an override sets a key of another section.

    Example:
        >>> load_cluster(["cluster.max_running=8"]).max_running
        8
    """
    tree: dict[str, Any] = {}
    for override, key, value in _keys_and_values(overrides):
        if not key.startswith("cluster."):
            raise FlatvqError(f"override {override!r} is not of the section cluster", "leave it out")
        tree = set_key(tree, key.removeprefix("cluster."), value)
    origin = ", ".join(repr(override) for override in overrides)
    return _completed(parse(ClusterRecipe, tree, f"the overrides {origin}").model_dump(exclude_unset=True))


def _completed(given: dict[str, Any]) -> ClusterRecipe:
    """Fill in keys of the section `cluster` from the user's settings."""
    path = expanded(os.environ.get("XDG_CONFIG_HOME") or "~/.config") / "flatvq" / "cluster.yaml"
    if not os.path.lexists(path):  # a link without a target is an error
        return ClusterRecipe(**given)
    origin = f"'{path}'"
    user = parse(ClusterRecipe, load_yaml(_text(path, origin), origin) or {}, origin)
    merged = merge(user.model_dump(exclude_unset=True), given)
    return parse(ClusterRecipe, merged, f"{origin} or the section cluster of the recipe")


def _require_arm(arms: Any, key: str) -> None:
    """Refuse an override of a key of an arm that the recipe does not have; it would add an arm."""
    first, _, rest = key.partition(".")
    name, _, below = rest.partition(".")
    if first == "arms" and below and isinstance(arms, dict) and name not in arms:
        raise FlatvqError(f"no arm is named {name!r}", suggestion(name, arms))


def _with_current_keys(section: Any, new_names: Mapping[str, str], origin: str) -> Any:
    try:
        return current_keys(section, new_names)
    except ValueError as error:
        raise FlatvqError(f"{error} in {origin}", "remove one of them") from None


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
        raise _not_a_recipe(name, path, shipped)
    return _text(path, f"recipe {name!r}")


def _not_a_recipe(name: str, path: Path, shipped: Mapping[str, str]) -> FlatvqError:
    remedy = "name a shipped recipe or a .yaml file"
    with suppress(OSError):  # the name may be too long for a file
        if path.is_dir():
            return FlatvqError(f"{name!r} is a folder", remedy)
        if path.exists():
            return FlatvqError(f"{name!r} is not a .yaml file", remedy)
    if path.name != name:
        return FlatvqError(f"no file or folder at {name!r}", remedy)
    hint = suggestion(name, shipped)
    alternative = "" if hint.endswith("?") else "; or give a .yaml file"
    return FlatvqError(f"no recipe is named {name!r}", hint + alternative)


def load_trial(run: Path) -> TrialRecipe:
    """Read the recipe of a run from `recipe.json` in its folder.

    Raises:
        FlatvqError: if the file is missing or damaged.
    """
    path = run / "recipe.json"
    if not path.exists():
        raise FlatvqError(f"no recipe.json in '{run}'", "give the folder of a run")
    return parse(TrialRecipe, load_json(_content(path, f"'{path}'"), f"'{path}'"), f"'{path}'")


def _text(path: Path, origin: str) -> str:
    try:
        # utf-8-sig drops the byte-order mark that some editors write.
        return _content(path, origin).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FlatvqError(f"{origin} is not UTF-8 (byte {error.start + 1})", "save it as UTF-8") from None


def _content(path: Path, origin: str) -> bytes:
    try:
        with open_regular(path) as file:
            content = file.read(_MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise FlatvqError(f"cannot read {origin} ({reason})", "check the path") from None
    if len(content) > _MAX_BYTES:
        raise FlatvqError(f"{origin} is larger than {_MAX_BYTES // 1024} KiB", "give the path of a recipe")
    return content


def _keys_and_values(overrides: Sequence[str]) -> Iterator[tuple[str, str, Any]]:
    """Yield each override, its key and its value; refuse an override that replaces an earlier one."""
    earlier: dict[str, str] = {}
    for override in overrides:
        key, value = _key_and_value(override)
        for earlier_key in earlier:
            if f"{earlier_key}.".startswith(f"{key}."):
                what = f"override {override!r} replaces {earlier[earlier_key]!r}"
                raise FlatvqError(what, "give each key once, a section before its keys")
        earlier[key] = override
        yield override, key, value


def _key_and_value(override: str) -> tuple[str, Any]:
    key, equals, value = override.partition("=")
    if not equals or not key.strip():
        raise FlatvqError(f"override {override!r} is not key=value", "write it like train.steps=2000")
    text = value.strip()
    if not text or text.startswith("#"):
        raise FlatvqError(f"override {override!r} has no value", "write null for none, or '\"\"' for no text")
    loaded = load_yaml(text, f"override {override!r}")
    if isinstance(loaded, str) and loaded != text and text[0] not in "'\"":
        what = f"YAML reads {loaded!r} in override {override!r}"  # such as the text before a comment
        raise FlatvqError(what, f"put the value in quotes: {json.dumps(text, ensure_ascii=False)}")
    return current_key(key.strip()), loaded
