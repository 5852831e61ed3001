"""Strict YAML: ambiguous values are rejected with their line."""

from __future__ import annotations

import re

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from flatvq.errors import FlatvqError
from flatvq.recipe.strict_yaml import dump_yaml, load_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("10", 10),
        ("-3", -3),
        ("+3", 3),
        ("1_000", 1000),
        ("10.0", 10.0),
        ("1e-4", 0.0001),
        ("1E+3", 1000.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("off", "off"),
        ("010", "010"),
        ("0x10", "0x10"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_0.5", "1_0.5"),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("=", "="),
        ("é", "é"),
    ],
)
def test_a_plain_scalar_has_the_type_it_looks_like(text: str, value: object) -> None:
    loaded = load_yaml(f"key: {text}", "the text")["key"]
    assert (loaded, type(loaded)) == (value, type(value))


def test_keys_are_text_as_written() -> None:
    tree = load_yaml("{on: 1, 1: 2, 1.50: 3, null: 4, 2024-01-01: 5, true: 6}", "the text")
    assert tree == {"on": 1, "1": 2, "1.50": 3, "null": 4, "2024-01-01": 5, "true": 6}


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a: 1\nb: 2\na: 3", (1, 3)),
        ("a:\n  b: 1\n  c: 2\n  b: 3", (2, 4)),
        ("a: [1, {b: 1,\n b: 2}]", (1, 2)),
        ("a: 1\n'a': 2", (1, 2)),
        ('1: a\n\n"1": b', (1, 3)),
        ("a: {<<: &x {b: 1,\n b: 2}}", (1, 2)),
        ("x: &x {}\ny:\n  <<: *x\n  <<: *x", (3, 4)),
    ],
)
def test_a_duplicate_key_is_rejected_with_both_lines(text: str, lines: tuple[int, int]) -> None:
    with pytest.raises(FlatvqError, match=rf"twice, at lines {lines[0]} and {lines[1]}: keep one of them"):
        load_yaml(text, "the text")


def test_merged_keys_can_be_overridden() -> None:
    text = "base: &base {a: 1, b: 2}\nother: &other {b: 3, c: 4}\nall:\n  b: 9\n  <<: [*base, *other]\n"
    # As in PyYAML: own keys first, then those of the earlier mapping.
    assert load_yaml(text, "the text")["all"] == yaml.safe_load(text)["all"] == {"a": 1, "b": 9, "c": 4}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\n---\na: 2", "line 2 (but found another document)"),
        ("a:\n\t- b", "line 2 (found character '\\t' that cannot start any token)"),
        ("a: 1\nb: \x07", "line 2 (a character that is not printable)"),
        ("a: 1\nb: *c", "line 2 (found undefined alias 'c')"),
        ("a: !!python/object/apply:os.getcwd []", "unknown tag"),
        ("a: !!binary aGVsbG8=", "unknown tag"),
        ("a: !!int many", "'many' is not of type int"),
        ("a: !!map 5", "expected a mapping"),
        ("? [a]\n: b", "a key that is not text, at line 1"),
        ('a: "\\ud800"', "is not of type str"),
        (f"a: {'9' * 5000}", "is not of type int"),
        (
            "a: 1 # c\u2028b: 2",
            "has the line separator U+2028, which versions of YAML read differently, at line 1",
        ),
        (
            "a: 1\nb: 'c\u2029d'",
            "has the line separator U+2029, which versions of YAML read differently, at line 2",
        ),
        ("# \x85a: 1", "has the line separator U+0085"),
        ("a: &a [*a]", "an alias that contains itself, at line 1"),
        ("a: &a {<<: *a}", "an alias that contains itself"),
        ("[" * 100_000, "nested more than 50 deep"),
        ("{a: " * 60 + "1" + "}" * 60, "nested more than 50 deep"),
        ("x0: &x0 1\n" + "".join(f"x{n}: &x{n} [*x{n - 1}]\n" for n in range(1, 99)), "more than 50 deep"),
        ("[" + "1, " * 30_000 + "]", "more than 20,000 values"),
    ],
)
def test_an_invalid_document_is_rejected(text: str, message: str) -> None:
    with pytest.raises(FlatvqError, match=re.escape(message)) as refused:
        load_yaml(text, "the text")
    assert "\n" not in str(refused.value)


def test_aliases_that_expand_to_billions_of_values_are_rejected() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(FlatvqError, match="more than 20,000 values, at line 5"):
        load_yaml("\n".join(lines), "the text")


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
_TREES = st.recursive(
    _SCALARS, lambda below: st.lists(below) | st.dictionaries(st.text(), below), max_leaves=9
)


@given(_TREES)
@example({"a\x85b": "\u2028"})
def test_a_dumped_tree_is_read_back_by_both_schemas(tree: object) -> None:
    text = dump_yaml(tree)
    assert load_yaml(text, "the text") == tree
    assert yaml.safe_load(text) == tree


@pytest.mark.parametrize("text", ["1e3", "yes", "010", "1:30", "null", "2024-01-01", "<<", "1_000", ".5"])
def test_text_that_looks_like_another_type_is_quoted(text: str) -> None:
    assert load_yaml(dump_yaml({text: text}), "the text") == {text: text}
    assert yaml.safe_load(dump_yaml([text])) == [text]
