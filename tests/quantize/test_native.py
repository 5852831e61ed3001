"""The compiled search: that it is there, that it can be absent, and that its bits depend on nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from flatvq.errors import FlatvqError
from flatvq.quantize import native, nearest_codes, search

pytestmark = pytest.mark.slow

VARIANTS = pytest.mark.parametrize("variant", native.variants())


@pytest.fixture
def hair_s_breadth(normal):
    """Vectors, and codes so close to one another that rounding alone decides which of them is nearest."""
    codes = 1 + 1e-6 * normal(500, 24)
    return normal(997, 24, purpose=1), codes


@pytest.fixture
def anew(monkeypatch):
    """As if nothing were known yet of what is there."""
    known = (native._loaded, native._names, native.variants, native.instructions)
    for function in known:
        function.cache_clear()
    yield
    monkeypatch.undo()
    for function in known:
        function.cache_clear()


@pytest.fixture
def absent(anew, monkeypatch, tmp_path):
    """As if it could not be built."""
    monkeypatch.setattr(native, "_LIBRARY", tmp_path / "nothing.so")


def test_it_was_built_where_it_can_be():
    info = Path("/proc/cpuinfo")
    flags = info.read_text().split() if info.exists() else []
    if not shutil.which("g++") or "fma" not in flags or "avx2" not in flags:
        pytest.skip("no C++ compiler here, or a processor without fused multiply-adds")
    assert native.instructions() == ("AVX-512" if "avx512f" in flags else "AVX2")
    assert native.variants()[-1] == "portable"


@VARIANTS
def test_neither_batch_nor_place_nor_threads_change_a_bit(variant, hair_s_breadth):
    vectors, codes = hair_s_breadth
    whole = native.search_native(vectors, codes, variant).indices
    assert len(whole.unique()) > 50  # so that there is something to be got wrong
    for size in (1, 5, 8, 100):
        parts = [native.search_native(part, codes, variant).indices for part in vectors.split(size)]
        assert torch.equal(torch.cat(parts), whole)
    far = torch.full((1, 24), 1e6)
    for before in (1, 7, 16, 77):  # so that codes move to other lanes, registers and panels
        among = torch.cat([far.expand(before, -1), codes, far])
        assert torch.equal(native.search_native(vectors, among, variant).indices - before, whole)
    usual = torch.get_num_threads()
    for threads in (2, 3):
        torch.set_num_threads(threads)
        try:
            assert torch.equal(native.search_native(vectors, codes, variant).indices, whole)
        finally:
            torch.set_num_threads(usual)


@pytest.mark.parametrize("variant", [variant for variant in native.variants() if variant != "portable"])
def test_a_score_is_one_chain_of_fused_multiply_adds(variant, hair_s_breadth):
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
    found = native.search_native(*hair_s_breadth, variant).indices
    assert found.tolist() == scores.argmax(axis=1).tolist()


@pytest.mark.skipif(len(native.variants()) < 2, reason="the processor runs one variant")
def test_neither_the_width_of_registers_nor_screening_changes_a_bit(hair_s_breadth):
    # The portable variant may round twice where the others do once.
    first, *others = native.variants()[:-1]
    for variant in others:
        found = [native.search_native(*hair_s_breadth, each).indices for each in (first, variant)]
        assert torch.equal(*found)


@VARIANTS
def test_codes_beyond_a_core_s_cache_are_searched_in_parts(variant):
    # 40,000 x 16 numbers are five parts; integers, so that brute force in float64 knows ties too.
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(-2, 3, (40_000, 16), generator=generator).float()
    vectors = torch.randint(-2, 3, (150, 16), generator=generator).float()
    found = native.search_native(vectors, codes, variant).indices
    distances = (vectors.double()[:, None] - codes.double()[None]).square().sum(dim=2)
    assert torch.equal(found, distances.argmin(dim=1))
    assert int(found.max()) > 20_000


@pytest.mark.usefixtures("absent")
def test_without_it_the_search_is_the_same(normal):
    assert native.instructions() == ""
    assert native.variants() == ()
    for dim in (4, 40):
        vectors, codes = normal(200, dim), normal(50, dim, purpose=1)
        assert torch.equal(nearest_codes(vectors, codes), torch.cdist(vectors, codes).argmin(dim=1))


@pytest.mark.usefixtures("anew")
def test_it_can_be_turned_off(monkeypatch, normal):
    monkeypatch.setenv("FLATVQ_NATIVE", "0")
    monkeypatch.setattr(search, "search_native", lambda *arrays: pytest.fail("it was to be off"))
    assert native.instructions() == ""
    assert len(nearest_codes(normal(20, 4), normal(6, 4, purpose=1))) == 20


def test_too_little_memory_is_one_clear_error(monkeypatch, normal):
    full = SimpleNamespace(flatvq_nearest=lambda *arguments: -1)
    monkeypatch.setattr(native, "_loaded", lambda: full)
    with pytest.raises(FlatvqError, match=r"\[6, 4\]"):
        native.search_native(normal(20, 4), normal(6, 4, purpose=1))


@pytest.mark.skipif(not native.instructions(), reason="the compiled search is not there")
def test_it_shares_torch_s_threads():
    # A second pool of threads would fight with torch's for the cores.
    code = (
        "import torch; from flatvq.quantize import native; native.instructions()\n"
        "mapped = {line.split()[-1] for line in open('/proc/self/maps') if 'omp' in line}\n"
        "print([path for path in mapped if '/torch/' not in path and '/faiss' not in path])"
    )
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    printed = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
    assert printed.strip() == "[]"
