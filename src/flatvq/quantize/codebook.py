"""A codebook and what keeps it alive: init from data, the update at every step, dead-code replacement.

Axes: N vectors of this process, K codes, D code dim. With several processes the statistics are summed over
them and every draw is the same on each, so that all hold bitwise the same codebook.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from flatvq.deprecation import renamed_attribute
from flatvq.errors import FlatvqError
from flatvq.nearest import code_sums, look_up
from flatvq.quantize.checks import require_finite
from flatvq.quantize.distributed import Ranks
from flatvq.quantize.ema import Ema, Update, ema_step
from flatvq.quantize.init import DataInit, Init, RandomInit, random_codes
from flatvq.quantize.operator import learn_in_graph, look_up_operator, register, require_learning
from flatvq.quantize.precision import Float32Module
from flatvq.quantize.recomputation import RecentCodeVectors, in_backward_pass, may_run_again
from flatvq.quantize.replacement import DeadCodeReplacement, ReplacementEvent, replacements
from flatvq.quantize.sharding import full, is_sharded, write_rows
from flatvq.randomness import generator
from flatvq.shapes import require_axes, require_floating

__all__ = ["Codebook", "InitEvent"]

# The step of the last event before there was any.
_NEVER = -1
# Keys of state dicts that version 0.1 wrote.
_OLD_KEYS = {"codes": "weight", "is_seeded": "is_initialized", "drawn_checksum": "init_checksum"}


@dataclass(frozen=True)
class InitEvent:
    """How the first codes were chosen."""

    step: int
    """Training step, counted from 0, at which the final draw happened."""
    method: str
    """Class name of the init; `set_code_vectors` for codes that the user gave."""
    vectors: int
    """Encoder outputs that the draw was made from."""
    filled: int
    """Codes made up by jitter because there were too few different vectors."""


class Codebook(Float32Module):
    """K codes of dimension D.

    In eval mode, or frozen, a look-up is a function of vectors and codes. In training mode it also
    initializes, replaces and updates the codes. All state that controls this is in buffers, and so in the
    state dict.

    Args:
        size: K.
        dim: D.
        update: moving averages or gradients.
        init: where the first codes come from.
        replacement: when inactive codes are replaced; None for never.
        constrain: applied to codes before they are compared with vectors, such as scaling to unit length.
        seed: all draws follow from it and the step.
        process_group: the processes that train the codebook together; None for all.
    """

    weight: Tensor
    """float32 [K, D], before `constrain`: a buffer with `Ema`, a parameter with `Gradient`."""
    counts: Tensor
    """float32 [K]: moving average of the vectors per step of each code."""
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
        replacement: DeadCodeReplacement | None,
        constrain: Callable[[Tensor], Tensor],
        seed: int,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__()
        self.size, self.dim = size, dim
        self.update, self.init, self.replacement = update, init, replacement
        self.constrain, self.seed, self.ranks = constrain, seed, Ranks(process_group)
        self.events: list[InitEvent | ReplacementEvent] = []
        """What happened, in order; whoever records it may empty the list."""
        self._gathered: list[Tensor] = []
        self._previous: tuple[Codebook, ...] = ()
        self._recent = RecentCodeVectors()
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

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Return to the state of a new codebook, as is needed after `to_empty`."""
        method = self.init.distribution if isinstance(self.init, RandomInit) else "normal"
        first = self.constrain(random_codes(self.size, self.dim, method, generator(self.seed, "seeding", 0)))
        device = self.weight.device
        write_rows(self.weight, self._sharded, torch.arange(self.size, device=device), first.to(device))
        # One virtual vector stands behind each new code, so that none starts at 0 / 0.
        self.counts.fill_(1.0)
        self.births.zero_()
        self.step_count.zero_()
        self.last_event_step.fill_(_NEVER)
        self.init_checksum.fill_(_checksum(first))
        self.is_initialized.fill_(isinstance(self.init, RandomInit))
        self.is_frozen.fill_(False)
        self._gathered.clear()

    codes = renamed_attribute("codes", "weight")
    seeded = renamed_attribute("seeded", "initialized")
    set_codes = renamed_attribute("set_codes", "set_code_vectors")

    @property
    def step(self) -> int:
        """Training steps so far."""
        return int(self.step_count)

    @property
    def initialized(self) -> bool:
        """Whether the codes are initialized. Until then each batch replaces them."""
        return bool(self.is_initialized)

    @property
    def frozen(self) -> bool:
        """Whether training mode leaves the codebook as it is."""
        return bool(self.is_frozen)

    @property
    def code_vectors(self) -> Tensor:
        """float32 [K, D]: the codes as they are compared with vectors and returned for them."""
        return self.constrain(self.weight.float())

    @torch.no_grad()
    def set_code_vectors(self, codes: Tensor) -> None:
        """Start from given codes, such as a pretrained codebook; no init from data follows.

        Args:
            codes: [K, D], finite.

        Raises:
            FlatvqError: if the shape or dtype does not fit.
            NonFiniteError: if a value is NaN or infinite.

        Example:
            >>> from flatvq.quantize import VectorQuantizer
            >>> quantizer = VectorQuantizer(2, 1)
            >>> quantizer.codebook.set_code_vectors(torch.tensor([[1.0], [5.0]]))
            >>> quantizer(torch.tensor([[4.0]])).code_vectors.tolist()
            [[5.0]]
        """
        require_axes(codes, "codes", self.size, self.dim)
        require_floating(codes, "codes")
        require_finite(codes, "codes")
        every = torch.arange(self.size, device=self.counts.device)
        self._place(every, codes.to(self.counts))
        self.is_initialized.fill_(True)
        self._gathered.clear()
        self.events.append(InitEvent(self.step, "set_code_vectors", self.size, 0))

    def init_after(self, previous: Codebook) -> None:
        """Initialize this codebook from data only after another one, on whose codes its vectors depend."""
        self._previous = (previous,)  # in a tuple, or it would become a submodule

    def freeze(self, frozen: bool = True) -> None:
        """Keep the codebook as it is in training mode too; `freeze(False)` lets it learn again.

        The state dict holds this setting.
        """
        self.is_frozen.fill_(frozen)
        if isinstance(self.weight, nn.Parameter):
            self.weight.requires_grad_(not frozen)

    def look_up(self, vectors: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Find the nearest code of each vector; in training mode, learn from the vectors.

        Args:
            vectors: float32 [N, D], this process's encoder outputs, without gradients.
            mask: bool [N], True for the vectors to learn from; all if None.

        Returns:
            Indices int64 [N]; the codes they stood for at that moment, float32 [N, D], without gradients; and
            the mean of (z - e)^2 over all elements. What is returned where the mask is False means nothing.
        """
        if not self.training:
            result: tuple[Tensor, Tensor, Tensor] = look_up_operator(vectors, self.code_vectors.detach())
            return result
        require_learning(vectors)
        if torch.compiler.is_compiling():
            return learn_in_graph(self, self.number, vectors, mask)
        return self.learn(vectors, mask, may_run_again())

    @torch.no_grad()
    def learn(
        self, vectors: Tensor, mask: Tensor | None, may_run_again: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Do what `look_up` does in training mode, outside any graph.

        Args:
            vectors: float32 [N, D].
            mask: bool [N], or None.
            may_run_again: whether the backward pass may repeat this forward pass.
        """
        if self.frozen:
            return look_up(vectors, self.code_vectors)
        if in_backward_pass():  # activation checkpointing repeats the forward pass
            return look_up(vectors, self._recent.of(vectors))
        valid = vectors if mask is None else vectors[mask]
        self._prepare(valid)
        codes = self.code_vectors
        if may_run_again:
            self._recent.keep(vectors, codes)
        indices, chosen, error = look_up(valid, codes)
        self._observe(valid, indices)
        if mask is None:
            return indices, chosen, error
        # Positions that are not valid get the first code.
        all_indices = torch.zeros_like(mask, dtype=torch.int64).masked_scatter_(mask, indices)
        return all_indices, torch.zeros_like(vectors).masked_scatter_(mask[:, None], chosen), error

    def _prepare(self, vectors: Tensor) -> None:
        """Initialize the codebook, or replace inactive codes if it is time; before the search."""
        if not self.initialized:
            require_finite(vectors, "latents")
            self._seed(vectors)
        elif self.replacement is not None and self.replacement.due(step := self.step):
            require_finite(vectors, "latents")
            self._replace(vectors, self.replacement, step)

    def _observe(self, vectors: Tensor, indices: Tensor) -> None:
        """Update the moving averages after the search, and count the step."""
        # Until the final draw the codes are provisional: the next batch replaces them.
        if self.initialized:
            statistics = code_sums(vectors, indices, self.size)
            self.ranks.sum(*statistics)
            if not len(vectors) and not statistics[0].any():
                return  # no process has a vector: this is no step
            if isinstance(self.update, Ema):
                ema_step(self.weight, self.counts, statistics, self.update)
            else:
                self.counts.lerp_(statistics[0], 1 - self.update.decay)
        self.step_count += 1

    def _seed(self, vectors: Tensor) -> None:
        assert not isinstance(self.init, RandomInit)
        step = self.step
        if step == 0:
            self._require_drawn_codes()
        missing = self.size * self.init.vectors_per_code - sum(len(rows) for rows in self._gathered)
        counts = self.ranks.counts_of(vectors)
        order = torch.randperm(sum(counts), generator=generator(self.seed, "gathering", step), device="cpu")
        self._gathered.append(self.ranks.take(vectors, order[:missing].to(vectors.device), counts))
        pool = torch.cat(self._gathered)
        complete = missing <= sum(counts)
        # Codes that serve until the next batch need not be clustered.
        init = self.init if complete else DataInit()
        drawn = init.draw(pool, self.size, generator(self.seed, "seeding", step))
        # Sums on a GPU need not be bitwise the same on every process.
        self._place(torch.arange(self.size, device=vectors.device), self.ranks.from_first(drawn.code_vectors))
        if complete:
            self.is_initialized.fill_(True)
            self._gathered.clear()
            method = type(self.init).__name__
            self.events.append(InitEvent(step, method, len(pool), drawn.filled))
        elif not all(codebook.initialized for codebook in self._previous):
            self._gathered.clear()

    def _require_drawn_codes(self) -> None:
        """Refuse to replace codes that the user wrote into a codebook that waits for its init from data."""
        codes = self._sharded if self._sharded is not None else self.weight
        if _checksum(full(codes)) != int(self.init_checksum):
            raise FlatvqError(
                f"{type(self.init).__name__} is about to replace codes that were written by hand",
                "pass them to codebook.set_code_vectors() to start from them, or use init=RandomInit()",
            )

    def _replace(self, vectors: Tensor, replacement: DeadCodeReplacement, step: int) -> None:
        counts = self.ranks.counts_of(vectors)
        if not any(counts):
            return
        age = step - self.births
        use = self._use(age)
        active = use >= replacement.least_use(sum(counts), self.size)
        newborn = self.births == self.last_event_step
        survived = float(active[newborn].float().mean()) if bool(newborn.any()) else None
        replaceable = (~active & (age >= replacement.grace)).nonzero().flatten()
        most = max(1, int(replacement.share * self.size))
        least_used = use[replaceable].argsort(stable=True)[:most]
        fresh = replacements(vectors, len(least_used), self.seed, step, self.ranks, counts)
        rows = replaceable[least_used[: len(fresh)]]
        self._place(rows, fresh)
        self.last_event_step.fill_(step)
        self.events.append(ReplacementEvent(step, int((~active).sum()), len(rows), survived))

    def _use(self, age: Tensor) -> Tensor:
        """Vectors per step of each code since its birth [K]: the counts without the virtual vector.

        This corrects the moving average for its start as Adam does (Kingma & Ba 2015, section 3); otherwise
        it would for long say how the start compares with uniform use, not how the code is used.
        """
        start = self.update.decay ** age.float()
        return (self.counts - start) / (1 - start)

    def _place(self, rows: Tensor, codes: Tensor) -> None:
        """Put new codes into rows, with the state that belongs to them."""
        write_rows(self.weight, self._sharded, rows, self.constrain(codes))
        self.counts[rows] = 1.0
        self.births[rows] = self.step_count

    def __setattr__(self, name: str, value: Any) -> None:
        # FSDP2 sets the parameter to the sharded one and to gathered ones in turn.
        if name == "weight" and is_sharded(value):
            object.__setattr__(self, "_sharded", value)
        super().__setattr__(name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.number = register(self)  # a copy is a codebook of its own

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *others: Any) -> None:
        """Take given codes for an initialized codebook where the state dict does not say."""
        for old, new in _OLD_KEYS.items():
            if prefix + old in state_dict:
                state_dict[prefix + new] = state_dict.pop(prefix + old)
        super()._load_from_state_dict(state_dict, prefix, *others)
        self._gathered.clear()
        with torch.no_grad():
            if prefix + "weight" in state_dict and prefix + "is_initialized" not in state_dict:
                self.is_initialized.fill_(True)
                if prefix + "counts" not in state_dict:
                    self.counts.fill_(1.0)
                    self.births.fill_(self.step)
        if isinstance(self.weight, nn.Parameter) and not self.is_frozen.is_meta:
            self.weight.requires_grad_(not self.frozen)


def _checksum(codes: Tensor) -> int:
    """Add up the bits of float32 [K, D], modulo 2^64; 0 on the meta device."""
    return 0 if codes.is_meta else int(codes.detach().contiguous().view(torch.int32).sum())
