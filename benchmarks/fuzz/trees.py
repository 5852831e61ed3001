"""Random changes of what JSON and YAML hold: values, types, keys, nesting."""

from __future__ import annotations

import json
from copy import deepcopy
from random import Random
from typing import Any

__all__ = ["mutated_text"]

# Written as they stand: what JSON's own writer would not write.
_RAW = (
    *("null", "true", "false", "0", "-1", "1", "0.5", "-0.0", "1e-320", "1e308", "-1e308", "1e999", "NaN"),
    *("-Infinity", "9007199254740993", "9223372036854775807", "9223372036854775808", "1" + "0" * 400),
    *("1" + "0" * 5000, '""', '"1"', '"NaN"', '"text"', '"\\u0000"', '"\\ud800"', '"../x"', '"/"', '"\\n"'),
    *("[]", "[null]", "{}", '{"a": 1}', "[1, 2, 3]", "[" * 200 + "]" * 200, "[" * 20000 + "]" * 20000),
    '{"a":' * 3000 + "1" + "}" * 3000,
)

_WHOLE = 0.02

Pairs = list[tuple[str, Any]]


class _Raw(str):
    """Text that is written unchanged."""


class _Object:
    """An object whose keys may repeat."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs


def mutated_text(tree: Any, other: Any, random: Random) -> str:
    """Change a tree in a few places, and write it as JSON, which is YAML as well.

    Args:
        tree: what JSON can hold.
        other: a second tree, parts of which may replace parts of the first.
        random: what is drawn from.

    Example:
        >>> mutated_text({"steps": 10, "seeds": [0, 1]}, {"steps": "x"}, Random(16))
        '{"steps": 10, "seeds": [0, "x"]}'
    """
    root, donors = _Object([("", _opened(tree))]), list(_values(_opened(other)))
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        _change(root, donors, random)
    return "".join(_written(value) for _, value in root.pairs[:1])


def _change(root: _Object, donors: list[Any], random: Random) -> None:
    """Change one place of a tree: an item of one of its objects or lists."""
    below = [value for _, tree in root.pairs for value in _values(tree)]
    holders = [value for value in below if isinstance(value, list | _Object) and _size(value)]
    # Seldom the whole tree: its readers refuse that at once.
    holder = random.choice(holders) if holders and random.random() > _WHOLE else root
    position = random.randrange(_size(holder))
    match random.randrange(8):
        case 0 if _size(holder) > 1:
            del _items(holder)[position]
        case 1:
            items = _items(holder)
            items.insert(random.randrange(len(items) + 1), items[position])
        case 2 if isinstance(holder, _Object) and holder is not root:
            key = random.choice(
                [holder.pairs[position][0] + "x", *(name for name, _ in holder.pairs), "format"]
            )
            holder.pairs[position] = key, holder.pairs[position][1]
        case 3:
            _put(holder, position, deepcopy(random.choice(donors)))
        case 4:
            _put(holder, position, _near(_at(holder, position), random))
        case _:
            _put(holder, position, _Raw(random.choice(_RAW)))


def _near(value: Any, random: Random) -> Any:
    """Return a value of the same or the nearest other type."""
    if isinstance(value, bool) or value is None:
        return random.choice((0, 1, "", str(value).lower()))
    if isinstance(value, int | float):
        numbers = (-value, value + 1, value * 10, float(value), value / 3, str(value), [value], bool(value))
        return random.choice(numbers)
    if isinstance(value, str):
        return random.choice((value + "x", value[:-1], [value], value[:100] * 300, value.upper()))
    return [value] if random.random() < 0.5 else None


def _opened(tree: Any) -> Any:
    if isinstance(tree, dict):
        return _Object([(key, _opened(value)) for key, value in tree.items()])
    return [_opened(item) for item in tree] if isinstance(tree, list) else tree


def _values(tree: Any) -> Any:
    """Yield a tree's values, itself first."""
    yield tree
    items = [value for _, value in tree.pairs] if isinstance(tree, _Object) else tree
    for item in items if isinstance(items, list) else ():
        yield from _values(item)


def _items(holder: Any) -> list[Any]:
    return holder.pairs if isinstance(holder, _Object) else holder


def _size(holder: Any) -> int:
    return len(_items(holder))


def _at(holder: Any, position: int) -> Any:
    return holder.pairs[position][1] if isinstance(holder, _Object) else holder[position]


def _put(holder: Any, position: int, value: Any) -> None:
    _items(holder)[position] = (holder.pairs[position][0], value) if isinstance(holder, _Object) else value


def _written(tree: Any) -> str:
    if isinstance(tree, _Raw):
        return str(tree)
    if isinstance(tree, _Object):
        return "{" + ", ".join(f"{json.dumps(key)}: {_written(value)}" for key, value in tree.pairs) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(_written, tree)) + "]"
    return json.dumps(tree)
