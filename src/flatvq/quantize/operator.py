"""The lookup of a codebook as operators of PyTorch, for graphs and transforms.

`flatvq::look_up` is the search, a function of tensors only. Eval mode always uses it, so that exported,
traced, vmapped and compiled programs contain the search as one node. A saved program can be loaded after
`import flatvq.quantize`.

`flatvq::learn` is the lookup in training mode inside a graph of `torch.compile`. It declares the tensors that
it changes, so that the compiler runs it once and in order. It refers to its codebook by a number, which is
valid in this process only.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor, nn

from flatvq.errors import FlatvqError
from flatvq.nearest import Lookup, look_up
from flatvq.quantize.checks import has_values
from flatvq.quantize.recomputation import may_run_again

__all__ = ["learn_in_graph", "look_up_operator", "register", "require_learning"]

_library: Any = torch.library.Library("flatvq", "DEF")  # type: ignore[no-untyped-call]
_library.define(
    "look_up(Tensor vectors, Tensor codebook) -> (Tensor indices, Tensor code_vectors, Tensor error)",
    tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order),
)
_library.impl("look_up", look_up, "CompositeExplicitAutograd")
# Its results have no gradient, so there is nothing for autograd to record.
_library.impl("look_up", torch.library.fallthrough_kernel, "Autograd")
look_up_operator = torch.ops.flatvq.look_up.default


def _fake_look_up(vectors: Tensor, codebook: Tensor) -> Lookup:
    indices = vectors.new_empty(vectors.shape[0], dtype=torch.int64)
    code_vectors = codebook.new_empty(vectors.shape[0], codebook.shape[1])
    return indices, code_vectors, codebook.new_empty(())


torch.library.register_fake("flatvq::look_up", _fake_look_up, lib=_library)


def _vmap_look_up(
    info: Any, in_dims: tuple[int | None, int | None], vectors: Tensor, codebook: Tensor
) -> tuple[Lookup, tuple[int, int, int]]:
    """Search all batches [V, N, D] at once, or one after the other if each has its own codebook [V, K, D]."""
    batches = info.batch_size
    vectors = (
        vectors.expand(batches, *vectors.shape) if in_dims[0] is None else vectors.movedim(in_dims[0], 0)
    )
    if in_dims[1] is None:
        indices, code_vectors, _ = look_up_operator(vectors.flatten(0, 1), codebook)
        indices, code_vectors = indices.view(vectors.shape[:2]), code_vectors.view(vectors.shape)
        error = (
            (vectors - code_vectors).square().mean(dim=(1, 2))
            if vectors.numel()
            else code_vectors.new_zeros(batches)
        )
    else:
        each = [
            look_up_operator(*pair) for pair in zip(vectors, codebook.movedim(in_dims[1], 0), strict=True)
        ]
        indices, code_vectors, error = (torch.stack(part) for part in zip(*each, strict=True))
    return (indices, code_vectors, error), (0, 0, 0)


torch.library.register_vmap("flatvq::look_up", _vmap_look_up, lib=_library)


_STATE = ("weight", "counts", "births", "step_count", "last_event_step", "is_initialized")
# The codebooks by number, because operators take tensors and numbers, but no objects.
_codebooks: WeakValueDictionary[int, Any] = WeakValueDictionary()
_numbers = count()


def register(codebook: nn.Module) -> int:
    """Return a new number for a codebook, by which graphs refer to it."""
    number = next(_numbers)
    _codebooks[number] = codebook
    return number


def require_learning(vectors: Tensor) -> None:
    """Check that changes of a codebook would be kept.

    Raises:
        FlatvqError: in a program that is exported or traced, under a transform of `torch.func`, or on the
            meta device.
    """
    exporting = torch.compiler.is_exporting()
    if exporting or not (has_values(vectors) or torch.compiler.is_compiling()):
        raise FlatvqError(
            "a codebook in training mode cannot learn inside torch.export, torch.jit.trace, torch.func or on "
            "the meta device",
            "call eval() on the quantizer, or freeze() on its codebook, first",
        )


def learn_in_graph(codebook: nn.Module, number: int, vectors: Tensor, mask: Tensor | None) -> Lookup:
    """Add the lookup of vectors [N, D] in training mode to the graph that is being traced."""
    state = (getattr(codebook, name).detach() for name in _STATE)
    result: Lookup = torch.ops.flatvq.learn(vectors, mask, *state, number)
    return result


@torch.library.custom_op(
    "flatvq::learn",
    mutates_args=_STATE,
    schema="(Tensor vectors, Tensor? mask, Tensor(a!) weight, Tensor(b!) counts, Tensor(c!) births, "
    "Tensor(d!) step_count, Tensor(e!) last_event_step, Tensor(f!) is_initialized, int book) "
    "-> (Tensor, Tensor, Tensor)",
)
def _learn(vectors: Tensor, mask: Tensor | None, *state_and_number: Any) -> Lookup:
    *state, number = state_and_number
    with _with_state(_codebooks[number], dict(zip(_STATE, state, strict=True))):
        result: Lookup = _codebooks[number].learn(vectors, mask, may_run_again())
    return result


@_learn.register_fake
def _(vectors: Tensor, mask: Tensor | None, code_vectors: Tensor, *others: Any) -> Lookup:
    return (
        vectors.new_empty(vectors.shape[0], dtype=torch.int64),
        torch.empty_like(vectors),
        vectors.new_empty(()),
    )


@contextmanager
def _with_state(codebook: nn.Module, state: dict[str, Tensor]) -> Iterator[None]:
    """Within the block, replace a codebook's tensors by the graph's tensors, which may be copies."""
    dicts: list[Any] = [
        codebook._parameters if name in codebook._parameters else codebook._buffers for name in state
    ]
    originals = [tensors[name] for tensors, name in zip(dicts, state, strict=True)]
    for tensors, name in zip(dicts, state, strict=True):
        tensors[name] = state[name]
    try:
        yield
    finally:
        for tensors, name, original in zip(dicts, state, originals, strict=True):
            tensors[name] = original
