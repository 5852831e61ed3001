from __future__ import annotations

import zlib
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.fuzz.mutations import mutated_bytes
from tests.codec.tokenizers import KINDS, image, tokenizer

from flatvq.codec import Codec, load_codec, read_contents
from flatvq.codec.codec import indices_of
from flatvq.codec.container import CodedImage, pack
from flatvq.codec.prior import Prior
from flatvq.codec.storage import Arrays, PriorRecord, build_prior, load_prior, save_prior
from flatvq.codec.training import encode_images, fit_prior
from flatvq.data import load_image, open_data, open_folder
from flatvq.data.types import Pixels
from flatvq.errors import FlatvqError
from flatvq.model import VQVAE, build_vqvae, load_tokenizer, save_tokenizer
from flatvq.recipe import CodebookRecipe, DataRecipe
from flatvq.tokenizers.protocol import Preprocess
from flatvq.tokenizers.vqvae import VQVAETokenizer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PRIORS = ["none", "order-0", "table", "network"]
# Tables and networks refuse more than 65,536 codes: see the test of that.
PAIRS = [
    (kind, prior)
    for kind in KINDS
    for prior in PRIORS
    if kind != "large lookup-free" or prior in ("none", "order-0")
]
SIZES = [(1, 1), (3, 70), (64, 64), (61, 45)]


def fitted(
    model: VQVAE, images: Iterable[Pixels], kind: Any = "table", contexts: int = 256, steps: int = 200
) -> tuple[PriorRecord, Arrays]:
    return fit_prior(model, encode_images(model, images), kind, contexts=contexts, steps=steps)


def prior_of(model: VQVAE, kind: str) -> Prior | None:
    if kind == "none":
        return None
    _, arrays = fitted(model, [image(50, 60, seed) for seed in range(6)], kind, contexts=4, steps=3)
    return build_prior(kind, model.recipe, arrays, "it")


@pytest.mark.parametrize(("kind", "prior"), PAIRS)
def test_an_image_of_any_size_comes_back_as_the_decoder_makes_it(kind: str, prior: str) -> None:
    model = tokenizer(kind)
    codec = Codec(model, prior_of(model, prior))
    for height, width in SIZES:
        original = image(height, width)
        decompressed = codec.decompress(codec.compress(original))
        grids = indices_of(model, original)
        indices = [
            torch.from_numpy(grid.reshape(1, *level.index_shape, *grid.shape[1:]))
            for grid, level in zip(grids, model.recipe.levels, strict=True)
        ]
        with torch.no_grad():
            decoded = model.decode(indices)[0, :, :height, :width].clamp(0, 1)
        expected = np.rint(decoded.permute(1, 2, 0).numpy() * 255)
        assert decompressed.shape == (height, width, model.recipe.channels)
        assert decompressed.dtype == np.uint8
        assert np.abs(decompressed - expected).max() <= 1


@pytest.mark.parametrize("prior", PRIORS)
def test_an_image_of_the_first_code_alone_comes_back(prior: str) -> None:
    model = tokenizer()
    flat = np.full((64, 64, 3), 99, np.uint8)
    fitted_prior = prior_of(model, prior)
    with torch.no_grad():
        model.quantizers[0].codebook.weight[1:] += 1000
    codec = Codec(model, fitted_prior)
    assert not indices_of(model, flat)[0].any()
    assert codec.decompress(codec.compress(flat)).shape == (64, 64, 3)


def test_the_encoder_repeats_the_last_row_and_column() -> None:
    model = tokenizer()
    original = image(61, 45)
    padded = np.pad(original, ((0, 3), (0, 3), (0, 0)), mode="edge")
    assert np.array_equal(indices_of(model, original)[0], indices_of(model, padded)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_prior_files_have_the_nominal_bits(kind: str) -> None:
    model = tokenizer(kind)
    content = Codec(model).compress(image(128, 96))
    nominal = sum(
        level.bits_per_cell * grid[0].size
        for level, grid in zip(model.recipe.levels, indices_of(model, image(128, 96)), strict=True)
    )
    streams = sum(read_contents(BytesIO(content), "it").entries[0].lengths)
    assert nominal - 8 <= 8 * streams <= 1.01 * nominal + 8 * len(model.recipe.levels)
    assert len(content) <= streams + 25 + 2 * len(model.recipe.levels)


def test_an_order_0_prior_codes_at_the_entropy_of_its_counts() -> None:
    model = tokenizer()
    originals = [image(96, 96, seed) for seed in range(3)]
    _, arrays = fitted(model, originals, "order-0")
    codec = Codec(model, build_prior("order-0", model.recipe, arrays, "it"))
    counts = arrays["0.counts"][0].astype(float)
    both = [*originals, *(each[:, ::-1] for each in originals)]
    expected = sum(np.bincount(indices_of(model, each)[0].ravel(), minlength=30) for each in both)
    assert counts.tolist() == expected.tolist()
    strength = float(arrays["0.level_strength"][0])
    probabilities = (counts + strength / 30) / (counts.sum() + strength)
    held_out = image(96, 96, 9)
    bits = -np.log2(probabilities)[indices_of(model, held_out)[0]].sum()
    assert 8 * sum(map(len, codec.to_streams(held_out).streams)) == pytest.approx(bits, abs=9)


def test_priors_save_bits_on_real_photographs() -> None:
    model = tokenizer()
    training = open_data(DataRecipe(crop=64)).training
    photographs = [load_image(training, number)[:96, :96] for number in range(len(training))]
    nominal = Codec(model).compress_collection(("", each) for each in photographs[1::4])
    sizes = {"none": len(nominal)}
    for kind in ("order-0", "table", "network"):
        photographs_fitted = [each for number, each in enumerate(photographs) if number % 4 != 1]
        _, arrays = fitted(model, photographs_fitted, kind, contexts=8)
        codec = Codec(model, build_prior(kind, model.recipe, arrays, "it"))
        sizes[kind] = len(codec.compress_collection(("", each) for each in photographs[1::4]))
    assert sizes["network"] < sizes["table"] < sizes["order-0"] < sizes["none"]


@pytest.mark.slow
def test_priors_save_bits_on_held_out_photographs_of_a_trained_tokenizer(imagenet_sample: Path) -> None:
    model = load_tokenizer(ROOT / "results/evaluation/models/single-seed-10")
    training, held_out = (
        open_folder(imagenet_sample / part, crop=1, resize=96).images for part in ("train", "val")
    )
    images = [("", load_image(held_out, number)) for number in range(0, 100, 10)]
    sizes = {"none": len(Codec(model).compress_collection(images))}
    encoded = encode_images(model, (load_image(training, number) for number in range(0, 700, 10)))
    for kind in ("table", "network"):
        _, arrays = fit_prior(model, encoded, kind, contexts=64, steps=200)
        prior = build_prior(kind, model.recipe, arrays, "it")
        sizes[kind] = len(Codec(model, prior).compress_collection(images))
    assert sizes["table"] < 0.93 * sizes["none"]
    assert sizes["network"] < 0.93 * sizes["table"]


def test_a_collection_holds_names_and_images() -> None:
    codec = Codec(tokenizer("parallel"))
    originals = {"a": image(20, 30), "b/c": image(20, 30, 1), "d": image(9, 9)}
    content = codec.compress_collection(originals.items())
    decompressed = dict(codec.decompress_collection(content))
    assert list(decompressed) == list(originals)
    for name, original in originals.items():
        assert np.array_equal(decompressed[name], codec.decompress(codec.compress(original)))
    with pytest.raises(FlatvqError, match="is a collection"):
        codec.decompress(content)


def test_an_image_is_held_out_at_all_its_sizes() -> None:
    model = tokenizer()
    sides = (32, 33)  # 33 is padded, so each size has other nominal bits per pixel
    images = [image(side, side, number) for number in range(20) for side in sides]
    record, _ = fit_prior(model, encode_images(model, images), "order-0", sizes=2)
    assert (record.images, record.held_out_images) == (36, 4)
    # Numbers 9 and 19, each at both sizes.
    indices = sum(grid.size for side in sides for grid in indices_of(model, image(side, side)))
    sizes = {level.codebook_size for level in model.recipe.levels}
    assert len(sizes) == 1
    nominal = indices * np.log2(sizes.pop()) / sum(side**2 for side in sides)
    assert record.nominal_bits_per_pixel == pytest.approx(nominal)


@pytest.mark.parametrize("kind", ["table", "network"])
def test_a_prior_is_saved_with_its_tokenizer(tmp_path: Path, kind: str) -> None:
    model = tokenizer()
    save_tokenizer(
        tmp_path, model, {"model": model.recipe.model_dump(mode="json"), "codebook": {"metric": "euclidean"}}
    )
    before = load_codec(tmp_path)
    old = before.compress(image(40, 40))
    images = [image(64, 64, seed) for seed in range(30)]
    record, arrays = fitted(load_tokenizer(tmp_path), images, kind, contexts=4, steps=40)
    save_prior(tmp_path, record, arrays)
    assert record.images == 27
    assert record.held_out_images == 3
    codec = load_codec(tmp_path)
    assert codec.prior.kind == kind
    new = codec.compress(image(40, 40))
    assert len(new) < len(old)
    assert np.array_equal(codec.decompress(new), before.decompress(old))
    # Files without a prior stay readable, and can still be written.
    assert np.array_equal(codec.decompress(old), before.decompress(old))
    assert load_codec(tmp_path, prior=False).compress(image(40, 40)) == old
    with pytest.raises(FlatvqError, match=f"needs a prior of kind {kind}"):
        before.decompress(new)
    measured = [Codec(model, codec.prior).to_streams(image(64, 64, seed)).streams for seed in (9, 19, 29)]
    assert record.coded_bits_per_pixel == 8 * sum(len(stream) for (stream,) in measured) / (3 * 64**2)
    assert record.nominal_bits_per_pixel == pytest.approx(np.log2(30) / 16)


def test_another_tokenizer_or_prior_is_refused(tmp_path: Path) -> None:
    first, second = tokenizer(seed=0), tokenizer(seed=1)
    content = Codec(first).compress(image(40, 40))
    with pytest.raises(FlatvqError, match="another tokenizer or prior"):
        Codec(second).decompress(content)
    record, arrays = fitted(first, [image(64, 64)], "order-0")
    save_prior(tmp_path, record, arrays)
    with pytest.raises(FlatvqError, match="belongs to another tokenizer"):
        load_prior(tmp_path, second.recipe, bytes(32))


def test_the_identity_covers_whether_code_vectors_have_unit_length() -> None:
    model, other = (
        build_vqvae(tokenizer().recipe, CodebookRecipe(metric=metric)) for metric in ("euclidean", "cosine")
    )
    other.load_state_dict(model.state_dict())
    assert Codec(model).identity != Codec(other).identity


def test_a_run_and_a_copy_of_its_tokenizer_read_the_same_files() -> None:
    model = tokenizer()
    codec = Codec(VQVAETokenizer(model, Preprocess(resize=96, crop=64), {}))
    assert codec.identity == Codec(model).identity


def test_training_state_does_not_change_the_identity() -> None:
    model = tokenizer()
    before = Codec(model).identity
    model.quantizers[0].codebook.counts += 1
    model.quantizers[0].codebook.step_count += 1
    assert Codec(model).identity == before
    model.quantizers[0].codebook.weight[0, 0] += 1
    assert Codec(model).identity != before


@pytest.mark.parametrize("prior", ["table", "network"])
def test_a_table_or_network_of_a_very_large_codebook_is_refused(prior: str) -> None:
    with pytest.raises(FlatvqError, match=f"a {prior} takes codebooks of at most 65536 codes"):
        fitted(tokenizer("large lookup-free"), [image(20, 20)], prior)


@pytest.mark.parametrize("prior", PRIORS)
def test_a_stream_too_short_for_its_image_is_refused_before_it_is_read(prior: str) -> None:
    model = tokenizer()
    codec = Codec(model, prior_of(model, prior))
    content = pack(codec.prior.kind, codec.identity, [CodedImage(60_000, 1600, (b"short",))], names=None)
    with pytest.raises(FlatvqError, match="too short"):
        codec.decompress(content)


@pytest.mark.parametrize("kind", ["parallel", "residual", "scalar"])
@pytest.mark.parametrize("prior", ["none", "table", "network"])
def test_mutated_files_are_decompressed_or_refused(kind: str, prior: str) -> None:
    model = tokenizer(kind)
    codec = Codec(model, prior_of(model, prior))
    valid = [
        codec.compress(image(24, 30)),
        codec.compress_collection([("a", image(8, 8)), ("b", image(9, 20))]),
    ]
    random = Random(1)
    refused = 0
    for _ in range(150):
        content, other = random.sample(valid, 2)
        mutated = mutated_bytes(content[:-4], other[:-4], random)
        try:
            for _, pixels in codec.decompress_collection(mutated + zlib.crc32(mutated).to_bytes(4, "little")):
                assert pixels.dtype == np.uint8
        except FlatvqError:
            refused += 1
    assert 0 < refused < 150
