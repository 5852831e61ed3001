"""The compiled search: its build, its absence, and results that depend on nothing but the values."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from flatvq.errors import FlatvqError
from flatvq.nearest import availability, backend_for, compiled, nearest_codes, status

pytestmark = pytest.mark.processes


def indices_of(vectors, codes, kernels, method="automatic"):
    return compiled.search_within_range(vectors, codes, kernels, method=method)[0].indices


@pytest.fixture
def hair_s_breadth(normal):
    """Vectors, and codes so close to one another that rounding alone decides which of them is nearest."""
    codes = 1 + 1e-6 * normal(500, 24)
    return normal(997, 24, purpose=1), codes


@pytest.fixture
def not_built(monkeypatch):
    """As if the extension could not be imported."""
    monkeypatch.setattr(availability, "BUILD_ERROR", "no module named _native")
    monkeypatch.setattr(compiled, "BUILD_ERROR", "no module named _native")
    compiled.missing.cache_clear()
    availability.warn_of_missing_build.cache_clear()
    yield
    compiled.missing.cache_clear()
    availability.warn_of_missing_build.cache_clear()


def test_it_was_built_where_it_can_be():
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split() if info.exists() else []
    if not shutil.which("g++") or "fma" not in flags or "avx2" not in flags:
        pytest.skip("no C++ compiler here, or a processor without fused multiply-adds")
    expected = "avx512" if "avx512f" in flags else "avx2"
    assert backend_for(torch.device("cpu"), 8) == expected
    assert status() == f"flatvq's, {expected}"
    assert not compiled.missing("baseline")


def test_freed_memory_is_refused(kernels, method, normal):
    """FSDP frees the parameters of a module outside of its forward pass."""
    vectors, codes = normal(64, 4), normal(16, 4, purpose=1)
    codes.untyped_storage().resize_(0)
    with pytest.raises(FlatvqError, match=r"the memory of a tensor of shape \[16, 4\] was freed"):
        indices_of(vectors, codes, kernels, method)
    with pytest.raises(FlatvqError, match="was freed"):
        compiled.code_medians(codes, kernels)


def test_neither_batch_nor_place_nor_threads_change_a_bit(kernels, method, hair_s_breadth):
    vectors, codes = hair_s_breadth
    whole = indices_of(vectors, codes, kernels, method)
    assert len(whole.unique()) > 50  # so that there is something to be got wrong
    for size in (1, 5, 8, 100):
        parts = [indices_of(part, codes, kernels, method) for part in vectors.split(size)]
        assert torch.equal(torch.cat(parts), whole)
    far = torch.full((1, 24), 1e6)
    for before in (1, 7, 16, 77):  # so that codes move to other lanes, registers and panels
        among = torch.cat([far.expand(before, -1), codes, far])
        assert torch.equal(indices_of(vectors, among, kernels, method) - before, whole)
    usual = torch.get_num_threads()
    for threads in (2, 3):
        torch.set_num_threads(threads)
        try:
            assert torch.equal(indices_of(vectors, codes, kernels, method), whole)
        finally:
            torch.set_num_threads(usual)


def test_a_score_is_one_chain_of_fused_multiply_adds(kernels, method, hair_s_breadth):
    if kernels == "baseline":
        pytest.skip("without fused multiply-adds a product is rounded")
    vectors, codes = (array.numpy() for array in hair_s_breadth)
    wide = codes.astype(np.float64)
    squares = np.zeros(len(codes))
    for column in wide.T:
        squares += column**2
    scores = np.tile((squares / -2).astype(np.float32), (len(vectors), 1))
    # The product of two float32 is exact in float64: what is rounded to float32 is rounded once.
    for ours, theirs in zip(vectors.T, wide.T, strict=True):
        scores = (np.outer(ours.astype(np.float64), theirs) + scores).astype(np.float32)
    tied = (scores == scores.max(axis=1, keepdims=True)).sum(axis=1) > 1
    assert tied.any()  # and then the first of them has to be found
    indices = indices_of(*hair_s_breadth, kernels, method)
    assert indices.tolist() == scores.argmax(axis=1).tolist()


def test_the_width_of_registers_changes_no_bit(method, hair_s_breadth):
    # The baseline may round twice where the others round once.
    if reason := compiled.missing("avx512") or compiled.missing("avx2"):
        pytest.skip(reason)
    wide, narrow = (indices_of(*hair_s_breadth, kernels, method) for kernels in ("avx512", "avx2"))
    assert torch.equal(wide, narrow)


def test_codes_beyond_a_core_s_cache_are_searched_in_parts(kernels, method):
    # 40,000 x 16 numbers are five parts; integers, so that brute force in float64 knows ties too.
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(-2, 3, (40_000, 16), generator=generator).float()
    vectors = torch.randint(-2, 3, (150, 16), generator=generator).float()
    indices = indices_of(vectors, codes, kernels, method)
    distances = (vectors.double()[:, None] - codes.double()[None]).square().sum(dim=2)
    assert torch.equal(indices, distances.argmin(dim=1))
    assert int(indices.max()) > 20_000


@pytest.mark.usefixtures("not_built")
def test_a_missing_build_is_reported_once_and_the_search_is_the_same(normal):
    with pytest.warns(RuntimeWarning, match="no module named _native"):
        nearest_codes(normal(3, 4), normal(2, 4))
    for dim in (4, 40):  # and a second warning would be an error
        vectors, codes = normal(200, dim), normal(50, dim, purpose=1)
        assert torch.equal(nearest_codes(vectors, codes), torch.cdist(vectors, codes).argmin(dim=1))
    assert "FAISS and oneDNN" in status()
    assert "no module named _native" in status()


@pytest.mark.usefixtures("not_built")
def test_who_switches_it_off_is_not_warned(monkeypatch, normal):
    monkeypatch.setenv("FLATVQ_NATIVE", "0")
    assert len(nearest_codes(normal(20, 4), normal(6, 4, purpose=1))) == 20


def test_an_extension_that_fails_to_load_is_reported():
    code = (
        "import sys, warnings; sys.modules['flatvq.nearest._native'] = None\n"
        "import torch; from flatvq.nearest import nearest_codes\n"
        "print(nearest_codes(torch.eye(3), torch.eye(3)).tolist())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[0, 1, 2]"
    assert "compiled search is not available" in done.stderr


def test_it_can_be_switched_off(monkeypatch, normal):
    monkeypatch.setenv("FLATVQ_NATIVE", "0")
    assert backend_for(torch.device("cpu"), 4) == "faiss"
    assert "FLATVQ_NATIVE=0" in status()


def test_too_little_memory_is_one_clear_error(monkeypatch, normal, fastest):
    def full(*arguments):
        raise MemoryError

    monkeypatch.setattr(compiled, "_native", SimpleNamespace(search=full, Matrix=compiled._native.Matrix))
    with pytest.raises(FlatvqError, match=r"\[6, 4\]"):
        indices_of(normal(20, 4), normal(6, 4, purpose=1), fastest)


def test_arrays_that_the_search_would_misread_are_refused(normal, fastest):
    with pytest.raises(TypeError, match="float64"):
        indices_of(normal(20, 4).double(), normal(6, 4), fastest)


def test_threads_that_search_at_once(normal, fastest):
    vectors = normal(600, 8)
    codebooks = [normal(700, 8, purpose=purpose) for purpose in range(1, 6)]
    expected = [indices_of(vectors, codes, fastest) for codes in codebooks]
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda turn: indices_of(vectors, codebooks[turn % 5], fastest), range(200)))
    assert all(torch.equal(result, expected[turn % 5]) for turn, result in enumerate(results))


@pytest.mark.usefixtures("fastest")
def test_it_shares_torch_s_threads():
    # A second pool of threads would fight with torch's for the cores.
    code = (
        "import torch; from flatvq.nearest import _native\n"
        "mapped = {line.split()[-1] for line in open('/proc/self/maps') if 'omp' in line}\n"
        "print([path for path in mapped if '/torch/' not in path and '/faiss' not in path])"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
    assert printed.strip() == "[]"
