"""The Triton kernels compared with plain definitions, on a GPU or, without one, in Triton's interpreter."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flatvq.nearest import availability, backend_for, sum_backend_for, sums

# Of NumPy, in the interpreter: infinities are meant.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::RuntimeWarning")]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
pytest.importorskip("triton", reason="Triton is not installed; it comes with builds of PyTorch for GPUs")
from flatvq.nearest import triton_search, triton_sums  # noqa: E402  (imported by tests/conftest.py)


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    if DEVICE == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")  # for what Triton imports later


def normal(*shape: int, purpose: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1000 + purpose))


def squared_distances(vectors: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    return (vectors.double()[:, None] - codes.double()[None]).square().sum(dim=2)


def indices_of(vectors: torch.Tensor, codes: torch.Tensor) -> torch.Tensor:
    return triton_search.search(vectors.to(DEVICE), codes.to(DEVICE)).cpu()


SIZES = pytest.mark.parametrize(
    ("count", "size", "dim"),
    [(1, 1, 1), (3, 200, 1), (64, 128, 8), (65, 129, 8), (70, 700, 9), (130, 300, 17), (5, 2000, 40)],
)


@SIZES
def test_the_nearest_code_is_found(count: int, size: int, dim: int) -> None:
    vectors, codes = normal(count, dim), normal(size, dim, purpose=1)
    nearest = indices_of(vectors, codes)
    distances = squared_distances(vectors, codes)
    excess = distances.gather(1, nearest[:, None])[:, 0] - distances.min(dim=1).values
    assert nearest.dtype == torch.int64
    assert float(excess.max()) < 1e-5


@SIZES
def test_of_equal_scores_the_first_is_taken(count: int, size: int, dim: int) -> None:
    # Integers, between which float32 makes no error.
    vectors, codes = (2 * normal(count, dim)).round(), (2 * normal(size, dim, purpose=1)).round()
    assert torch.equal(indices_of(vectors, codes), squared_distances(vectors, codes).argmin(dim=1))
    if DEVICE == "cuda" or dim <= 8:  # the interpreter leaves longer products to a BLAS
        # Real numbers, where equal codes must get equal scores.
        codes = normal(size, dim, purpose=1)
        assert int(indices_of(normal(count, dim), torch.cat([codes, codes, codes])).max()) < size


def test_codes_shared_out_over_programs_are_the_same_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, codes = normal(20, 5).round(), normal(3000, 5, purpose=1).round()
    whole = indices_of(vectors, codes)
    for count in (1, 3, 1000):
        monkeypatch.setattr(triton_search, "_multiprocessors", lambda device, count=count: count)
        assert torch.equal(indices_of(vectors, codes), whole)


def test_strides_do_not_matter() -> None:
    for dim in (6, 20):
        vectors, codes = normal(30, dim), normal(40, dim, purpose=1)
        expected = indices_of(vectors, codes)
        strided = vectors.T.contiguous().T, codes.repeat_interleave(2, dim=0)[::2]
        assert torch.equal(indices_of(*strided), expected)


@settings(max_examples=20)
@given(
    count=st.integers(1, 3000), size=st.integers(1, 600), dim=st.integers(1, 9), scale=st.floats(1e-12, 1e12)
)
def test_the_largest_values_are_seen(count: int, size: int, dim: int, scale: float) -> None:
    vectors, codes = (normal(*shape, purpose=dim) * scale for shape in ((count, dim), (size, dim)))
    values, far = triton_search.value_range(vectors.to(DEVICE), codes.to(DEVICE))
    assert values[:2].tolist() == [float(vectors.abs().max()), float(codes.abs().max())]
    assert bool(values[2]) == bool(far.any())


@pytest.mark.parametrize("value", [float("nan"), -float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_not_finite_is_seen(value: float, place: int) -> None:
    arrays = [normal(3000, 3).to(DEVICE), normal(700, 3, purpose=1).to(DEVICE)]
    arrays[place][-1, 2] = value
    seen = triton_search.value_range(*arrays)[0][:2].isfinite().tolist()
    assert seen == [place != 0, place != 1]


def test_coordinates_far_from_zero_are_distinguished() -> None:
    offset = torch.tensor([0.0, 7.0, 9.0, -9.0, 1e4, 1e12, -1e4])
    codes = normal(500, 7, purpose=1)
    codes = (codes - codes.mean(dim=0)) / codes.std(dim=0) + offset
    _, far = triton_search.value_range(normal(10, 7).to(DEVICE), codes.to(DEVICE))
    assert far.tolist() == [False, False, True, True, True, True, True]
    assert (
        triton_search.value_range(normal(10, 7).to(DEVICE), torch.zeros(5, 7).to(DEVICE))[1].any().item()
        is False
    )


@pytest.mark.parametrize(
    ("count", "size", "dim"), [(1, 1, 1), (500, 7, 3), (2000, 40, 64), (300, 5, 100), (9, 300, 16)]
)
@pytest.mark.parametrize("collapsed", [False, True])
def test_sums_and_counts_of_each_code(count: int, size: int, dim: int, collapsed: bool) -> None:
    vectors = normal(count, dim)
    indices = torch.randint(0, 1 if collapsed else size, (count,), generator=torch.Generator().manual_seed(7))
    runs = [triton_sums.code_sums(vectors.to(DEVICE), indices.to(DEVICE), size) for _ in range(2)]
    assert all(torch.equal(one, other) for one, other in zip(*runs, strict=True))
    counts, totals = (tensor.cpu() for tensor in runs[0])
    assert torch.equal(counts, torch.bincount(indices, minlength=size).float())
    exact = torch.zeros(size, dim, dtype=torch.float64).index_add_(0, indices, vectors.double())
    torch.testing.assert_close(totals.double(), exact, rtol=1e-5, atol=1e-4)


def test_they_are_switched_off_with_the_compiled_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        availability, "_triton_missing", lambda device: "" if device.index == 3 else "too old"
    )
    able, unable = torch.device("cuda", 3), torch.device("cuda", 0)
    assert (backend_for(able, 8), sum_backend_for(able, torch.float32)) == ("triton", "triton")
    assert (backend_for(unable, 8), sum_backend_for(unable, torch.float32)) == ("product", "torch")
    monkeypatch.setenv("FLATVQ_NATIVE", "0")
    assert (backend_for(able, 8), sum_backend_for(able, torch.float32)) == ("product", "torch")


@pytest.mark.skipif(DEVICE == "cuda", reason="there is a GPU, which all tests of the quantizers use")
def test_quantizers_learn_with_them_what_they_learn_without(monkeypatch: pytest.MonkeyPatch) -> None:
    from flatvq.nearest import search
    from flatvq.quantize import DeadCodeReplacement, KMeansInit, VectorQuantizer

    def learned() -> list[torch.Tensor]:
        quantizer = VectorQuantizer(
            20, 4, init=KMeansInit(4), replacement=DeadCodeReplacement(every=2, fraction=0.5)
        )
        outs = [quantizer(normal(300, 4, purpose=step) + 30).indices for step in range(4)]
        return [*outs, quantizer.codebook.weight]

    plain = learned()
    monkeypatch.setattr(search, "backend_for", lambda device, dim: "triton")
    monkeypatch.setattr(sums, "sum_backend_for", lambda device, dtype: "triton")
    fused = learned()
    for one, other in zip(plain[:-1], fused[:-1], strict=True):
        assert torch.equal(one, other)
    torch.testing.assert_close(plain[-1], fused[-1])
