"""YAML without surprises: a value is what its writer meant, or it is refused with its line.

Plain scalars follow the core schema of YAML 1.2, with decimal numbers only: `yes`, `010`, `1:30` and
`2024-01-01` are text, and `1e-4` is a number. Keys are always text. A key that occurs twice in a mapping is
an error; keys of a merged mapping (`<<`) may be replaced.
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
_MOST_VALUES, _DEEPEST = 20_000, 50


def load_yaml(text: str, origin: str) -> Any:
    r"""Read one YAML document.

    Args:
        text: the document.
        origin: what to call it in an error.

    Returns:
        Dictionaries with text as keys, lists, text, whole numbers, floats, booleans and None.

    Raises:
        FlatvqError: if the text is not YAML, holds several documents, a key twice, a tag of a programming
            language, or is nested too deeply or too large once its aliases are replaced.

    Example:
        >>> load_yaml("{steps: 10, learning_rate: 1e-4, flip: yes}", "the text")
        {'steps': 10, 'learning_rate': 0.0001, 'flip': 'yes'}
        >>> load_yaml("train: {steps: 10}\ntrain: {batch_size: 7}", "the text")
        Traceback (most recent call last):
        flatvq.errors.FlatvqError: the text has the key 'train' twice, at lines 1 and 2: keep one of them
    """
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
        raise FlatvqError(f"{origin} is not YAML at {_place(error, text)}", "correct it") from None


def dump_yaml(tree: Any) -> str:
    r"""Write a tree so that readers of YAML 1.1 and 1.2 read the same values.

    Example:
        >>> dump_yaml({"title": "1e3", "path": "on", "steps": 10})
        "title: '1e3'\npath: 'on'\nsteps: 10\n"
    """
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Check:
    """Looks at each node of a document once.

    Args:
        origin: what to call the document in an error.
    """

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self._known: dict[Node, tuple[int, int] | None] = {}

    def extent(self, node: Node) -> tuple[int, int]:
        """Return how many values a node stands for, each alias replaced, and how deeply they are nested."""
        if node in self._known:
            known = self._known[node]
            if known is None:
                raise self._refused(node, "an alias inside of what it stands for", "write it out")
            return known
        self._known[node] = None
        if isinstance(node, MappingNode):
            self._refuse_repeats(node)
        below = [self.extent(child) for child in _children(node)]
        values, depth = 1 + sum(one for one, _ in below), 1 + max((one for _, one in below), default=0)
        if values > _MOST_VALUES:
            raise self._refused(node, f"more than {_MOST_VALUES:,} values", "shorten it")
        if depth > _DEEPEST:
            raise _too_deep(self.origin)
        self._known[node] = values, depth
        return values, depth

    def _refuse_repeats(self, node: MappingNode) -> None:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, ScalarNode):
                raise self._refused(key, "a key that is not text", "write text before the colon")
            if key.value in lines:
                twice = f"the key {key.value!r} twice, at lines {lines[key.value]} and {line}"
                raise FlatvqError(f"{self.origin} has {twice}", "keep one of them")
            lines[key.value] = line

    def _refused(self, node: Node, what: str, remedy: str) -> FlatvqError:
        return FlatvqError(f"{self.origin} has {what}, at line {node.start_mark.line + 1}", remedy)


def _children(node: Node) -> Iterable[Node]:
    if isinstance(node, MappingNode):
        return [part for pair in node.value for part in pair]
    return node.value if isinstance(node, SequenceNode) else ()


def _place(error: yaml.YAMLError, text: str) -> str:
    """Return the line of an error and what is wrong there."""
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"line {error.problem_mark.line + 1} ({error.problem})"
    position = error.position if isinstance(error, yaml.reader.ReaderError) else 0
    return f"line {text.count(chr(10), 0, position) + 1} (a character that is not printable)"


def _too_deep(origin: str) -> FlatvqError:
    return FlatvqError(f"{origin} is nested more than {_DEEPEST} deep", "see `flatvq recipes` for examples")


class _Loader(yaml.SafeLoader):
    """Plain values and text as keys."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[str, Any]:  # type: ignore[override]
        """Make a dictionary whose keys are text as it is written."""
        if not isinstance(node, MappingNode):
            return super().construct_mapping(node)  # raises, with the line
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}

    def refuse(self, node: Node) -> None:
        """Refuse a tag that is none of YAML's own."""
        raise yaml.constructor.ConstructorError(None, None, f"unknown tag {node.tag}", node.start_mark)


class _Dumper(yaml.SafeDumper):
    """Quotes text that either schema takes for something else."""


# None of those that yaml.SafeLoader has.
_Loader.yaml_implicit_resolvers, _Loader.yaml_constructors = {}, {}

# Pattern and first characters of the plain scalars that are not text.
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
_Loader.add_constructor(None, _Loader.refuse)
