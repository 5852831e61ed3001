"""Strict reading of YAML: ambiguous values are rejected with their line.

Plain scalars follow the core schema of YAML 1.2, with decimal numbers only: `yes`, `010`, `1:30` and
`2024-01-01` are text, and `1e-4` is a number. Keys are always text. A duplicate key in a mapping is an error;
keys of a merged mapping (`<<`) may be overridden.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from flatvq.errors import FlatvqError

__all__ = ["dump_yaml", "load_yaml"]

_TAG = "tag:yaml.org,2002:"
_MAX_VALUES, _MAX_DEPTH = 20_000, 50
# Line breaks in YAML 1.1, and characters in YAML 1.2.
_LINE_SEPARATORS = re.compile("[\x85\u2028\u2029]")


def load_yaml(text: str, origin: str) -> Any:
    r"""Read one YAML document.

    Args:
        text: the document.
        origin: name of the document in error messages.

    Returns:
        Dictionaries with strings as keys, lists, strings, integers, floats, booleans and None.

    Raises:
        FlatvqError: if the text is not YAML; holds several documents, a duplicate key, a tag that YAML does
            not define, or a line separator of YAML 1.1; or is nested too deeply or too large after its
            aliases are expanded.

    Example:
        >>> load_yaml("{steps: 10, learning_rate: 1e-4, flip: yes}", "the text")
        {'steps': 10, 'learning_rate': 0.0001, 'flip': 'yes'}
        >>> load_yaml("train: {steps: 10}\ntrain: {batch_size: 7}", "the text")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: the text has the key 'train' twice, at lines 1 and 2: keep one of them
    """
    if (found := _LINE_SEPARATORS.search(text)) is not None:
        line = text.count("\n", 0, found.start()) + 1
        what = (
            f"{origin} has the line separator U+{ord(found[0]):04X}, which versions of YAML read differently"
        )
        raise FlatvqError(f"{what}, at line {line}", "remove it, or write it as an escape in double quotes")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _Check(origin).extent(node)
        return loader.construct_document(node)
    except RecursionError:
        raise _too_deep(origin) from None
    except yaml.YAMLError as error:
        raise FlatvqError(f"{origin} is not YAML at {_line_and_cause(error, text)}", "correct it") from None


def dump_yaml(tree: Any) -> str:
    r"""Write a tree as YAML that parsers of YAML 1.1 and 1.2 read identically.

    Example:
        >>> dump_yaml({"title": "1e3", "path": "on", "steps": 10})
        "title: '1e3'\npath: 'on'\nsteps: 10\n"
    """
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Check:
    """Checks the size, depth and keys of a document. Each node is visited once.

    Args:
        origin: name of the document in error messages.
    """

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self._extents: dict[Node, tuple[int, int] | None] = {}

    def extent(self, node: Node) -> tuple[int, int]:
        """Return the number of values of a node and their depth, with aliases expanded."""
        if node in self._extents:
            extent = self._extents[node]
            if extent is None:
                raise self._error(node, "an alias that contains itself", "write it out")
            return extent
        self._extents[node] = None
        if isinstance(node, MappingNode):
            self._reject_duplicates(node)
        children = [self.extent(child) for child in _children(node)]
        values = 1 + sum(count for count, _ in children)
        depth = 1 + max((levels for _, levels in children), default=0)
        if values > _MAX_VALUES:
            raise self._error(node, f"more than {_MAX_VALUES:,} values", "shorten it")
        if depth > _MAX_DEPTH:
            raise _too_deep(self.origin)
        self._extents[node] = values, depth
        return values, depth

    def _reject_duplicates(self, node: MappingNode) -> None:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                raise self._error(key, "a key that is not text", "write text before the colon")
            if key.value in lines:
                duplicate = f"the key {key.value!r} twice, at lines {lines[key.value]} and {line}"
                raise FlatvqError(f"{self.origin} has {duplicate}", "keep one of them")
            lines[key.value] = line

    def _error(self, node: Node, what: str, remedy: str) -> FlatvqError:
        return FlatvqError(f"{self.origin} has {what}, at line {node.start_mark.line + 1}", remedy)


def _children(node: Node) -> Iterable[Node]:
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, SequenceNode) else ()


def _line_and_cause(error: yaml.YAMLError, text: str) -> str:
    """Return the line and the cause of an error."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1} ({error.problem})"
    position = error.position if isinstance(error, yaml.reader.ReaderError) else 0
    return f"line {text.count(chr(10), 0, position) + 1} (a character that is not printable)"


def _too_deep(origin: str) -> FlatvqError:
    return FlatvqError(f"{origin} is nested more than {_MAX_DEPTH} deep", "see `flatvq recipes` for examples")


class _Loader(yaml.SafeLoader):
    """Loads the core schema, with strings as keys."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[str, Any]:  # type: ignore[override]
        """Return a dictionary whose keys are the text as written."""
        if not isinstance(node, MappingNode):
            return super().construct_mapping(node)  # raises, with the line
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}

    def reject(self, node: Node) -> None:
        """Raise an error for a tag outside the core schema."""
        raise yaml.constructor.ConstructorError(None, None, f"unknown tag {node.tag}", node.start_mark)


class _Dumper(yaml.SafeDumper):
    """Quotes strings that YAML 1.1 or 1.2 would read as another type or with other line breaks."""

    def represent_str(self, text: str) -> ScalarNode:
        """Write text with the line breaks of YAML 1.1 in double quotes, which escape them."""
        style = '"' if _LINE_SEPARATORS.search(text) else None
        return self.represent_scalar(f"{_TAG}str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_str)


# Without the resolvers and constructors of yaml.SafeLoader.
_Loader.yaml_implicit_resolvers, _Loader.yaml_constructors = {}, {}

# Pattern and possible first characters of the plain scalars that are not strings.
_SCALARS: dict[str, tuple[str, list[str]]] = {
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?(0|[1-9](_?[0-9])*)", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "merge": (r"<<", ["<"]),
}
for _name, (_pattern, _first) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first)


def _scalar(convert: Any) -> Any:
    def construct(loader: _Loader, node: ScalarNode) -> Any:
        text = str(loader.construct_scalar(node))
        try:
            text.encode()
            return convert(text)
        except (ValueError, KeyError):
            what = f"{text[:20]!r} is not of type {node.tag.removeprefix(_TAG)}"
            raise yaml.constructor.ConstructorError(None, None, what, node.start_mark) from None

    return construct


_CONSTRUCTORS = {
    "null": _scalar(lambda text: None),
    "bool": _scalar(lambda text: {"true": True, "false": False}[text.lower()]),
    "int": _scalar(int),
    "float": _scalar(lambda text: float(re.sub(r"\.(?=[in])", "", text.lower()))),
    "str": _scalar(str),
    "seq": lambda loader, node: loader.construct_sequence(node, deep=True),
    "map": _Loader.construct_mapping,
}
for _name, _constructor in _CONSTRUCTORS.items():
    _Loader.add_constructor(_TAG + _name, _constructor)
_Loader.add_constructor(None, _Loader.reject)
