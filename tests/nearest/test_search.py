"""Every search backend, by name, against brute force in float64."""

import contextlib
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch.utils._python_dispatch import TorchDispatchMode

from flatvq.errors import FlatvqError, NonFiniteError
from flatvq.nearest import BACKENDS, backend_for, compiled, flat_faiss, nearest_codes, products, status

EPSILON = torch.finfo(torch.float32).eps
PATHS = pytest.mark.parametrize("path", [*BACKENDS, "product on cuda"])


@contextlib.contextmanager
def searching(path, tile=64):
    """Yield `nearest_codes` of one backend, with tiles of a few rows."""
    backend, _, device = path.partition(" on ")
    device = torch.device(device or ("cuda" if backend == "triton" else "cpu"))
    if device.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no GPU")
    if reason := BACKENDS[backend].missing(device):
        pytest.skip(reason)

    def search(vectors, codebook):
        return nearest_codes(vectors.to(device), codebook.to(device), backend=backend).cpu()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "_TILE", tile)
        patch.setattr(products, "_CPU_TILE", tile)
        patch.setattr(flat_faiss, "_CODES", tile)
        yield search


def squared_distances(vectors, codebook):
    """All of them, by definition, in float64: [N, K]."""
    return (vectors.double()[:, None] - codebook.double()[None]).square().sum(dim=2)


def assert_nearest(vectors, codebook, indices, centre=0.0):
    """Check that each distance is the smallest up to float32 rounding.

    |z|^2 - 2 z e + |e|^2 is summed in float32: 2 D + 2 operations on numbers that |z|^2 + |e|^2 bounds, each
    off by half an epsilon at most, and twice that for the two distances that are compared. A common offset
    (`centre`) must not count.
    """
    distances = squared_distances(vectors, codebook)
    excess = distances.gather(1, indices[:, None])[:, 0] - distances.min(dim=1).values
    sizes = [(array.double() - centre).square().sum(dim=1).max() for array in (vectors, codebook)]
    assert indices.dtype == torch.int64
    assert float(excess.max()) <= (2 * vectors.shape[1] + 2) * EPSILON * float(sum(sizes))


def lattice(generator, *shape, reach=3):
    """Integers, between which float32 makes no error, as floats."""
    return torch.randint(-reach, reach + 1, shape, generator=generator).float()


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@st.composite
def problems(draw, elements):
    dim = draw(st.integers(1, 9))
    rows = st.tuples(st.integers(1, 45), st.integers(1, 30))
    count, size = draw(rows)
    arrays = (hnp.arrays(np.float32, (length, dim), elements=elements) for length in (count, size))
    return tuple(torch.from_numpy(draw(array)) for array in arrays)


@PATHS
@settings(max_examples=60, deadline=None)
@given(problem=problems(st.floats(-1e3, 1e3, width=32)))
def test_distance_is_the_smallest(path, problem):
    with searching(path) as search:
        assert_nearest(*problem, search(*problem))


@PATHS
@settings(max_examples=100, deadline=None)
@given(problem=problems(st.integers(-3, 3)), offset=st.sampled_from([0, 40, -1000]))
def test_exact_ties_go_to_the_lowest_index(path, problem, offset):
    vectors, codebook = (array + offset for array in problem)
    with searching(path) as search:
        indices = search(vectors, codebook)
    # numpy's argmin returns the first minimum, and the distances of integers are exact.
    assert indices.tolist() == squared_distances(vectors, codebook).numpy().argmin(axis=1).tolist()


@pytest.mark.slow
@PATHS
@pytest.mark.parametrize("dim", [1, 3, 16, 17, 64])
@pytest.mark.parametrize("size", [2, 100, 1025, 3001])
@pytest.mark.parametrize("count", [1, 19, 20, 600])
def test_exact_ties_at_sizes_that_switch_kernels(path, dim, size, count):
    generator = rng(dim * size + count)
    vectors, codebook = lattice(generator, count, dim) + 500, lattice(generator, size, dim) + 500
    with searching(path, tile=1 << 14) as search:
        indices = search(vectors, codebook)
    assert torch.equal(indices, squared_distances(vectors, codebook).argmin(dim=1))


@pytest.mark.parametrize(
    ("path", "dim"),
    [
        *((path, dim) for path in compiled.KERNELS for dim in (1, 4, 16, 100)),
        *(("faiss", dim) for dim in (1, 4, 7, 16)),
        *(("convolution", dim) for dim in (1, 16, 64, 100)),
    ],
)
@pytest.mark.parametrize("size", [2, 5, 1025, 3001])
def test_of_equal_codes_the_first_is_returned(path, dim, size, normal):
    # With values that round, so that equal codes must get bitwise equal distances. Matrix products are left
    # out, torch's and FAISS' above its fused kernels: they treat a matrix' edge differently from its inside.
    different = normal(max(1, size // 2), dim)
    codebook = torch.cat([different] * 3)[:size]
    for count in (1, 7, 8, 19, 20, 600, 5000):
        with searching(path, tile=1 << 14) as search:
            indices = search(normal(count, dim, purpose=1), codebook)
        assert int(indices.max()) < len(different)


@PATHS
@settings(max_examples=60, deadline=None)
@given(problem=problems(st.integers(-3, 3)), exponent=st.integers(-149, 120))
def test_powers_of_two_change_nothing(path, problem, exponent):
    # From denormals (2^-149 is the smallest float32) to where squares overflow: ties must stay ties.
    vectors, codebook = ((array.double() * 2.0**exponent).float() for array in problem)
    with searching(path) as search:
        indices = search(vectors, codebook)
    assert indices.tolist() == squared_distances(*problem).numpy().argmin(axis=1).tolist()


@PATHS
@pytest.mark.parametrize("scale", [1e-45, 1e-38, 1e-25, 1e-12, 1.0, 1e12, 1e20, 1e37])
def test_norms_at_the_edges_of_float32(path, scale, normal):
    codebook = normal(50, 6).double() * scale
    vectors = normal(300, 6, purpose=1).double() * scale
    vectors, codebook = vectors.float(), codebook.float()
    with searching(path) as search:
        indices = search(vectors, codebook)
    # The reference must not underflow either.
    assert_nearest(vectors.double() / scale, codebook.double() / scale, indices)


@PATHS
@pytest.mark.parametrize("stray", [1e13, 1e20, 1e30])
@pytest.mark.parametrize("in_codebook", [True, False])
def test_a_stray_huge_row_does_not_drown_the_others(path, stray, in_codebook, normal):
    codebook, vectors = normal(40, 5), normal(200, 5, purpose=1)
    expected = squared_distances(vectors, codebook).argmin(dim=1)
    huge = torch.full((1, 5), stray)
    with searching(path) as search:
        if in_codebook:
            indices = search(vectors, torch.cat([codebook, huge]))
        else:
            indices = search(torch.cat([vectors, huge]), codebook)[:-1]
    assert torch.equal(indices, expected)


@PATHS
@pytest.mark.parametrize("offset", [1e4, -1e4, 3e7])
@pytest.mark.parametrize("dim", [1, 8])
def test_a_common_offset_costs_no_precision(path, offset, dim, normal):
    # float32 is spaced by 1e-3 at 1e4 and by 2 at 3e7: there the noise itself is on that raster.
    noise = 3.0 * torch.finfo(torch.float32).eps * abs(offset)
    codebook = offset + noise * normal(64, dim)
    vectors = offset + noise * normal(500, dim, purpose=1)
    with searching(path) as search:
        assert_nearest(vectors, codebook, search(vectors, codebook), centre=offset)


@PATHS
def test_an_offset_of_one_coordinate_costs_the_others_no_precision(path, normal):
    codebook, vectors = normal(64, 4), normal(500, 4, purpose=1)
    offset = torch.tensor([0.0, 3e4, 0.0, -2e3])
    with searching(path) as search:
        indices = search(vectors + offset, codebook + offset)
    assert_nearest(vectors + offset, codebook + offset, indices, centre=offset)


@PATHS
@pytest.mark.parametrize(("count", "size", "dim"), [(5, 1, 3), (1, 5, 3), (5, 4, 1), (1, 1, 1), (0, 4, 3)])
def test_smallest_shapes(path, count, size, dim, normal):
    vectors, codebook = normal(count, dim), normal(size, dim, purpose=1)
    with searching(path) as search:
        indices = search(vectors, codebook)
    assert indices.dtype == torch.int64
    assert indices.tolist() == squared_distances(vectors, codebook).argmin(dim=1).tolist()


@PATHS
def test_codebook_of_several_tiles(path):
    # More codes than a tile has columns, 16,384; the nearest are in the second tile, then in both.
    half, vectors = lattice(rng(), 10_000, 2, reach=40), lattice(rng(1), 40, 2, reach=40)
    expected = squared_distances(vectors, half).argmin(dim=1)
    with searching(path, tile=1 << 17) as search:
        indices = search(vectors, torch.cat([half + 100, half]))
        indices_twice = search(vectors, torch.cat([half, half]))
    assert torch.equal(indices, expected + 10_000)
    assert torch.equal(indices_twice, expected)


def test_a_bound_of_faiss_is_put_back_however_searches_overlap(normal, monkeypatch):
    import faiss

    # The bound is a global, and another thread may search meanwhile.
    bound = "distance_compute_blas_threshold"
    monkeypatch.setattr(faiss.cvar, bound, 4321)
    seen = []

    def knn(vectors, codes, count, whole=faiss.knn):
        seen.append(getattr(faiss.cvar, bound))
        if len(seen) < 3:
            with ThreadPoolExecutor(1) as pool:
                arrays = torch.from_numpy(vectors), torch.from_numpy(codes)
                pool.submit(nearest_codes, *arrays, backend="faiss").result()
            assert getattr(faiss.cvar, bound) == 1  # the inner search is over, the outer one is not
        return whole(vectors, codes, count)

    monkeypatch.setattr(faiss, "knn", knn)
    nearest_codes(normal(20, 4), normal(6, 4, purpose=1), backend="faiss")
    assert seen == [1, 1, 1]
    assert getattr(faiss.cvar, bound) == 4321
    with pytest.raises(NonFiniteError):
        nearest_codes(normal(20, 4), torch.full((6, 4), torch.nan), backend="faiss")
    monkeypatch.setattr(faiss, "knn", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        nearest_codes(normal(20, 4), normal(6, 4, purpose=1), backend="faiss")
    assert getattr(faiss.cvar, bound) == 4321


@PATHS
def test_strides_do_not_matter(path, normal):
    vectors, codebook = normal(30, 6), normal(20, 6, purpose=1)
    with searching(path) as search:
        expected = search(vectors, codebook)
        transposed = search(vectors.T.contiguous().T, codebook.T.contiguous().T)
        sliced = search(
            vectors.repeat_interleave(2, dim=0)[::2], codebook.repeat_interleave(3, dim=1)[:, ::3]
        )
        expanded = search(vectors[:1].expand(30, 6), codebook)
    assert torch.equal(transposed, expected)
    assert torch.equal(sliced, expected)
    assert torch.equal(expanded, expected[:1].expand(30))


@PATHS
def test_inputs_with_gradients_are_left_alone(path, normal):
    vectors, codebook = normal(30, 6).requires_grad_(), torch.nn.Parameter(normal(20, 6, purpose=1))
    with searching(path) as search:
        indices = search(vectors, codebook)
    assert not indices.requires_grad
    assert vectors.grad is None
    assert torch.equal(vectors.detach(), normal(30, 6))
    assert torch.equal(codebook.detach(), normal(20, 6, purpose=1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_other_floating_types_are_converted(dtype, normal):
    vectors, codebook = normal(200, 6, dtype=dtype), normal(50, 6, purpose=1, dtype=dtype)
    expected = nearest_codes(vectors.float(), codebook.float())
    assert torch.equal(nearest_codes(vectors, codebook), expected)
    assert_nearest(vectors.float(), codebook.float(), expected)


@PATHS
def test_autocast_has_no_effect(path, normal):
    vectors, codebook = normal(500, 16), normal(300, 16, purpose=1)
    with searching(path, tile=1 << 14) as search:
        expected = search(vectors, codebook)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            indices = search(vectors, codebook)
    assert torch.equal(indices, expected)


@PATHS
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", ["vectors", "codebook"])
def test_what_is_not_finite_is_refused(path, value, where, normal):
    arrays = {"vectors": normal(30, 4), "codebook": normal(8, 4, purpose=1)}
    arrays[where][5, 2] = value
    with searching(path) as search, pytest.raises(NonFiniteError, match=where):
        search(**arrays)


@pytest.mark.parametrize(
    ("vectors", "codebook"), [((3,), (2, 3)), ((3, 2), (2, 3)), ((1, 3, 2), (4, 2)), ((3, 2), (0, 2))]
)
@pytest.mark.usefixtures("unchecked")
def test_shapes_that_do_not_fit_are_named(vectors, codebook):
    with pytest.raises(FlatvqError, match=r"\[") as caught:
        nearest_codes(torch.zeros(vectors), torch.zeros(codebook))
    assert str(list(vectors if codebook[0] else codebook)) in str(caught.value)


@pytest.mark.parametrize("path", ["convolution", "product"])
def test_no_tensor_is_larger_than_the_inputs_or_a_tile(path, normal):
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else (result,):
                if isinstance(tensor, torch.Tensor):
                    self.numel = max(self.numel, tensor.numel())
            return result

    vectors, codebook = normal(4000, 4), normal(1000, 4, purpose=1)
    with searching(path, tile=20_480) as search, Largest() as seen, warnings.catch_warnings():
        search(vectors, codebook)
    # 1000 codes are filled up to 1024.
    assert seen.numel == 20_480 < 4000 * 1000


def test_convolutions_that_may_round_are_not_used(normal, monkeypatch):
    monkeypatch.setenv("FLATVQ_NATIVE", "0")
    vectors, codebook = normal(2000, 64), normal(512, 64, purpose=1)
    expected = nearest_codes(vectors, codebook)
    convolutions = torch.backends.mkldnn.conv
    before = convolutions.fp32_precision
    convolutions.fp32_precision = "bf16"
    try:
        assert torch.equal(nearest_codes(vectors, codebook), expected)
        with pytest.raises(FlatvqError, match="set to round to bf16"):
            nearest_codes(vectors, codebook, backend="convolution")
    finally:
        convolutions.fp32_precision = before
    assert_nearest(vectors, codebook, expected)


@pytest.mark.parametrize(
    ("device", "dim", "expected"),
    [
        ("cpu", 4, "faiss"),
        ("cpu", 256, "convolution"),
        ("meta", 4, "product"),
        ("cuda", 4, "product"),
    ],
)
def test_without_compiled_code_the_rule_chooses(device, dim, expected, monkeypatch):
    monkeypatch.setenv("FLATVQ_NATIVE", "0")
    assert backend_for(torch.device(device), dim) == expected
    assert device == "meta" or "because FLATVQ_NATIVE=0" in status(device)


def test_a_backend_that_cannot_run_is_refused(normal):
    with pytest.raises(FlatvqError, match=r"'triton' cannot run here: .*use one of .*faiss"):
        nearest_codes(normal(3, 2), normal(4, 2), backend="triton")
    with pytest.raises(FlatvqError, match="no search backend 'fais': did you mean 'faiss'"):
        nearest_codes(normal(3, 2), normal(4, 2), backend="fais")
