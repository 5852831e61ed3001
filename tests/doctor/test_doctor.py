"""Planted faults are found, and healthy codebooks are not flagged. Files of other libraries are read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

import flatvq
from flatvq.data import evaluation_crops, open_data
from flatvq.doctor import examine, examine_codebook, examine_indices, read_codebooks, read_indices
from flatvq.errors import FlatvqError
from flatvq.quantize import DeadCodeReplacement, VectorQuantizer, code_usage
from flatvq.recipe import TrialRecipe, parse
from flatvq.train import run_trial

MODELS = sorted((Path(__file__).parents[2] / "results" / "headline" / "models").glob("*/model.safetensors"))
K, D = 256, 8


class Dark(flatvq.Tokenizer):
    """Stores the red of each pixel in 16 steps."""

    levels = (flatvq.TokenizerLevel(codebook_size=16, factor=1),)

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        return ((images[:, 0] * 15.9).long(),)

    def decode(self, indices: Any) -> Tensor:
        raise NotImplementedError

    def inference_tensors(self) -> dict[str, Tensor]:
        return {}


def codes(seed: int = 0) -> Tensor:
    return torch.randn(K, D, generator=torch.Generator().manual_seed(seed))


def kinds(path: Path, *others: Path) -> list[str]:
    return [fault.kind for one in examine([path, *others]).diagnoses for fault in one.findings]


def saved(folder: Path, vectors: Tensor, counts: Tensor | None = None, name: str = "a") -> Path:
    tensors = {"quantizer.codebook.weight": vectors.contiguous()}
    if counts is not None:
        tensors["quantizer.codebook.counts"] = counts
    save_file(tensors, folder / f"{name}.safetensors")
    return folder / f"{name}.safetensors"


def test_a_healthy_codebook_is_not_flagged(tmp_path: Path) -> None:
    assert kinds(saved(tmp_path, codes(), torch.rand(K) + 0.5)) == []


def test_a_trained_codebook_is_not_flagged(tmp_path: Path) -> None:
    quantizer = VectorQuantizer(64, 4, replacement=DeadCodeReplacement(every=5, stop=100))
    random = torch.Generator().manual_seed(0)
    for _ in range(150):
        quantizer(torch.randn(2048, 4, generator=random))
    torch.save(
        {"state_dict": {"model.quantize." + k: v for k, v in quantizer.state_dict().items()}},
        tmp_path / "a.pt",
    )
    (diagnosis,) = examine([tmp_path / "a.pt"]).diagnoses
    assert diagnosis.healthy
    assert diagnosis.numbers["used_codes"] == 64
    assert 5 < diagnosis.numbers["effective_bits"] <= 6


def test_a_run_is_examined_by_its_weights_not_by_its_list_of_images(tmp_path: Path) -> None:
    pq.write_table(pa.table({"name": ["a.png"], "width": [64]}), tmp_path / "images.parquet")
    for step in ("step-00000100", "step-00000200"):
        (tmp_path / "checkpoints" / step).mkdir(parents=True)
    latest = tmp_path / "checkpoints" / "step-00000200" / "model.safetensors"
    saved(latest.parent, codes()).rename(latest)
    (diagnosis,) = examine([tmp_path]).diagnoses
    assert diagnosis.numbers["codebook_size"] == K
    (tmp_path / "model").mkdir()
    saved(tmp_path / "model", codes()[:64]).rename(tmp_path / "model" / "model.safetensors")
    (diagnosis,) = examine([tmp_path]).diagnoses
    assert diagnosis.numbers["codebook_size"] == 64


def test_a_codebook_without_initialization_is_reported(tmp_path: Path) -> None:
    quantizer = VectorQuantizer(16, 4)
    torch.save({"vq." + k: v for k, v in quantizer.state_dict().items()}, tmp_path / "a.pt")
    assert kinds(tmp_path / "a.pt") == ["uninitialized"]
    quantizer(torch.randn(512, 4, generator=torch.Generator().manual_seed(0)))
    torch.save({"vq." + k: v for k, v in quantizer.state_dict().items()}, tmp_path / "b.pt")
    assert "uninitialized" not in kinds(tmp_path / "b.pt")


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.parent.name)
def test_the_committed_tokenizers_are_read(path: Path) -> None:
    diagnoses = examine([path.parent]).diagnoses
    # The top of this one has a perplexity of 57 of 512 codes.
    healthy = [True, False] if path.parent.name == "conditioned-seed-1002" else [True] * len(diagnoses)
    assert [one.healthy for one in diagnoses] == healthy
    assert len(diagnoses) in (1, 2)


def test_a_few_outliers_of_the_norm_are_not_a_fault(tmp_path: Path) -> None:
    vectors = codes()
    vectors[0] *= 15
    assert kinds(saved(tmp_path, vectors, torch.ones(K))) == []


def dead(vectors: Tensor) -> tuple[Tensor, Tensor]:
    counts = torch.ones(K)
    counts[: K // 4] = 1e-5
    return vectors, counts


def collapsed(vectors: Tensor) -> tuple[Tensor, Tensor]:
    counts = torch.full((K,), 1e-6)
    counts[:2] = 100.0
    return vectors, counts


def duplicated(vectors: Tensor) -> tuple[Tensor, Tensor]:
    vectors[7] = vectors[200]
    return vectors, torch.ones(K)


def jittered(vectors: Tensor) -> tuple[Tensor, Tensor]:
    vectors[: K // 8] = vectors[K // 8 : K // 4] + 1e-4
    return vectors, torch.ones(K)


def pairs(vectors: Tensor) -> tuple[Tensor, Tensor]:
    vectors[K // 2 :] = vectors[: K // 2] + 1e-4  # the median distance is that between the two of a pair
    return vectors, torch.ones(K)


def copies(vectors: Tensor) -> tuple[Tensor, Tensor]:
    noise = torch.randn(K, D, generator=torch.Generator().manual_seed(1))
    return vectors[: K // 32].repeat(32, 1) + 1e-4 * noise, torch.ones(K)


def use_of(value: float) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    def plant(vectors: Tensor) -> tuple[Tensor, Tensor]:
        counts = torch.ones(K)
        counts[9] = value
        return vectors, counts

    return plant


def far(vectors: Tensor) -> tuple[Tensor, Tensor]:
    vectors[3] *= 1000
    return vectors, torch.ones(K)


def many_far(vectors: Tensor) -> tuple[Tensor, Tensor]:
    vectors[: K // 50] *= 15
    return vectors, torch.ones(K)


def broken(vectors: Tensor) -> tuple[Tensor, Tensor]:
    vectors[3, 2] = torch.nan
    return vectors, torch.ones(K)


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (dead, ["dead"]),
        (collapsed, ["collapsed", "dead"]),
        (duplicated, ["duplicates"]),
        (jittered, ["near-duplicates"]),
        (far, ["norms"]),
        (many_far, ["norms"]),
        (broken, ["non-finite"]),
        (pairs, ["near-duplicates"]),
        (copies, ["near-duplicates"]),
        (use_of(torch.nan), ["non-finite"]),
        (use_of(torch.inf), ["non-finite"]),
        (use_of(-1.0), ["non-finite"]),
    ],
)
def test_a_planted_fault_is_found(
    plant: Callable[[Tensor], tuple[Tensor, Tensor]], expected: list[str], tmp_path: Path
) -> None:
    result = examine([saved(tmp_path, *plant(codes()))])
    assert [fault.kind for fault in result.diagnoses[0].findings] == expected
    text = result.to_text()
    for fault in result.diagnoses[0].findings:
        assert f"{fault.kind}: {fault.text}. {fault.advice}" in text
        assert fault.advice.count("\n") == 0


def test_unsynchronized_processes_are_found(tmp_path: Path) -> None:
    other = codes()
    other[5, 1] += 1e-6
    paths = saved(tmp_path, codes(), name="rank0"), saved(tmp_path, other, name="rank1")
    assert kinds(*paths) == ["drift"]
    assert "1 of 256 codes differ" in examine(list(paths)).to_text()
    assert kinds(paths[0], saved(tmp_path, codes(), name="rank2")) == []
    assert kinds(paths[0], saved(tmp_path, codes()[:100], name="rank3")) == ["drift"]


def test_distances_agree_with_brute_force() -> None:
    vectors = codes() + 1000.0  # far from zero, where squares lose digits
    diagnosis = examine_codebook("far", vectors)
    distances = torch.cdist(vectors.double(), vectors.double(), compute_mode="donot_use_mm_for_euclid_dist")
    nearest = distances.fill_diagonal_(torch.inf).min(dim=1).values
    assert diagnosis.numbers["distance_to_nearest_median"] == pytest.approx(
        float(np.median(nearest)), rel=0.02
    )
    assert diagnosis.numbers["distance_to_nearest_smallest"] == pytest.approx(float(nearest.min()), rel=0.1)


def test_the_usage_of_indices_agrees_with_code_usage(tmp_path: Path) -> None:
    indices = np.random.default_rng(0).zipf(1.3, 20_000) % 500
    np.save(tmp_path / "top.npy", indices.reshape(20, 1000).astype(np.uint16))
    (diagnosis,) = examine([tmp_path / "top.npy"], codebook_size=512).diagnoses
    expected = code_usage(torch.from_numpy(np.bincount(indices, minlength=512)))
    assert diagnosis.name == "top"
    assert diagnosis.numbers["used_codes"] == expected.used_codes
    assert diagnosis.numbers["perplexity"] == pytest.approx(expected.perplexity)
    assert diagnosis.numbers["codes_for_99"] == expected.codes_for_99


def test_few_indices_are_not_called_dead_codes() -> None:
    counts = torch.zeros(1024, dtype=torch.int64)
    counts[torch.randperm(1024, generator=torch.Generator().manual_seed(0))[:64]] = 1
    assert examine_indices("an image", counts).healthy


def test_indices_in_parquet_are_read_by_column(tmp_path: Path) -> None:
    rows = [[1, 2, 3, 3], [0, 1]]
    table = pa.table(
        {"key": ["a", "b"], "width": [8, 8], "level_0": rows, "level_1": pa.array([5, 7], pa.int32())}
    )
    pq.write_table(table, tmp_path / "codes-0.parquet")
    pq.write_table(table, tmp_path / "codes-1.parquet")
    for path, times in ((tmp_path / "codes-0.parquet", 1), (tmp_path, 2)):
        levels = read_indices(path, codebook_size=8)
        assert [level.name for level in levels] == ["level_0", "level_1"]
        assert levels[0].counts.tolist() == [times * n for n in (1, 2, 1, 2, 0, 0, 0, 0)]
        assert levels[1].counts.tolist() == [times * n for n in (0, 0, 0, 0, 0, 1, 0, 1)]


def test_the_manifest_of_codes_states_the_size_of_codebooks(tmp_path: Path) -> None:
    """Half of the codes are never used: those above the largest index."""
    (tmp_path / "images").mkdir()
    noise = np.random.default_rng(0).integers(0, 128, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "images" / "noise.png")
    manifest = flatvq.encode_images(Dark(), tmp_path / "images", tmp_path / "codes")
    for path in (tmp_path / "codes", tmp_path / "codes" / manifest.shards[0].name):
        (diagnosis,) = examine([path]).diagnoses
        assert diagnosis.numbers["codebook_size"] == 16
        assert [fault.text for fault in diagnosis.findings] == ["8 of 16 codes are dead (50.0 %)"]
        assert examine([path], codebook_size=8).healthy
    described = json.loads((tmp_path / "codes" / "manifest.json").read_text())
    described["tokenizer"]["levels"][0]["codebook_size"] = 2**32
    (tmp_path / "codes" / "manifest.json").write_text(json.dumps(described))
    with pytest.raises(FlatvqError, match="states a codebook of 4294967296 codes"):
        examine([tmp_path / "codes"])


def test_all_equal_indices_have_zero_bits() -> None:
    diagnosis = examine_indices("level", torch.tensor([1000, 0]))
    assert str(diagnosis.numbers["effective_bits"]) == "0.0"


def test_checkpoints_of_another_library_are_read(tmp_path: Path) -> None:
    peer = pytest.importorskip("vector_quantize_pytorch", reason="the bench extra is not installed")
    quantizer = peer.VectorQuantize(dim=D, codebook_size=32)
    quantizer(torch.randn(4, 64, D, generator=torch.Generator().manual_seed(0)))
    torch.save({"model": {"vq": quantizer.state_dict()}, "step": 3}, tmp_path / "peer.pth")
    (book,) = read_codebooks(tmp_path / "peer.pth")
    assert book.code_vectors.equal(quantizer.codebook.float())
    assert book.counts is not None
    assert book.counts.shape == (32,)


@pytest.mark.parametrize(
    "name", ["quantize.embedding.weight", "vq_model.quantizer.embed", "quantizer._codebook.embed"]
)
def test_the_names_of_other_libraries_are_known(name: str, tmp_path: Path) -> None:
    encoder = {"encoder.conv.weight": torch.randn(8, 3, 3, 3), "token_embedding.weight": torch.randn(9, 9)}
    save_file({**encoder, name: codes()}, tmp_path / "a.safetensors")
    (book,) = read_codebooks(tmp_path / "a.safetensors")
    assert (book.name, book.counts) == (name, None)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"encoder.weight": torch.zeros(3, 3)}, "no tensor of .* is a codebook; it holds encoder.weight"),
        ({}, "it holds no tensors"),
    ],
)
def test_a_file_without_a_codebook_is_refused(
    content: dict[str, Tensor], message: str, tmp_path: Path
) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(FlatvqError, match=message):
        examine([tmp_path / "a.pt"])


def test_codes_in_lumps_are_not_near_duplicates() -> None:
    """Codes follow the density of latents, which differs a thousandfold between parts of the space."""
    random = torch.Generator().manual_seed(0)
    centres, widths = torch.randn(8, D, generator=random), torch.logspace(-2, 0, 8)
    noise = torch.randn(8, 64, D, generator=random)
    vectors = (centres[:, None] + widths[:, None, None] * noise).reshape(-1, D)
    assert examine_codebook("lumps", vectors).healthy


def test_norms_of_tiny_codes_are_not_rounded_to_zero() -> None:
    assert examine_codebook("tiny", 1e-30 * codes()).numbers["norm_smallest"] > 0


def test_several_codebooks_in_one_tensor_are_read(tmp_path: Path) -> None:
    save_file({"quantizer.codebooks": codes().reshape(4, 64, D)}, tmp_path / "a.safetensors")
    books = read_codebooks(tmp_path / "a.safetensors")
    assert [book.name for book in books] == [f"quantizer.codebooks[{number}]" for number in range(4)]
    assert torch.equal(books[3].code_vectors, codes()[192:])


def test_equal_indices_without_a_size_are_a_collapse(tmp_path: Path) -> None:
    zeros = write(tmp_path / "zeros.npy", np.zeros(100, np.uint16))
    assert kinds(zeros) == ["collapsed"]
    assert examine([zeros], codebook_size=1).healthy
    # A single index says nothing.
    assert examine([write(tmp_path / "one.npy", np.array([3]))]).healthy


def test_lists_of_fixed_size_are_read(tmp_path: Path) -> None:
    column = pa.array([[1, 2], [3, 3]], pa.list_(pa.int32(), 2))
    pq.write_table(pa.table({"codes": column}), tmp_path / "a.parquet")
    (level,) = read_indices(tmp_path / "a.parquet")
    assert level.counts.tolist() == [0, 1, 1, 2]


def write(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def test_bad_indices_are_refused_in_one_line(tmp_path: Path) -> None:
    cases = {
        "holds the index -1": np.array([0, -1]),
        "holds the index 9": np.array([0, 9]),
        "has the dtype float64": np.array([0.5]),
        "is empty": np.array([], dtype=np.int64),
    }
    for message, array in cases.items():
        with pytest.raises(FlatvqError, match=message) as error:
            examine([write(tmp_path / "x.npy", array)], codebook_size=8)
        assert "\n" not in str(error.value)
    with pytest.raises(FlatvqError, match="give indices below"):
        examine([write(tmp_path / "x.npy", np.array([2**40]))])


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.parquet", "a.pt", "a.safetensors", "folder"])
def test_damaged_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    else:
        path.write_bytes(b"\x93NUMPY\x01garbage")
    with pytest.raises(FlatvqError) as error:
        examine([path])
    assert "\n" not in str(error.value)
    with pytest.raises(FlatvqError, match="does not exist"):
        examine([tmp_path / f"no-{name}"])


def test_the_command_prints_text_json_and_a_page(tmp_path: Path, run_flatvq) -> None:
    faulty = str(saved(tmp_path, *duplicated(codes())))
    page = tmp_path / "page.html"

    code, text, _ = run_flatvq("doctor", faulty, "--page", page)
    assert code == 1
    assert "2 of 256 codes equal another code" in text
    assert "2 of 256 codes equal another code" in page.read_text()
    code, text, _ = run_flatvq("doctor", faulty, "--json")
    result = json.loads(text)
    assert (code, result["healthy"], result["codebooks"][0]["findings"][0]["kind"]) == (
        1,
        False,
        "duplicates",
    )
    assert run_flatvq("doctor", saved(tmp_path, codes(), name="b"))[0] == 0


def test_a_file_of_another_format_is_named(tmp_path: Path) -> None:
    torch.save({"codebook": codes()}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "picture.pt").write_bytes(b"\x89PNG" + bytes(100))
    for name in ("old.pt", "picture.pt"):
        with pytest.raises(FlatvqError, match=r"not a file that torch\.save of PyTorch 1\.6 or later wrote"):
            examine([tmp_path / name])


def uniform(size: int, dim: int, random: torch.Generator) -> Tensor:
    return 2 * torch.rand(size, dim, generator=random) - 1


def normal(size: int, dim: int, random: torch.Generator) -> Tensor:
    return torch.randn(size, dim, generator=random)


def on_a_sphere(size: int, dim: int, random: torch.Generator) -> Tensor:
    return torch.nn.functional.normalize(torch.randn(size, dim, generator=random), dim=1)


# A sphere of one dimension has only two points.
@pytest.mark.parametrize(
    ("draw", "dim"),
    [
        (draw, dim)
        for draw in (uniform, normal, on_a_sphere)
        for dim in (1, 2, 3, 4, 8)
        if dim > 1 or draw is not on_a_sphere
    ],
)
@pytest.mark.parametrize("size", [4, 16, 64, 256, 1024])
def test_codes_of_few_dimensions_are_healthy_near_the_origin(
    draw: Callable[[int, int, torch.Generator], Tensor], dim: int, size: int
) -> None:
    """In one or two dimensions, many codes of a smooth distribution have small norms and near neighbours."""
    diagnosis = examine_codebook("codebook", draw(size, dim, torch.Generator().manual_seed(size + dim)))
    # In one dimension, draws of float32 may be equal.
    assert [fault.kind for fault in diagnosis.findings if fault.kind != "duplicates"] == []


@pytest.mark.parametrize("dim", [1, 2, 8])
@pytest.mark.parametrize(
    ("plant", "fault"),
    [
        (lambda codes: codes[:64].mul_(1e-3), "norms"),
        (lambda codes: codes[:64].copy_(codes[64:128] + 1e-6), "near-duplicates"),
    ],
)
def test_planted_faults_are_found_in_any_dimension(
    plant: Callable[[Tensor], Tensor], fault: str, dim: int
) -> None:
    vectors = 3 * torch.randn(256, dim, generator=torch.Generator().manual_seed(dim))
    plant(vectors)
    assert fault in [found.kind for found in examine_codebook("codebook", vectors).findings]


def test_equal_codes_far_from_zero_are_found() -> None:
    """Their squares, of 640,000, hide distances of 0.01 in float32."""
    vectors = 100 + 0.01 * torch.randn(1024, 64, generator=torch.Generator().manual_seed(0))
    vectors[:8] = vectors[8:16]
    (fault,) = examine_codebook("codebook", vectors).findings
    assert fault.text == "16 of 1024 codes equal another code"


def test_a_run_without_codebooks_is_examined_by_its_indices(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    random = np.random.default_rng(0)
    for number in range(8):
        Image.fromarray(random.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(images / f"{number}.png")
    tree = {
        "data": {"source": "folder", "path": str(images), "crop": 16, "validation_share": 0.5},
        "model": {
            "width": 8,
            "residual_width": 4,
            "levels": [
                {"downsample": 4, "quantizer": "scalar", "scalar_levels": [4, 4]},
                {"downsample": 2, "quantizer": "lookup-free", "code_dim": 3},
            ],
        },
        "train": {"steps": 2, "batch_size": 2},
        "evaluate": {"samples": 1},
        "seed": 0,
    }
    assert run_trial(parse(TrialRecipe, tree), tmp_path / "run")
    diagnoses = examine([tmp_path / "run"]).diagnoses
    model = flatvq.load(tmp_path / "run")
    crops = evaluation_crops(open_data(parse(TrialRecipe, tree).data).validation, crop=16)
    held_out = torch.stack([torch.from_numpy(crop.pixels).permute(2, 0, 1) / 255 for crop in crops])
    for number, (diagnosis, indices) in enumerate(zip(diagnoses, model.encode(held_out), strict=True)):
        usage = code_usage(indices.flatten().bincount(minlength=(16, 8)[number]))
        assert diagnosis.name == f"level {number}, held-out images"
        assert diagnosis.numbers["indices"] == indices.numel()
        assert diagnosis.numbers["used_codes"] == usage.used_codes
        assert diagnosis.numbers["perplexity"] == pytest.approx(usage.perplexity)
    with pytest.raises(FlatvqError, match="examined by a finished run or by its indices"):
        examine([tmp_path / "run" / "model"])
