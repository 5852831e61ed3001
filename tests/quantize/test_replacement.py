"""DeadCodeReplacement against its definition, with every hit of every code written down."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flatvq.errors import FlatvqError
from flatvq.quantize import (
    DataInit,
    DeadCodeReplacement,
    Ema,
    Gradient,
    RandomInit,
    ReplacementEvent,
    VectorQuantizer,
)
from flatvq.quantize.init import Initialized

UPDATES = pytest.mark.parametrize("update", [Ema(decay=0.9), Gradient(decay=0.9)])
METRICS = pytest.mark.parametrize("metric", ["euclidean", "cosine"])


def rows(tensor):
    return [tuple(row) for row in tensor.tolist()]


def build(size, dim, replacement, update=None, metric="euclidean", init=None):
    return VectorQuantizer(
        size,
        dim,
        update=update or Ema(decay=0.9),
        metric=metric,
        init=init or RandomInit(),
        replacement=replacement,
    )


# --- schedule


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(every=st.integers(1, 20), start=st.integers(0, 50), stop=st.one_of(st.none(), st.integers(0, 120)))
def test_schedule(every, start, stop):
    due = [step for step in range(150) if DeadCodeReplacement(every=every, start=start, stop=stop).due(step)]
    expected = [step for step in range(every, 150, every) if step >= start]
    if stop is not None:
        expected = [step for step in expected if step < stop]
    assert due == expected


@UPDATES
@METRICS
def test_events_follow_the_schedule_in_training_only(update, metric, normal):
    quantizer = build(16, 3, DeadCodeReplacement(every=3, start=4, stop=12, fraction=3.0), update, metric)
    for step in range(20):
        before = quantizer.codebook.weight.detach().clone()
        quantizer.eval()(normal(40, 3, purpose=step))
        assert torch.equal(quantizer.codebook.weight, before)
        quantizer.train()(normal(40, 3, purpose=step))
    assert [event.step for event in quantizer.codebook.events] == [6, 9]
    assert all(event.replaced > 0 for event in quantizer.codebook.events)


@pytest.mark.parametrize("arguments", [{"every": 0}, {"share": 0.0}, {"share": 1.5}])
def test_what_is_no_schedule_is_refused(arguments):
    with pytest.raises(FlatvqError, match=str(*arguments.values())):
        DeadCodeReplacement(**arguments)


@UPDATES
def test_an_absolute_count_is_the_policy_of_the_reference(update, normal):
    """Its library gives each newborn a count of the threshold, averages on, and replaces what falls below."""
    size, threshold = 12, 2.0
    quantizer = build(size, 3, DeadCodeReplacement(every=1, count=threshold), update)
    counts = torch.full((size,), threshold, dtype=torch.float64)
    for step in range(30):
        expected = (counts < threshold - 1e-6).nonzero().flatten().tolist() if step else []
        out = quantizer(normal(40, 3, purpose=step) * 0.3 + torch.tensor([1.0, step / 5, 1.0]))
        events = [event for event in quantizer.codebook.events if event.step == step]
        assert [event.replaced for event in events] == ([len(expected)] if step else [])
        born = (quantizer.codebook.births == step).nonzero().flatten().tolist() if step else []
        assert born == expected
        counts[expected] = threshold
        counts = 0.9 * counts + 0.1 * out.indices.bincount(minlength=size)


# --- who is replaced


class Ledger:
    """Every hit of every code since its birth, and what follows from it by definition."""

    def __init__(self, size, decay):
        self.hits = [[] for _ in range(size)]
        self.decay = decay

    def use(self, code):
        """Weighted mean of the hits: each step back weighs `decay` times as much."""
        weights = [self.decay**back for back in range(len(self.hits[code]))]
        return sum(w * n for w, n in zip(weights, reversed(self.hits[code]), strict=True)) / sum(weights)

    def add(self, indices):
        for code, count in enumerate(indices.bincount(minlength=len(self.hits)).tolist()):
            self.hits[code].append(count)


@UPDATES
@METRICS
@pytest.mark.parametrize(
    "replacement",
    [
        DeadCodeReplacement(every=1, fraction=0.31),
        DeadCodeReplacement(every=4, fraction=0.31, share=0.2),
        DeadCodeReplacement(every=3, fraction=0.73, grace=7),
        DeadCodeReplacement(every=2, fraction=0.73, grace=4),
        DeadCodeReplacement(every=2, fraction=1.07, share=0.5, grace=3, start=5, stop=21),
    ],
)
def test_against_the_definition(update, metric, replacement, normal):
    size, count = 12, 30
    quantizer = build(size, 3, replacement, update, metric)
    ledger, newborn = Ledger(size, 0.9), []
    for step in range(30):
        # The latents wander, so that codes fall out of use.
        latents = normal(count, 3, purpose=step) * 0.3 + torch.tensor([1.0, step / 5, 1.0])
        if replacement.due(step):
            use = [ledger.use(code) for code in range(size)]
            active = [value >= replacement.fraction * count / size for value in use]
            ages = [len(hits) for hits in ledger.hits]
            ready = [code for code in range(size) if not active[code] and ages[code] >= replacement.grace]
            cap = max(1, int(replacement.share * size))
            replaced = sorted(ready, key=lambda code: use[code])[:cap]
            expected = ReplacementEvent(
                step,
                active.count(False),
                len(replaced),
                sum(active[code] for code in newborn) / len(newborn) if newborn else None,
            )
            newborn = replaced
        out = quantizer(latents)
        if replacement.due(step):
            event = quantizer.codebook.events.pop()
            assert (event.step, event.inactive, event.replaced) == (
                step,
                expected.inactive,
                expected.replaced,
            )
            assert event.survived == pytest.approx(expected.survived)
            assert sorted(replaced) == (quantizer.codebook.births == step).nonzero().flatten().tolist()
            for code in replaced:
                ledger.hits[code].clear()
        ledger.add(out.indices)
    assert quantizer.codebook.events == []


def test_by_hand():
    """Four codes, eight vectors a step, so uniform use is 2 and the threshold of a half is 1."""
    quantizer = VectorQuantizer(
        4,
        1,
        update=Gradient(decay=0.5),
        init=RandomInit(),
        replacement=DeadCodeReplacement(every=2, fraction=0.5),
    )
    with torch.no_grad():
        quantizer.codebook.weight.copy_(torch.tensor([[0.0], [10.0], [20.0], [30.0]]))
    # Hits (6, 2, 0, 0) and (5, 1, 2, 0), the later weighs double: (16, 4, 4, 0) / 3.
    quantizer(torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [-1.0], [9.0], [11.0]]))
    quantizer(torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.0], [9.0], [21.0], [22.0]]))
    # All vectors of step 2 are alike but one, and whichever is drawn is now code 3.
    quantizer(torch.tensor([[1.0]] * 7 + [[2.0]]))
    assert quantizer.codebook.events == [ReplacementEvent(2, inactive=1, replaced=1, survived=None)]
    fresh = float(quantizer.codebook.weight[3].detach())
    assert fresh in (1.0, 2.0)
    # Step 3 gives it nothing. Its hits were n = 7 + 1 or 1: (n + 2 x 0) / 3, below 1 for 1, and not for 8.
    quantizer(torch.tensor([[10.0]] * 4 + [[20.0]] * 4))
    quantizer(torch.tensor([[0.0]] * 8))
    assert quantizer.codebook.events[1].survived == (1.0 if fresh == 1.0 else 0.0)


@UPDATES
def test_newborns_that_nothing_uses_do_not_count_as_survivors(update, normal):
    # The moving average of a fresh code must not hide for hundreds of steps that nobody uses it.
    quantizer = VectorQuantizer(
        8, 2, update=type(update)(decay=0.99), init=RandomInit(), replacement=DeadCodeReplacement(every=50)
    )
    with torch.no_grad():
        for tensor in quantizer.codebook.weight, getattr(quantizer.codebook, "sums", torch.zeros(8, 2)):
            tensor[:4] += 500
    for step in range(101):
        # At step 50 the latents are elsewhere for once, and so are the newborns.
        quantizer(normal(64, 2, purpose=step) + (1000 if step == 50 else 0))
    first, second = quantizer.codebook.events
    assert first.replaced == 4
    assert second.survived == 0.0
    assert second.replaced == 4


@pytest.mark.parametrize("repeats", [1, 3, 40])
@pytest.mark.parametrize("first", [1, 2, 10])
@pytest.mark.parametrize("initialized_from_data", [True, False])
def test_the_rule_scales_with_the_batch(repeats, first, initialized_from_data, normal):
    """The same latents several times over: the same codes are inactive, however early one looks."""
    codes = normal(20, 2, purpose=1) * 2

    class Fixed(DataInit):
        def draw(self, vectors, codebook_size, random):
            return Initialized(codes.clone(), 0)

    init = Fixed(1) if initialized_from_data else RandomInit()
    quantizer = build(20, 2, DeadCodeReplacement(every=first, fraction=0.31), Gradient(decay=0.9), init=init)
    if not initialized_from_data:
        quantizer.codebook.set_code_vectors(codes)
    ledger = Ledger(20, 0.9)
    for step in range(first + 1):
        latents = normal(30, 2, purpose=step + 5)
        out = quantizer(latents.repeat(repeats, 1))
        ledger.add(out.indices[:30])
    event = quantizer.codebook.events[-1]
    for hits in ledger.hits:
        hits.pop()
    expected = sum(ledger.use(code) < 0.31 * 30 / 20 for code in range(20))
    assert event.inactive == expected > 0


def test_the_rule_scales_with_the_codebook():
    # 8 codes or 64, of which the first 4 are used alike: at 2 or 16 times uniform use, the others at 0.
    for size in (8, 64):
        quantizer = build(size, 1, DeadCodeReplacement(every=5, fraction=1.9), Gradient(decay=0.9))
        with torch.no_grad():
            quantizer.codebook.weight.copy_(10.0 * torch.arange(size)[:, None])
        for _ in range(6):
            quantizer(torch.tensor([[0.0], [10.0], [20.0], [30.0]]) + torch.rand(4, 1))
        assert quantizer.codebook.events[0].inactive == size - 4


@pytest.mark.parametrize(
    ("share", "size", "most"),
    [(0.1, 20, 2), (0.07, 100, 7), (0.3, 10, 3), (0.1, 15, 1), (0.01, 8, 1), (1.0, 8, 8)],
)
def test_share_is_an_upper_bound_but_for_a_single_code(share, size, most, normal):
    # Everything is below a threshold of 1,000 times uniform use.
    quantizer = build(size, 2, DeadCodeReplacement(every=1, fraction=1000.0, share=share))
    quantizer(normal(200, 2))
    quantizer(normal(200, 2, purpose=1))
    assert quantizer.codebook.events == [ReplacementEvent(1, size, most, None)]


# --- what takes their place


@UPDATES
@METRICS
def test_newborns_are_latents_of_this_batch_with_a_fresh_state(update, metric, normal):
    quantizer = build(16, 3, DeadCodeReplacement(every=1, fraction=1.5), update, metric)
    for step in range(6):
        vectors = quantizer(normal(40, 3, purpose=step)).latents
    before = {name: tensor.clone() for name, tensor in quantizer.codebook.state_dict().items()}
    vectors = (
        torch.nn.functional.normalize(normal(40, 3, purpose=9))
        if metric == "cosine"
        else normal(40, 3, purpose=9)
    )
    book = quantizer.codebook
    with torch.no_grad():
        book._initialize_or_replace(vectors)
    born = book.births == 6
    assert int(born.sum()) == book.events[-1].replaced > 3
    codes = book.code_vectors.detach()
    if metric == "euclidean":
        assert set(rows(codes[born])) <= set(rows(vectors))
    # Scaling a unit vector to unit length may move its last bit.
    nearest = (codes[born][:, None] - vectors[None]).abs().amax(dim=2).min(dim=1)
    assert float(nearest.values.max()) < 1e-6
    assert len(nearest.indices.unique()) == int(born.sum())
    assert len(book.counts[born].unique()) == 1
    for name in ("weight", "counts", "births"):
        assert torch.equal(getattr(book, name)[~born], before[name][~born])


def test_a_newborn_wins_its_own_vector(normal):
    quantizer = build(16, 3, DeadCodeReplacement(every=1, fraction=1.5))
    quantizer(normal(40, 3))
    out = quantizer(normal(40, 3, purpose=1))
    born = (quantizer.codebook.births == 1).nonzero().flatten().tolist()
    assert born
    assert set(born) <= set(out.indices.tolist())


def test_a_batch_with_too_few_different_latents_replaces_fewer():
    quantizer = build(16, 2, DeadCodeReplacement(every=1, fraction=2.5))
    latents = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]).repeat(20, 1)
    quantizer(latents)
    quantizer(latents)
    assert quantizer.codebook.events[0].replaced == 2


def test_replacement_keeps_a_codebook_in_use(normal):
    """What it is for: a codebook that starts far away is all in use in the end, and is not without."""
    used = []
    for replacement in (None, DeadCodeReplacement(every=10, fraction=0.1)):
        quantizer = build(64, 4, replacement)
        for step in range(60):
            quantizer(normal(512, 4, purpose=step) * 0.1 + 7)
        used.append(len(quantizer.eval()(normal(4096, 4, purpose=99) * 0.1 + 7).indices.unique()))
    assert used[0] < 16
    assert used[1] > 60
