"""Every number of a recipe has a range; an error names the key and the value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from flatvq.errors import FlatvqError
from flatvq.recipe import LevelRecipe, StudyRecipe, load_recipe, parse, set_key
from flatvq.recipe.reading import section_of


def error_of(dotted: str, value: object) -> str | None:
    """Return the error for a value; None if it is valid."""
    tree: dict[str, Any] = {
        "model": {"levels": [{}]},
        "codebook": {"replacement": {}},
        "tune": {"space": {"x": {}}},
    }
    tree["tune"]["space"]["x"] = {"low": 1, "high": 2}
    try:
        parse(StudyRecipe, set_key(tree, dotted, value))
    except FlatvqError as error:
        return str(error)
    return None


def numbers(kind: type[BaseModel] = StudyRecipe, prefix: str = "") -> Iterator[str]:
    """Yield the dotted keys of all numbers."""
    for name, field in kind.model_fields.items():
        below = section_of(field.annotation)
        if name == "arms":
            continue
        if below is not None:
            inner = {"levels": "levels.0", "space": "space.x"}.get(name, name)
            yield from numbers(below, f"{prefix}{inner}.")
        elif {int, float} & {field.annotation, *get_args(field.annotation)}:
            yield prefix + name


# These are upper bounds without a natural limit.
_UNBOUNDED = {"data.limit", "data.cache_mib"}


@pytest.mark.parametrize("key", list(numbers()))
def test_every_number_has_a_range(key: str) -> None:
    assert error_of(key, -1e16), "a negative number"
    for value in (float("nan"), float("inf"), True, "1", "one", [1], {}):
        assert error_of(key, value), value
    if key not in _UNBOUNDED:
        assert error_of(key, 1e300), "a number larger than any that float32 has"
        assert error_of(key, 10**300), "a number larger than 64 bits hold"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seeds", [-1], "'seeds.0' is -1"),
        ("seeds", [0, -1], "'seeds.1' is -1"),
        ("seeds", [0, 2**70], "'seeds.1' is 1180591620717411303424"),
        ("seeds", [3, 3], "seeds must differ, not [3, 3] under 'seeds'"),
        ("tune.confirm_seeds", [7, 7], "seeds must differ, not [7, 7] under 'tune.confirm_seeds'"),
        ("tune.confirm_seeds", [-7, 7], "'tune.confirm_seeds.0' is -7"),
        ("seeds", list(range(10_001)), "1 arms with up to 10001 seeds are 10,001 trials, more than 10,000"),
        ("arms", {f"a{number}": {} for number in range(257)}, "'arms' is {'a0': {}, 'a1': {}"),
        ("train.steps", 10**8, "'train.steps' is 100000000"),
        ("train.steps", 0, "'train.steps' is 0"),
        ("evaluate.samples", 10**9, "'evaluate.samples' is 1000000000"),
        ("match.tolerance", 1e6, "'match.tolerance' is 1000000.0"),
        (
            "compare",
            [["default", "default"]],
            "the pair (default, default) compares an arm with itself",
        ),
        ("model.levels.0.downsample", 6, "downsample must be a power of two, not 6"),
        ("seeds", (0, True), "write a whole number, without quotes"),
        ("looks", [4, 4], "looks must increase, not [4, 4]"),
        ("primary", ["default"], "primary must name two arms, not ['default']"),
        ("primary", ["default"] * 3, "primary must name two arms, not ['default', 'default', 'default']"),
        ("model.levels.0.stages", 2, "stages=2 needs quantizer=residual, not vector"),
        (
            "model.levels.0.scalar_levels",
            [8] * 21,
            "9.22e+18 codes are more than 64-bit indices can count",
        ),
        ("model.levels.0.scalar_levels", [8, 1], "scalar_levels must each be at least 2"),
        ("model.levels.0.scalar_levels", [2**17], "'model.levels.0.scalar_levels.0' is 131072"),
        (
            "model.levels.0.codebook_size",
            10**400,
            "1.00e+400 codes are more than 64-bit indices can count",
        ),
        ("model.levels", [{"downsample": 2}] * 17, "'model.levels' is [{'downsample': 2}"),
        ("model.levels.0.scalar_levels", ["a", "b"], "write a whole number"),
        ("model.levels.0.scalar_levels", 8, "write a list, such as [8]"),
        ("model.levels.0.scalar_levels", [None], "'model.levels.0.scalar_levels.0' is empty"),
        ("model.levels.0.codebook_size", 2**63, "more than 64-bit indices can count"),
        ("model.levels.0.downsample", 2**4000, "'model.levels.0.downsample' is 131820409343"),
        (
            "codebook.replacement.start",
            800,
            "codebook.replacement.start is 800, but replacement stops at step 800",
        ),
        ("tune.space.x.choices", [1, 2], "choices exclude low, high, log and integer"),
        ("tune.space", {"x": {"choices": [[1], 2]}}, "[1] cannot be a choice"),
        ("tune.space", {"x": {"choices": [float("nan")]}}, "nan cannot be a choice"),
        (
            "tune.space",
            {"x": {"low": 0.2, "high": 0.4, "integer": True}},
            "a range from 0.2 to 0.4 holds no values",
        ),
        ("tune.space", {"x": {"low": 0.2, "high": 9, "integer": True, "log": True}}, "cannot begin at 0.2"),
    ],
)
def test_an_invalid_value_is_rejected(key: str, value: object, message: str) -> None:
    error = error_of(key, value)
    assert error is not None
    assert message in error
    assert "\n" not in error


def test_the_largest_valid_value_is_accepted() -> None:
    assert error_of("train.steps", 99_999_999) is None
    assert error_of("seeds", [0, 2**63 - 1]) is None
    assert error_of("codebook.replacement.start", 799) is None
    assert error_of("model.levels.0.scalar_levels", [8] * 20) is None


def test_scalar_levels_set_k_and_d() -> None:
    for levels in ([8, 5, 5], (8, 5, 5), [8.0, 5.0, 5.0]):
        level = LevelRecipe(scalar_levels=levels, codebook_size=7, code_dim=9)  # type: ignore[arg-type]
        assert (level.codebook_size, level.code_dim) == (200, 3)


@pytest.mark.parametrize("name", ["single-level", "v1.5", "7", "naïve", "a b", "x" * 64, "console", "日本"])
def test_a_valid_arm_name(name: str) -> None:
    assert error_of("arms", {name: {}}) is None


@pytest.mark.parametrize(
    "name",
    [
        "../../../elsewhere", "a/b", "/a", "a\\b", "C:", "..", ".", ".hidden", "-x", "", " ", " a", "a ",
        "a.", "a\nb", "a\0b", "a\tb", "a\x7f", "a\u202eb", "CON", "nul", "com1.txt", "LPT9", "x" * 65,
        "🙂" * 64, "a:b", "a|b", 'a"b', "a*b", "a?b", "<a>", "\ud800",
    ],
)  # fmt: skip
def test_an_arm_name_that_cannot_be_a_folder_is_rejected(name: str) -> None:
    error = error_of("arms", {name: {}})
    assert error is not None
    assert "arm" in error
    assert error.isprintable()


@pytest.mark.parametrize("pair", [("Healthy", "healthy"), ("naïve", "nai\u0308ve"), ("STRASSE", "straße")])
def test_arms_that_would_share_a_folder_are_rejected(pair: tuple[str, str]) -> None:
    error = error_of("arms", {name: {} for name in pair})
    assert error is not None
    assert "would share a folder on some systems" in error


def test_an_error_in_an_arm_names_the_arm() -> None:
    with pytest.raises(FlatvqError, match=r"'train\.steps' is 'yes' in arm 'two-level-naive'"):
        load_recipe("photographs", ["arms.two-level-naive.train.steps=yes"])
    with pytest.raises(FlatvqError, match=r"unknown key 'train\.setps' in arm 'two-level-naive'"):
        load_recipe("photographs", ["arms.two-level-naive.train.setps=5"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"compare": [["a", "b"], ["a", "b"]]}, "compare names the pair ['a', 'b'] twice"),
        ({"compare": [["a", "b"], ["b", "c"], ["b", "a"]]}, "compare names the pair ['a', 'b'] twice"),
        ({"interactions": [["a", "b", "c", "b"]]}, "the interaction ['a', 'b', 'c', 'b'] names an arm twice"),
        ({"interactions": [["a", "b", "b", "a"]]}, "the interaction ['a', 'b', 'b', 'a'] names an arm twice"),
        (
            {"model": {"levels": [{"quantizer": "residual", "scalar_levels": [8, 5]}]}},
            "scalar_levels=[8, 5] needs quantizer=scalar, not residual",
        ),
        (
            {
                "codebook": {"replacement": {"start": 80}},
                "model": {"levels": [{}, {"downsample": 2, "start": 900}]},
            },
            "codebook.replacement.start is 80, but replacement stops at step 80 of model.levels.1, which "
            "starts at step 900",
        ),
        (
            {"data": {"source": "folder", "path": "p", "configuration": "plain"}},
            "configuration=plain needs source=huggingface, not folder",
        ),
        (
            {"data": {"source": "folder", "path": "p", "split": "test"}},
            "split=test needs source=huggingface, not folder",
        ),
        ({"data": {"streaming": True}}, "streaming=True needs source=huggingface, not photographs"),
        (
            {"data": {"source": "folder", "path": "p", "image_column": "scan"}},
            "image_column=scan needs source=huggingface or shards, not folder",
        ),
        (
            {"data": {"source": "shards", "path": "p.tar", "split": "test"}},
            "split=test needs source=huggingface, not shards",
        ),
        ({"interval": "paired"}, "arm 'c' has max_seeds, which needs interval: welch"),
        (
            {"codebook": {"metric": "cosine"}, "model": {"levels": [{"quantizer": "residual", "stages": 2}]}},
            "codebook.metric=cosine does not exist for quantizer=residual of model.levels.0",
        ),
    ],
)
def test_keys_that_contradict_each_other_are_rejected(changes: dict[str, Any], message: str) -> None:
    tree = {"arms": {"a": {}, "b": {}, "c": {"max_seeds": 3}}}
    assert parse(StudyRecipe, tree).arms
    with pytest.raises(FlatvqError) as refused:
        parse(StudyRecipe, {**tree, **changes})
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
