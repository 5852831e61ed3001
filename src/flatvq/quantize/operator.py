"""A codebook's look-up as one operator of `torch.compile`'s graphs.

The search, events and schedules are nothing that a compiler could trace, and without this each look-up would
break the graph. The operator names the tensors that it changes, so that a compiler runs it once, and in its
place.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

__all__ = ["look_up_in_graph", "register"]

_STATE = ("codes", "counts", "births", "sums")


# Operators take tensors and numbers, but no objects.
_books: WeakValueDictionary[int, Any] = WeakValueDictionary()
_numbers = count()


def register(book: nn.Module) -> int:
    """Give a codebook the number by which graphs will name it."""
    number = next(_numbers)
    _books[number] = book
    return number


def look_up_in_graph(book: nn.Module, number: int, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Put the look-up of vectors [N, D] into the graph that is being traced."""
    codes, counts, births = (getattr(book, name).detach() for name in _STATE[:3])
    sums = getattr(book, "sums", None)  # which a codebook that learns by gradients does not have
    found: tuple[Tensor, Tensor] = torch.ops.flatvq.look_up(vectors, codes, counts, births, sums, number)
    return found


@torch.library.custom_op(
    "flatvq::look_up",
    mutates_args=_STATE,
    schema="(Tensor vectors, Tensor(a!) codes, Tensor(b!) counts, Tensor(c!) births, Tensor(d!)? sums, "
    "int book) -> (Tensor, Tensor)",
)
def _look_up(
    vectors: Tensor, codes: Tensor, counts: Tensor, births: Tensor, sums: Tensor | None, book: int
) -> tuple[Tensor, Tensor]:
    with _holding(_books[book], dict(zip(_STATE, (codes, counts, births, sums), strict=True))):
        indices, codes, _ = _books[book].look_up_now(vectors)
    return indices, codes


@_look_up.register_fake
def _(
    vectors: Tensor, codes: Tensor, counts: Tensor, births: Tensor, sums: Tensor | None, book: int
) -> tuple[Tensor, Tensor]:
    return vectors.new_empty(len(vectors), dtype=torch.int64), torch.empty_like(vectors)


@contextmanager
def _holding(book: nn.Module, state: dict[str, Tensor | None]) -> Iterator[None]:
    """Let the codebook work on the tensors of the graph, which may be copies of its own for the while."""
    present = [name for name in state if hasattr(book, name)]
    slots: list[Any] = [book._parameters if name in book._parameters else book._buffers for name in present]
    own = [slot[name] for slot, name in zip(slots, present, strict=True)]
    for slot, name in zip(slots, present, strict=True):
        slot[name] = state[name]
    try:
        yield
    finally:
        for slot, name, tensor in zip(slots, present, own, strict=True):
            slot[name] = tensor
