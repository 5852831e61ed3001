"""A codebook and its upkeep: seeding at first, the update at every step, revival on its schedule.

Axes: N vectors of this process, K codes, D code dim. With several processes the statistics are summed over
them and every draw is the same on each, so that all hold bitwise the same codebook.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flatvq.quantize.distributed import from_first_rank, global_rows, sum_over_ranks, world_size
from flatvq.quantize.ema import Ema, Update, ema_step
from flatvq.quantize.operator import look_up_in_graph, register
from flatvq.quantize.randomness import generator
from flatvq.quantize.revival import Revival, RevivalEvent, replacements
from flatvq.quantize.search import look_up
from flatvq.quantize.seeding import DataSeeding, RandomSeeding, Seeding, random_codes
from flatvq.quantize.sums import code_sums

__all__ = ["Codebook", "SeedingEvent"]

# The last event's step before there was any.
_NEVER = -1


@dataclass(frozen=True)
class SeedingEvent:
    """How the first codes came about."""

    step: int
    """Training step, counted from 0, at which the final draw happened."""
    method: str
    """Class name of the seeding."""
    vectors: int
    """Encoder outputs that the draw was made from."""
    filled: int
    """Codes made up by jitter because there were too few different vectors."""


class Codebook(nn.Module):
    """K codes of dimension D, kept alive.

    In training mode a look-up also seeds, revives and updates the codes; in eval mode it changes nothing.

    Args:
        size: K.
        dim: D.
        update: moving averages or gradients.
        seeding: where the first codes come from.
        revival: when inactive codes are replaced; None for never.
        constrain: applied to codes whenever they change, such as scaling to unit length.
        seed: all draws follow from it and the step.
    """

    codes: Tensor
    sums: Tensor
    counts: Tensor
    births: Tensor

    def __init__(
        self,
        size: int,
        dim: int,
        update: Update,
        seeding: Seeding,
        revival: Revival | None,
        constrain: Callable[[Tensor], Tensor],
        seed: int,
    ) -> None:
        super().__init__()
        self.update, self.seeding, self.revival = update, seeding, revival
        self.constrain, self.seed = constrain, seed
        self.step = 0
        self.seeded = isinstance(seeding, RandomSeeding)
        self.last_event = _NEVER
        self.events: list[SeedingEvent | RevivalEvent] = []
        """What happened, in order; whoever records it may empty the list."""
        self._gathered: list[Tensor] = []
        distribution = seeding.distribution if isinstance(seeding, RandomSeeding) else "normal"
        first = constrain(random_codes(size, dim, distribution, generator(seed, "seeding", 0)))
        if isinstance(update, Ema):
            self.register_buffer("codes", first)
            self.register_buffer("sums", first.clone())
        else:
            self.codes = nn.Parameter(first)
        # One virtual vector stands behind each new code, so that none starts at 0 / 0.
        self.register_buffer("counts", torch.ones(size))
        self.register_buffer("births", torch.zeros(size, dtype=torch.int64))
        self.number = register(self)

    def look_up(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Find the nearest code of each vector; in training mode, learn from them.

        Args:
            vectors: float32 [N, D], this process's encoder outputs, without gradients.

        Returns:
            Indices int64 [N]; the codes they stood for at that moment, float32 [N, D], without gradients; and
            the mean of (z - e)^2 over all elements, where the search has added that up on its way.
        """
        if torch.compiler.is_compiling():
            return *look_up_in_graph(self, self.number, vectors), None
        return self.look_up_now(vectors)

    @torch.no_grad()
    def look_up_now(self, vectors: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Do what `look_up` says, outside any compiled graph."""
        if self.training:
            self._prepare(vectors)
        found = look_up(vectors, self.constrain(self.codes))
        if self.training:
            self._observe(vectors, found[0])
        return found

    def _prepare(self, vectors: Tensor) -> None:
        """Seed the codebook, or revive inactive codes if it is time; before the search."""
        if not self.seeded:
            self._seed(vectors)
        elif self.revival is not None and self.revival.due(self.step):
            self._revive(vectors, self.revival)

    def _observe(self, vectors: Tensor, indices: Tensor) -> None:
        """Update the moving averages after the search, and count the step."""
        # Until the final draw the codes are provisional: the next batch replaces them.
        if self.seeded:
            statistics = code_sums(vectors, indices, len(self.codes))
            sum_over_ranks(*statistics)
            if isinstance(self.update, Ema):
                ema_step(self.codes, self.counts, self.sums, statistics, self.update)
                self.codes.copy_(self.constrain(self.codes))
            else:
                self.counts.lerp_(statistics[0], 1 - self.update.decay)
        self.step += 1

    def _seed(self, vectors: Tensor) -> None:
        assert not isinstance(self.seeding, RandomSeeding)
        size = len(self.codes)
        missing = size * self.seeding.vectors_per_code - sum(len(rows) for rows in self._gathered)
        total = len(vectors) * world_size()
        rows = torch.randperm(total, generator=generator(self.seed, "gathering", self.step))[:missing]
        self._gathered.append(global_rows(vectors, rows.to(vectors.device)))
        pool = torch.cat(self._gathered)
        self.seeded = missing <= total
        # What serves until the next batch need not be clustered.
        seeding = self.seeding if self.seeded else DataSeeding()
        drawn = seeding.draw(pool, size, generator(self.seed, "seeding", self.step))
        # Sums on a GPU need not be bitwise the same on every process.
        self._place(torch.arange(size, device=vectors.device), from_first_rank(drawn.codes))
        if self.seeded:
            self._gathered.clear()
            method = type(self.seeding).__name__
            self.events.append(SeedingEvent(self.step, method, len(pool), drawn.filled))

    def _revive(self, vectors: Tensor, revival: Revival) -> None:
        age = self.step - self.births
        use = self._use(age)
        active = use >= revival.least_use(len(vectors) * world_size(), len(self.codes))
        newborn = self.births == self.last_event
        survived = float(active[newborn].float().mean()) if bool(newborn.any()) else None
        replaceable = (~active & (age >= revival.grace)).nonzero().flatten()
        most = max(1, int(revival.share * len(self.codes)))
        least_used = use[replaceable].argsort(stable=True)[:most]
        fresh = replacements(vectors, len(least_used), self.seed, self.step)
        rows = replaceable[least_used[: len(fresh)]]
        self._place(rows, fresh)
        self.last_event = self.step
        self.events.append(RevivalEvent(self.step, int((~active).sum()), len(rows), survived))

    def _use(self, age: Tensor) -> Tensor:
        """Vectors per step of each code since its birth [K]: the counts without the virtual vector.

        This corrects the moving average for its start as Adam does (Kingma & Ba 2015, section 3); otherwise
        it would for long say how the start compares with uniform use, not how the code is used.
        """
        start = self.update.decay**age
        return (self.counts - start) / (1 - start)

    def _place(self, rows: Tensor, codes: Tensor) -> None:
        """Put new codes into rows, with the state that belongs to them."""
        codes = self.constrain(codes)
        self.codes[rows] = codes
        self.counts[rows] = 1.0
        self.births[rows] = self.step
        if isinstance(self.update, Ema):
            self.sums[rows] = codes

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self.number = register(self)  # a copy is a codebook of its own

    def get_extra_state(self) -> Tensor:
        """Pack what is not a tensor into one, so that a state dict holds tensors only."""
        return torch.tensor([self.step, int(self.seeded), self.last_event])

    def set_extra_state(self, state: Tensor) -> None:
        """Take over step, seeding and the last event from a state dict."""
        step, seeded, last_event = state.tolist()
        self.step, self.seeded, self.last_event = step, bool(seeded), last_event
        self._gathered.clear()
