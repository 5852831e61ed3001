"""The state of a codebook: code vectors, use of each code, and how they are set, saved and loaded.

Axes: K codes, D code dim.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils.data import get_worker_info

from flatvq.deprecation import renamed_arguments, renamed_attribute
from flatvq.errors import FlatvqError
from flatvq.quantize.checks import require_finite
from flatvq.quantize.ema import Ema, Update
from flatvq.quantize.init import INIT_DRAW, Init, InitEvent, RandomInit, random_codes
from flatvq.quantize.operator import register
from flatvq.quantize.precision import Float32Module
from flatvq.quantize.replacement import ReplacementEvent
from flatvq.quantize.sharding import full, is_fsdp1, is_sharded, write_rows
from flatvq.randomness import generator
from flatvq.shapes import require_axes, require_floating

__all__ = ["CodebookState"]

# `last_event_step` before the first replacement.
_NEVER = -1
# Keys of state dicts that version 0.1 wrote.
_OLD_KEYS = {"codes": "weight", "is_seeded": "is_initialized", "drawn_checksum": "init_checksum"}


class CodebookState(Float32Module):
    """The part of `Codebook` that is stored: buffers and parameters, which the state dict holds.

    Args:
        size: K.
        dim: D.
        update: moving averages or gradients.
        init: the source of the first codes.
        constrain: applied to codes before they are compared with vectors, such as scaling to unit length.
        seed: the seed of all random draws.
    """

    TRAINING_BUFFERS: ClassVar[tuple[str, ...]] = (
        *("counts", "births", "step_count", "last_event_step", "init_checksum"),
        *("is_initialized", "is_frozen"),
    )
    """The buffers that only training reads. In eval mode, a lookup reads only `weight`."""
    weight: Tensor
    """float32 [K, D], before `constrain`: a buffer with `Ema`, a parameter with `Gradient`."""
    counts: Tensor
    """float32 [K]: moving average of the number of vectors per step of each code."""
    births: Tensor
    """int64 [K]: the step at which each code was initialized or last replaced."""
    step_count: Tensor
    """int64: `step`."""
    last_event_step: Tensor
    """int64: the step of the last replacement; -1 before the first."""
    init_checksum: Tensor
    """int64: checksum of the random codes that the codebook started with."""
    is_initialized: Tensor
    """bool: `initialized`."""
    is_frozen: Tensor
    """bool: `frozen`."""

    def __init__(
        self,
        size: int,
        dim: int,
        update: Update,
        init: Init,
        constrain: Callable[[Tensor], Tensor],
        seed: int,
    ) -> None:
        super().__init__()
        self.size, self.dim = size, dim
        self.update, self.init = update, init
        self.constrain, self.seed = constrain, seed
        self.events: list[InitEvent | ReplacementEvent] = []
        """The events so far, in order. A reader may empty the list."""
        self._init_vectors: list[Tensor] = []
        self._sharded: Tensor | None = None
        weight = torch.empty(size, dim, dtype=torch.float32)
        if isinstance(update, Ema):
            self.register_buffer("weight", weight)
        else:
            self.weight = nn.Parameter(weight)
        self.register_buffer("counts", torch.empty(size, dtype=torch.float32))
        self.register_buffer("births", torch.empty(size, dtype=torch.int64))
        for name in ("step_count", "last_event_step", "init_checksum"):
            self.register_buffer(name, torch.empty((), dtype=torch.int64))
        for name in ("is_initialized", "is_frozen"):
            self.register_buffer(name, torch.empty((), dtype=torch.bool))
        self.reset_parameters()
        self.number = register(self)
        """The number by which graphs refer to this codebook."""

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Reset to the state of a new codebook. This is needed after `to_empty`."""
        distribution = self.init.distribution if isinstance(self.init, RandomInit) else "normal"
        random = generator(self.seed, INIT_DRAW, 0)
        code_vectors = self.constrain(random_codes(self.size, self.dim, distribution, random))
        device = self.weight.device
        self._store(torch.arange(self.size, device=device), code_vectors.to(device))
        # Each new code starts with the count of one virtual vector, so that no division is 0 / 0.
        self.counts.fill_(1.0)
        self.births.zero_()
        self.step_count.zero_()
        self.last_event_step.fill_(_NEVER)
        self.init_checksum.fill_(_checksum(code_vectors))
        self.is_initialized.fill_(isinstance(self.init, RandomInit))
        self.is_frozen.fill_(False)
        self._init_vectors.clear()

    codes = renamed_attribute("codes", "weight")
    seeded = renamed_attribute("seeded", "initialized")
    set_codes = renamed_attribute("set_codes", "set_code_vectors")

    @property
    def step(self) -> int:
        """Number of training steps so far."""
        return int(self.step_count)

    @property
    def initialized(self) -> bool:
        """Whether the codes are initialized. Until then every batch replaces them."""
        return bool(self.is_initialized)

    @property
    def gathering(self) -> bool:
        """Whether vectors for the init are gathered. They are not in the state dict."""
        return bool(self._init_vectors)

    @property
    def frozen(self) -> bool:
        """Whether the codebook stays fixed in training mode."""
        return bool(self.is_frozen)

    @property
    def code_vectors(self) -> Tensor:
        """float32 [K, D]: the code vectors, after `constrain`."""
        return self.constrain(self.weight.float())

    @renamed_arguments(codes="code_vectors")
    @torch.no_grad()
    def set_code_vectors(self, code_vectors: Tensor) -> None:
        """Set all codes, for example to a pretrained codebook. No init from data follows.

        Args:
            code_vectors: [K, D], finite.

        Raises:
            FlatvqError: if the shape or dtype does not match.
            NonFiniteError: if a value is NaN or infinite.

        Example:
            >>> from flatvq.quantize import VectorQuantizer
            >>> quantizer = VectorQuantizer(2, 1)
            >>> quantizer.codebook.set_code_vectors(torch.tensor([[1.0], [5.0]]))
            >>> quantizer(torch.tensor([[4.0]])).code_vectors.tolist()
            [[5.0]]
        """
        require_axes(code_vectors, "code_vectors", self.size, self.dim)
        require_floating(code_vectors, "code_vectors")
        require_finite(code_vectors, "code_vectors")
        self._write(torch.arange(self.size, device=self.counts.device), code_vectors.to(self.counts))
        self.is_initialized.fill_(True)
        self._init_vectors.clear()
        self.events.append(InitEvent(self.step, "set_code_vectors", self.size, 0))

    def freeze(self, frozen: bool = True) -> None:
        """Keep the codebook fixed in training mode; `freeze(False)` ends this.

        The state dict holds this setting.
        """
        self.is_frozen.fill_(frozen)
        if isinstance(self.weight, nn.Parameter):
            self.weight.requires_grad_(not frozen)

    def _write(self, rows: Tensor, code_vectors: Tensor) -> None:
        """Write new codes [R, D] into rows int64 [R], and reset their counts and ages."""
        self._store(rows, self.constrain(code_vectors))
        self.counts[rows] = 1.0
        self.births[rows] = self.step_count

    def _store(self, rows: Tensor, weight: Tensor) -> None:
        """Write [R, D] into rows int64 [R] of `weight`."""
        write_rows(self.weight, self._sharded, rows, weight)
        self._require_stored_weight()

    def _require_stored_weight(self) -> None:
        """Refuse to write into a weight that is computed from others, which would lose the new codes."""
        is_stored = "weight" in self._buffers or "weight" in self._parameters
        if not (is_stored or is_fsdp1(self.weight)):  # `write_rows` refuses FSDP1
            raise FlatvqError(
                "new codes cannot be written into a codebook whose weight is computed by a parametrization "
                "or by pruning",
                "remove it, or use update=Gradient() and init=RandomInit() without replacement",
            )

    def _require_lasting_changes(self) -> None:
        """Refuse to train a copy of the codebook that is dropped after the forward pass."""
        if getattr(self, "_is_replica", False):
            what = "a codebook cannot be trained under torch.nn.DataParallel, which drops changes of buffers"
            raise FlatvqError(what, "use DistributedDataParallel, or codebook.freeze()")
        if get_worker_info() is not None:
            what = "a codebook cannot be trained in a worker of a DataLoader, which has a copy of it"
            raise FlatvqError(what, "call eval() on the quantizer before the workers start")

    def _require_random_codes(self) -> None:
        """Refuse an init from data that would replace codes which the user wrote into `weight`."""
        weight = self._sharded if self._sharded is not None else self.weight
        if _checksum(full(weight)) != int(self.init_checksum):
            raise FlatvqError(
                f"{type(self.init).__name__} is about to replace codes that were written by hand",
                "pass them to codebook.set_code_vectors() to start from them, or call "
                "codebook.reset_parameters() to start from data",
            )

    def __setattr__(self, name: str, value: Any) -> None:
        # FSDP2 sets the parameter to the sharded one and to gathered ones in turn.
        if name == "weight" and is_sharded(value):
            object.__setattr__(self, "_sharded", value)
        if name == "weight" and isinstance(value, nn.Parameter) and "weight" in self._buffers:
            what = "a codebook with update=Ema() takes no parameter, which an optimizer would train too"
            raise FlatvqError(what, "pass the codes to codebook.set_code_vectors(), or use update=Gradient()")
        super().__setattr__(name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.number = register(self)  # a copy is another codebook

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Load a state dict. If it holds only codes, the codebook counts as initialized."""
        for old, new in _OLD_KEYS.items():
            if prefix + old in state_dict:
                state_dict[prefix + new] = state_dict.pop(prefix + old)
        was_frozen = None if self.is_frozen.is_meta else self.frozen
        errors: list[str] = others[-1]
        errors_before = len(errors)
        super()._load_from_state_dict(state_dict, prefix, *others)
        if len(errors) > errors_before:  # PyTorch raises them later
            return
        self._init_vectors.clear()
        with torch.no_grad():
            if prefix + "weight" in state_dict and prefix + "is_initialized" not in state_dict:
                self.is_initialized.fill_(True)
                if prefix + "counts" not in state_dict:
                    self.counts.fill_(1.0)
                    self.births.fill_(self.step)
        if self.is_frozen.is_meta or not isinstance(self.weight, nn.Parameter):
            return
        if self.frozen != was_frozen:  # otherwise requires_grad_() of the user stays
            self.weight.requires_grad_(not self.frozen)


def _checksum(weight: Tensor) -> int:
    """Add up the bits of float32 [K, D], modulo 2^64; 0 on the meta device."""
    return 0 if weight.is_meta else int(weight.detach().contiguous().view(torch.int32).sum())
