"""First codes: where they come from, that all are different, and when they are drawn."""

import math
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flatvq.errors import FlatvqError
from flatvq.quantize import (
    DataInit,
    Ema,
    Gradient,
    InitEvent,
    KMeansInit,
    RandomInit,
    VectorQuantizer,
)
from flatvq.quantize.init import distinct_rows, random_codes

FROM_DATA = pytest.mark.parametrize("init", [DataInit, KMeansInit])


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def rows(tensor):
    return [tuple(row) for row in tensor.tolist()]


def assert_all_different_and_none_zero(codes):
    assert bool(codes.isfinite().all())
    assert bool(codes.any(dim=1).all())
    assert len(set(rows(codes))) == len(codes)


# --- random


def moments(codes):
    return float(codes.mean()), float(codes.std())


@pytest.mark.parametrize(("size", "dim"), [(512, 64), (2000, 3)])
def test_random_distributions(size, dim):
    count = size * dim
    normal = random_codes(size, dim, "normal", rng())
    # Five standard errors: of the mean, sd / sqrt(n); of the sd, less than sd / sqrt(n) for both kinds.
    assert moments(normal) == pytest.approx((0, 1), abs=5 / math.sqrt(count))
    assert float(normal.abs().max()) > 3
    for distribution, bound in ("uniform", 1 / size), ("kaiming", math.sqrt(6 / (size * dim))):
        codes = random_codes(size, dim, distribution, rng())
        assert moments(codes / bound) == pytest.approx((0, 1 / math.sqrt(3)), abs=5 / math.sqrt(count))
        assert 0.999 * bound < float(codes.max()) <= bound
        assert -bound <= float(codes.min()) < -0.999 * bound


@pytest.mark.parametrize(("size", "dim"), [(512, 64), (1024, 8)])
def test_kaiming_bound_is_that_of_torch_on_an_array_with_a_leading_one(size, dim):
    theirs = torch.nn.init.kaiming_uniform_(torch.empty(1, size, dim), generator=rng())
    ours = random_codes(size, dim, "kaiming", rng(1))
    # The maximum of n uniform numbers falls short of the bound by 1 / n of it on average.
    assert float(theirs.abs().max()) == pytest.approx(float(ours.abs().max()), rel=20 / (size * dim))
    assert moments(theirs) == pytest.approx(
        moments(ours), abs=float(theirs.max()) * 5 / math.sqrt(size * dim)
    )


@pytest.mark.usefixtures("unchecked")
def test_an_unknown_distribution_is_refused():
    with pytest.raises(FlatvqError, match="kaiming"):
        RandomInit("kaimin")


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), count=st.integers(0, 40), dim=st.integers(1, 4), reach=st.integers(1, 30))
def test_distinct_rows_are_those_of_torch_in_its_order(seed, count, dim, reach):
    random = torch.Generator().manual_seed(seed)
    vectors = torch.randint(-reach, reach + 1, (count, dim), generator=random).float()
    whole = torch.unique(vectors, dim=0) if count else vectors
    assert torch.equal(distinct_rows(vectors), whole[whole.any(dim=1)])


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_random_codes_need_no_data(metric, normal):
    quantizer = VectorQuantizer(16, 4, metric=metric, init=RandomInit(), seed=3)
    first = quantizer.codebook.weight.clone()
    assert quantizer.codebook.initialized
    quantizer.eval()(normal(100, 4))
    quantizer.train()(normal(1000, 4))
    assert quantizer.codebook.events == []
    assert not torch.equal(first, VectorQuantizer(16, 4, metric=metric, seed=4).codebook.weight)


# --- from data


def test_data_seeds_are_rows_of_the_inputs(normal):
    vectors = normal(100, 3)
    initialized = DataInit().draw(vectors, 40, rng())
    assert initialized.filled == 0
    assert set(rows(initialized.code_vectors)) <= set(rows(vectors))
    assert_all_different_and_none_zero(initialized.code_vectors)


def test_data_seeds_are_drawn_from_all_rows_alike():
    # 2,000 draws of 2 out of 10: each row comes 400 times, with a standard deviation of 18.
    vectors = torch.arange(1.0, 11.0)[:, None]
    drawn = torch.cat([DataInit().draw(vectors, 2, rng(seed)).code_vectors for seed in range(2000)])
    counts = drawn.flatten().long().bincount(minlength=11)[1:]
    assert int(counts.min()) > 400 - 5 * 18
    assert int(counts.max()) < 400 + 5 * 18


AWKWARD = {
    "repeats": lambda normal: normal(5, 3).repeat(40, 1),
    "one": lambda normal: normal(1, 3).repeat(200, 1),
    "one large": lambda normal: (normal(1, 3) + 1e6).repeat(200, 1),
    "close beside their size": lambda normal: (1e4 + 1e-2 * normal(3, 3)).repeat(60, 1),
    "zeros": lambda normal: torch.zeros(200, 3),
    "zeros and one": lambda normal: torch.cat([torch.zeros(199, 3), normal(1, 3)]),
    "mirrored": lambda normal: torch.cat([normal(10, 3), -normal(10, 3)]).repeat(10, 1),
    "denormal": lambda normal: (1e-40 * normal(5, 3)).repeat(40, 1),
    "integers": lambda normal: normal(200, 3).round(),
    "few": lambda normal: normal(7, 3),
    "just as many": lambda normal: normal(32, 3),
    "one dimension": lambda normal: torch.ones(200, 1),
}


@FROM_DATA
@pytest.mark.parametrize("kind", AWKWARD)
def test_no_seed_is_zero_or_twice_there(init, kind, normal):
    vectors = AWKWARD[kind](normal)
    initialized = init().draw(vectors, 32, rng())
    assert initialized.code_vectors.shape == (32, vectors.shape[1])
    assert_all_different_and_none_zero(initialized.code_vectors)
    distinct = set(rows(vectors)) - {(0.0,) * vectors.shape[1]}
    if len(distinct) <= 32:
        # Whatever there is to be had is there, the rest is made up.
        assert distinct <= set(rows(initialized.code_vectors))
        assert initialized.filled == 32 - len(distinct)


@FROM_DATA
def test_many_made_up_codes_in_one_dimension_differ_too(init):
    # Float32 has 2^23 numbers between 2 and 4: 4,000 draws in a hundredth of that range are bound to collide.
    initialized = init().draw(torch.full((10, 1), 3.0), 4000, rng())
    assert initialized.filled == 3999
    assert_all_different_and_none_zero(initialized.code_vectors)


@FROM_DATA
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), count=st.integers(1, 60), size=st.integers(1, 40), reach=st.integers(0, 3))
def test_no_seed_is_zero_or_twice_there_on_any_lattice(init, seed, count, size, reach):
    vectors = torch.randint(-reach, reach + 1, (count, 2), generator=rng(seed)).float()
    initialized = init().draw(vectors, size, rng(seed))
    assert initialized.code_vectors.shape == (size, 2)
    assert_all_different_and_none_zero(initialized.code_vectors)


@FROM_DATA
def test_the_draw_is_a_function_of_the_generator(init, normal):
    vectors = normal(300, 4)
    codes = [init().draw(vectors, 20, rng(seed)).code_vectors for seed in (0, 0, 1)]
    assert torch.equal(codes[0], codes[1])
    assert not torch.equal(codes[0], codes[2])


@FROM_DATA
@pytest.mark.parametrize("vectors_per_code", [0, -3])
def test_an_empty_pool_is_refused(init, vectors_per_code):
    with pytest.raises(FlatvqError, match=str(vectors_per_code)):
        init(vectors_per_code=vectors_per_code)


# --- in a codebook


@FROM_DATA
@pytest.mark.parametrize("update", [Ema(), Gradient()])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_init_waits_for_training_and_happens_once(init, update, metric, normal):
    quantizer = VectorQuantizer(8, 3, metric=metric, update=update, init=init(4))
    before = quantizer.codebook.weight.detach().clone()
    quantizer.eval()(normal(100, 3))
    assert torch.equal(quantizer.codebook.weight, before)
    assert quantizer.codebook.events == []
    assert not quantizer.codebook.initialized
    quantizer.train()(normal(100, 3))
    assert quantizer.codebook.events == [InitEvent(0, init.__name__, 32, 0)]
    for step in range(1, 4):
        quantizer(normal(100, 3, purpose=step) + 50)
    assert len(quantizer.codebook.events) == 1
    if metric == "cosine":
        torch.testing.assert_close(quantizer.codebook.code_vectors.detach().norm(dim=1), torch.ones(8))
    elif isinstance(update, Gradient):
        # The later batches are 50 away: without an optimiser, the codes are still those of the first.
        assert float(quantizer.codebook.weight.detach().max()) < 10


@FROM_DATA
def test_gathering_goes_on_until_there_are_enough_vectors(init, normal):
    # 8 codes x 5 = 40 vectors from batches of 12: four batches, the last only in part.
    quantizer = VectorQuantizer(8, 3, init=init(vectors_per_code=5))
    batches = [normal(12, 3, purpose=step) for step in range(6)]
    for step, batch in enumerate(batches):
        quantizer(batch)
        assert quantizer.codebook.initialized == (step >= 3)
        # Until then there are provisional codes, which do not learn.
        if step < 3:
            assert quantizer.codebook.counts.tolist() == [1.0] * 8
    assert quantizer.codebook.events == [InitEvent(3, init.__name__, 40, 0)]
    assert quantizer.codebook.step == 6


def test_the_pool_holds_every_batch(normal):
    # One vector per code and as many as codes: the seeds are the pool itself.
    quantizer = VectorQuantizer(8, 3, update=Gradient(), init=DataInit(vectors_per_code=1))
    batches = [normal(3, 3, purpose=step) for step in range(3)]
    for batch in batches:
        quantizer(batch)
    codes = set(rows(quantizer.codebook.weight))
    assert len(codes) == 8
    assert set(rows(torch.cat(batches[:2]))) < codes
    assert codes < set(rows(torch.cat(batches)))


def test_the_moving_averages_start_at_the_seeds(normal):
    quantizer = VectorQuantizer(8, 3, update=Ema(decay=0.9), init=DataInit(1))
    latents = normal(50, 3)
    out = quantizer(latents)
    seeds = {index: out.code_vectors[out.indices == index][0] for index in out.indices.unique().tolist()}
    for index, seed in seeds.items():
        mine = latents[out.indices == index]
        expected = (0.9 * seed + 0.1 * mine.sum(dim=0)) / (0.9 + 0.1 * len(mine))
        torch.testing.assert_close(quantizer.codebook.weight[index], expected, rtol=1e-4, atol=1e-4)


@FROM_DATA
def test_the_draw_is_a_function_of_the_codebooks_seed(init, normal):
    # All 40 vectors are gathered, whatever the seed: what differs is the draw from them.
    codes = []
    for seed in (0, 0, 1):
        quantizer = VectorQuantizer(8, 3, update=Gradient(), init=init(5), seed=seed)
        quantizer(normal(40, 3))
        codes.append(sorted(rows(quantizer.codebook.weight)))
    assert codes[0] == codes[1]
    assert codes[0] != codes[2]


@FROM_DATA
def test_made_up_codes_are_recorded(init):
    quantizer = VectorQuantizer(16, 2, init=init(1))
    quantizer(torch.tensor([[1.0, 0.0], [0.0, 1.0]]).repeat(20, 1))
    assert quantizer.codebook.events == [InitEvent(0, init.__name__, 16, 14)]


def test_the_gathered_vectors_are_let_go(normal):
    quantizer = VectorQuantizer(8, 3, init=DataInit(vectors_per_code=500))
    for step in range(6):
        quantizer(normal(1000, 3, purpose=step))
        # The pool of 4,000 vectors is 48 kB; the codebook itself is less than 1 kB.
        assert (len(pickle.dumps(quantizer.codebook)) > 10_000) == (step < 3)


@pytest.mark.parametrize("kind", [DataInit, KMeansInit])
def test_an_init_with_a_start_waits_for_it_and_resumes_exactly(kind: type[DataInit | KMeansInit]) -> None:
    random = torch.Generator().manual_seed(3)
    batches = [torch.randn(40, 2, generator=random) * (step + 1) for step in range(8)]

    def quantizer() -> VectorQuantizer:
        return VectorQuantizer(8, 2, init=kind(vectors_per_code=6, start=4), seed=1)

    whole, states = quantizer(), []
    for step, batch in enumerate(batches):
        states.append({key: value.clone() for key, value in whole.state_dict().items()})
        before = whole.codebook.initialized
        result = whole(batch)
        if not before and step < 4:
            # Codes of this batch serve until the init: each is one of its vectors.
            assert set(rows(whole.codebook.code_vectors)) <= set(rows(batch))
            assert not whole.codebook.gathering
        assert result.indices.max() < 8
    # 48 vectors are needed: step 4 gives 40, and step 5 the rest.
    (event,) = whole.codebook.events
    assert (event.step, event.method, event.vectors) == (5, kind.__name__, 48)
    for start in (2, 4, 6):
        resumed = quantizer()
        resumed.load_state_dict(states[start])
        for batch in batches[start:]:
            resumed(batch)
        for key, value in whole.state_dict().items():
            assert value.equal(resumed.state_dict()[key]), (start, key)
