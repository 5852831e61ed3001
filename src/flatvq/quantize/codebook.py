"""A codebook and its training: lookup, init from data, update at every step, dead-code replacement.

With several processes, counts and sums are added up over the processes and all random draws are the same, so
that every process holds bitwise the same codebook.

Axes: N vectors of this process, K codes, D code dim.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor

from flatvq.nearest import Lookup, code_sums, look_up
from flatvq.quantize.checks import require_finite
from flatvq.quantize.codebook_state import CodebookState
from flatvq.quantize.distributed import Ranks
from flatvq.quantize.ema import Ema, Update, ema_step
from flatvq.quantize.init import GATHER_DRAW, INIT_DRAW, DataInit, Init, InitEvent, RandomInit
from flatvq.quantize.operator import learn_in_graph, look_up_operator, require_learning
from flatvq.quantize.recomputation import RecentCodeVectors, in_backward_pass, may_run_again
from flatvq.quantize.replacement import (
    DeadCodeReplacement,
    ReplacementEvent,
    draw_replacements,
    unbiased_counts,
)
from flatvq.quantize.sharding import require_gathered
from flatvq.randomness import generator

__all__ = ["Codebook"]


class Codebook(CodebookState):
    """K codes of dimension D.

    In eval mode, or frozen, a lookup depends on vectors and codes only. In training mode it also initializes,
    replaces and updates the codes. All state is in the state dict.

    Args:
        size: K.
        dim: D.
        update: moving averages or gradients.
        init: the source of the first codes.
        replacement: when inactive codes are replaced; None for never.
        constrain: applied to codes before they are compared with vectors, such as scaling to unit length.
        seed: the seed of all random draws, together with the step.
        process_group: the processes that train the codebook together; None for all.

    Example:
        A quantizer makes its codebook:

        >>> from flatvq.quantize import VectorQuantizer
        >>> codebook = VectorQuantizer(codebook_size=16, code_dim=4).codebook
        >>> codebook.code_vectors.shape, codebook.initialized
        (torch.Size([16, 4]), False)
    """

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
        super().__init__(size, dim, update, init, constrain, seed)
        self.replacement, self.ranks = replacement, Ranks(process_group)
        self._previous: tuple[Codebook, ...] = ()
        self._recent = RecentCodeVectors()

    def init_after(self, *previous: Codebook) -> None:
        """Initialize this codebook from data only after another one, whose codes affect its vectors.

        Args:
            previous: the codebook to initialize first; none if there is none.
        """
        self._previous = previous  # a tuple, because a module as an attribute would become a submodule

    def look_up(self, vectors: Tensor, mask: Tensor | None = None) -> Lookup:
        """Find the nearest code of each vector; in training mode, also train the codebook.

        Args:
            vectors: float32 [N, D], encoder outputs of this process, without gradients.
            mask: bool [N], True for the vectors to learn from; all if None.

        Returns:
            Indices int64 [N]; their code vectors at the time of the search, float32 [N, D], without
            gradients; and the mean of (z - e)^2 over all elements. Values where the mask is False are
            undefined.
        """
        require_gathered(self.weight)
        if not self.training:
            result: Lookup = look_up_operator(vectors, self.code_vectors.detach())
            return result
        require_learning(vectors)
        if torch.compiler.is_compiling():
            return learn_in_graph(self, self.number, vectors, mask)
        return self.learn(vectors, mask, may_run_again())

    @torch.no_grad()
    def learn(self, vectors: Tensor, mask: Tensor | None, may_run_again: bool) -> Lookup:
        """Look up vectors in training mode, outside any graph.

        Args:
            vectors: float32 [N, D].
            mask: bool [N], or None.
            may_run_again: whether the backward pass may repeat this forward pass.

        Returns:
            See `look_up`.
        """
        if self.frozen:
            return look_up(vectors, self.code_vectors)
        self._require_lasting_changes()
        if in_backward_pass():  # activation checkpointing repeats the forward pass
            return look_up(vectors, self._recent.of(vectors))
        valid = vectors if mask is None else vectors[mask]
        self._initialize_or_replace(valid)
        code_vectors = self.code_vectors
        if may_run_again:
            self._recent.keep(vectors, code_vectors)
        indices, chosen, error = look_up(valid, code_vectors)
        self._update_codes(valid, indices)
        if mask is None:
            return indices, chosen, error
        # Invalid positions get code 0; the caller overwrites them.
        all_indices = torch.zeros_like(mask, dtype=torch.int64).masked_scatter_(mask, indices)
        return all_indices, torch.zeros_like(vectors).masked_scatter_(mask[:, None], chosen), error

    def _initialize_or_replace(self, vectors: Tensor) -> None:
        """Change codes before the search, if they are not initialized yet or a replacement is due."""
        if not self.initialized:
            self._initialize(vectors)
        elif self.replacement is not None and self.replacement.due(self.step):
            self._replace(vectors, self.replacement)

    def _initialize(self, vectors: Tensor) -> None:
        """Gather vectors and draw all codes from them. The draw is final once there are enough vectors.

        Before the step `init.start`, only the vectors of this batch are used.
        """
        assert not isinstance(self.init, RandomInit)
        require_finite(vectors, "latents")
        step = self.step
        if step == 0:
            self._require_stored_weight()
            self._require_random_codes()
        missing = self.size * self.init.vectors_per_code - sum(len(rows) for rows in self._init_vectors)
        counts = self.ranks.counts_of(vectors)
        order = torch.randperm(sum(counts), generator=generator(self.seed, GATHER_DRAW, step), device="cpu")
        self._init_vectors.append(self.ranks.take(vectors, order[:missing].to(vectors.device), counts))
        pool = torch.cat(self._init_vectors)
        is_final = missing <= sum(counts) and step >= self.init.start
        # Provisional codes serve for one batch, so they are not clustered.
        init = self.init if is_final else DataInit()
        drawn = init.draw(pool, self.size, generator(self.seed, INIT_DRAW, step))
        # Sums on a GPU may differ between processes in the last bits.
        code_vectors = self.ranks.from_first(drawn.code_vectors)
        self._write(torch.arange(self.size, device=vectors.device), code_vectors)
        if is_final:
            self.is_initialized.fill_(True)
            self._init_vectors.clear()
            self.events.append(InitEvent(step, type(self.init).__name__, len(pool), drawn.filled))
        elif step < self.init.start or not all(book.initialized or book.frozen for book in self._previous):
            self._init_vectors.clear()

    def _update_codes(self, vectors: Tensor, indices: Tensor) -> None:
        """Update the moving averages with the vectors of each code, and count the step."""
        if self.initialized:  # provisional codes are drawn again in the next step
            counts, sums = code_sums(vectors, indices, self.size)
            self.ranks.sum(counts, sums)
            if not len(vectors) and not counts.any():
                return  # without a vector on any process, this is not a step
            if isinstance(self.update, Ema):
                self._require_stored_weight()
                ema_step(self.weight, self.counts, (counts, sums), self.update)
            else:
                self.counts.lerp_(counts, 1 - self.update.decay)
        self.step_count += 1

    def _replace(self, vectors: Tensor, replacement: DeadCodeReplacement) -> None:
        """Replace inactive codes by vectors of this batch, the least used first."""
        require_finite(vectors, "latents")
        counts = self.ranks.counts_of(vectors)
        if not any(counts):
            return
        step = self.step
        age = step - self.births
        use = unbiased_counts(self.counts, age, self.update.decay)
        is_active = use >= replacement.least_use(sum(counts), self.size)
        is_new = self.births == self.last_event_step
        survived = float(is_active[is_new].float().mean()) if bool(is_new.any()) else None
        replaceable = (~is_active & (age >= replacement.grace)).nonzero().flatten()
        limit = max(1, int(replacement.share * self.size))
        least_used = replaceable[use[replaceable].argsort(stable=True)[:limit]]
        code_vectors = draw_replacements(vectors, len(least_used), self.seed, step, self.ranks, counts)
        rows = least_used[: len(code_vectors)]
        self._write(rows, code_vectors)
        self.last_event_step.fill_(step)
        self.events.append(ReplacementEvent(step, int((~is_active).sum()), len(rows), survived))
