"""Fits the prior of a tokenizer to images.

Axes: Q indices of a cell, K codes, D code dim, h w rows and columns of a grid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import log2

import numpy as np
import torch

from flatvq.codec.arrays import Arrays
from flatvq.codec.codec import indices_of
from flatvq.codec.entropy import MOST_SYMBOLS, Integers
from flatvq.codec.fitting import Floats, digit_counts, fit_table, level_strength
from flatvq.codec.identity import tokenizer_digest
from flatvq.codec.network_fitting import STEPS, fit_network
from flatvq.codec.network_storage import network_arrays
from flatvq.codec.prior import FittedKind, Prior
from flatvq.codec.storage import PriorRecord, build_prior
from flatvq.codec.table_storage import table_arrays
from flatvq.data.types import Pixels
from flatvq.errors import FlatvqError
from flatvq.model import VQVAE
from flatvq.quantize import Quantizer
from flatvq.recipe import ModelRecipe

__all__ = ["EncodedImages", "coded_bits_per_image", "encode_images", "fit_prior", "require_small_codebooks"]

# One image in ten is held out to measure the prior, if there are enough images.
_HELD_OUT_EVERY = 10
_FEWEST_IMAGES = 20


@dataclass(frozen=True)
class EncodedImages:
    """The indices of images, to fit priors to."""

    grids: tuple[list[Integers], ...]
    """The indices of each image and each level, bottom first, int64 [Q, h, w]."""
    mirrored: tuple[list[Integers], ...]
    """The indices of the mirror images."""
    pixels: tuple[int, ...]
    """H x W of each image."""


def encode_images(
    model: VQVAE, images: Iterable[Pixels], progress: Callable[[int], None] = lambda done: None
) -> EncodedImages:
    """Encode images and their mirror images.

    Args:
        model: the tokenizer, in eval mode.
        images: uint8 [H, W, 3], of any size. Statistics depend on the scale of images, so they should have
            the size of the images that will be compressed.
        progress: takes the number of images that have been encoded.

    Raises:
        FlatvqError: if there are no images.
    """
    grids, mirrored, pixels = [], [], []
    for number, image in enumerate(images):
        grids.append(indices_of(model, image))
        mirrored.append(indices_of(model, image[:, ::-1]))
        pixels.append(image.shape[0] * image.shape[1])
        progress(number + 1)
    if not grids:
        raise FlatvqError("there are no images to fit a prior to", "give a folder of images")
    return EncodedImages(tuple(grids), tuple(mirrored), tuple(pixels))


def fit_prior(
    model: VQVAE,
    images: EncodedImages,
    kind: FittedKind = "table",
    *,
    contexts: int = 256,
    steps: int = STEPS,
    seed: int = 0,
    sizes: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[PriorRecord, Arrays]:
    """Fit a prior to images and their mirror images.

    If there are at least 20 images, every tenth image is held out at all its sizes, and the prior is measured
    on them.

    Args:
        model: the tokenizer.
        images: the images.
        kind: `order-0`, or `table` or `network` for probabilities that depend on the neighbours.
        contexts: the number of contexts of a table for each kind of pass.
        steps: the largest number of training steps of the network of a level. Few images take fewer.
        seed: the seed of the clusterings, or of the training.
        sizes: the number of neighbours in `images` that are the same image at several sizes.
        progress: takes the training steps of a network that are done, and their number.

    Returns:
        The record and the integers for `flatvq.codec.storage.save_prior`.

    Raises:
        FlatvqError: if the codebook is too large for a table or a network.
    """
    recipe = model.recipe
    held_out = _held_out(len(images.grids), sizes)
    used = [number for number in range(len(images.grids)) if number not in held_out]
    grids = [source[number] for source in (images.grids, images.mirrored) for number in used]
    arrays = _arrays(model, grids, kind, _Settings(contexts, steps, seed, progress))
    prior = build_prior(kind, recipe, arrays, "the prior")
    set_aside = [images.grids[number] for number in sorted(held_out)]
    area = sum(images.pixels[number] for number in held_out)
    record = PriorRecord(
        kind=kind,
        tokenizer=tokenizer_digest(model).hex(),
        digest=prior.digest.hex(),
        images=len(used),
        held_out_images=len(set_aside),
        nominal_bits_per_pixel=_nominal_bits(recipe, set_aside) / area if area else None,
        coded_bits_per_pixel=_coded_bits(prior, set_aside) / area if area else None,
    )
    return record, arrays


def _held_out(count: int, sizes: int) -> set[int]:
    """Return the images that are held out; `sizes` neighbours are the same image at several sizes."""
    if count // sizes < _FEWEST_IMAGES:
        return set()
    return {number for number in range(count) if number // sizes % _HELD_OUT_EVERY == _HELD_OUT_EVERY - 1}


def coded_bits_per_image(
    model: VQVAE,
    fitted: Iterable[Pixels],
    measured: Iterable[Pixels],
    kind: FittedKind = "table",
    *,
    contexts: int = 256,
    seed: int = 0,
) -> float:
    """Fit a prior to images, and return the mean size of the streams of other images, in bits.

    Headers of files do not count.

    Args:
        model: the tokenizer, in eval mode.
        fitted: the images that the prior is fitted to, uint8 [H, W, 3].
        measured: the images that are coded, uint8 [H, W, 3].
        kind: see `fit_prior`. If a codebook is too large for this kind, the prior has the kind `order-0`.
        contexts: see `fit_prior`.
        seed: see `fit_prior`.

    Raises:
        FlatvqError: if there are no images to fit to or to code.

    Example:
        >>> from flatvq.model import build_vqvae
        >>> from flatvq.recipe import CodebookRecipe
        >>> recipe = ModelRecipe(width=8, residual_width=2, levels=({"codebook_size": 16, "code_dim": 4},))
        >>> grey = [np.full((32, 32, 3), 128, np.uint8)] * 20
        >>> coded_bits_per_image(build_vqvae(recipe, CodebookRecipe()).eval(), grey, grey) < 64 * 4
        True
    """
    large = max(level.codebook_size for level in model.recipe.levels) > MOST_SYMBOLS
    kind = "order-0" if large else kind
    images = encode_images(model, fitted)
    arrays = _arrays(model, [*images.grids, *images.mirrored], kind, _Settings(contexts, STEPS, seed))
    prior = build_prior(kind, model.recipe, arrays, "the prior")
    coded = [indices_of(model, image) for image in measured]
    if not coded:
        raise FlatvqError("there are no images to code", "give at least one")
    return _coded_bits(prior, coded) / len(coded)


@dataclass(frozen=True)
class _Settings:
    """How a prior is fitted: the arguments of `fit_prior`."""

    contexts: int
    steps: int
    seed: int
    progress: Callable[[int, int], None] = lambda done, total: None


def _arrays(model: VQVAE, grids: Sequence[list[Integers]], kind: FittedKind, how: _Settings) -> Arrays:
    """Return the integers of a prior that is fitted to the grids of images, bottom first."""
    if kind != "order-0":
        require_small_codebooks(model.recipe, kind)
    arrays: Arrays = {}
    for level, recipe in enumerate(model.recipe.levels):
        level_grids = [image_grids[level] for image_grids in grids]
        if kind == "order-0":
            arrays |= _counted_arrays(level, level_grids, recipe.codebook_size)
        elif kind == "table":
            table = fit_table(level_grids, _code_vectors(model, level), how.contexts, how.seed)
            arrays |= table_arrays(level, table)
        else:
            arrays |= _network_arrays(model, level, grids, how)
    return arrays


def require_small_codebooks(recipe: ModelRecipe, kind: FittedKind) -> None:
    """Check that a model can have a table or a network.

    Raises:
        FlatvqError: if a codebook is too large.
    """
    large = max(level.codebook_size for level in recipe.levels)
    if large > MOST_SYMBOLS:
        what = f"a {kind} takes codebooks of at most {MOST_SYMBOLS} codes, and one has {large}"
        raise FlatvqError(what, "fit a prior of kind order-0")


def _counted_arrays(number: int, grids: list[Integers], codebook_size: int) -> Arrays:
    counts = np.stack([np.concatenate(digits) for digits in digit_counts(grids, codebook_size)])
    strength, _ = level_strength(counts)
    return {
        f"{number}.counts": counts.astype(np.uint32),
        f"{number}.level_strength": np.array([strength], np.uint32),
    }


def _network_arrays(model: VQVAE, number: int, grids: Sequence[list[Integers]], how: _Settings) -> Arrays:
    levels = len(model.recipe.levels)

    def progress(done: int, total: int) -> None:
        how.progress(number * total + done, levels * total)

    above = range(number, min(number + 2, levels))
    network = fit_network(
        [[image_grids[level] for image_grids in grids] for level in above],
        [_code_vectors(model, level) for level in above],
        steps=how.steps,
        seed=how.seed,
        progress=progress,
    )
    return network_arrays(number, network)


@torch.no_grad()
def _code_vectors(model: VQVAE, number: int) -> Floats:
    """Return vectors [Q, K, D] whose sum over the Q indices of a cell is its code vector.

    This is exact for quantizers that add the vectors of their indices. For others, the prior predicts worse.
    """
    quantizer = model.quantizers[number]
    assert isinstance(quantizer, Quantizer)
    size = quantizer.codebook_size
    device = next((tensor.device for tensor in quantizer.state_dict().values()), torch.device("cpu"))
    if not quantizer.index_shape:
        vectors = quantizer.decode_indices(torch.arange(size, device=device))
        return vectors.double().cpu().numpy()[None]
    count = int(np.prod(quantizer.index_shape))
    zeros = torch.zeros(size, count, dtype=torch.long, device=device)
    base = quantizer.decode_indices(zeros.view(size, *quantizer.index_shape))
    stage_vectors = []
    for stage in range(count):
        indices = zeros.clone()
        indices[:, stage] = torch.arange(size, device=device)
        decoded = quantizer.decode_indices(indices.view(size, *quantizer.index_shape))
        stage_vectors.append(decoded - base + base / count)
    return torch.stack(stage_vectors).double().cpu().numpy()


def _nominal_bits(recipe: ModelRecipe, images: Sequence[list[Integers]]) -> float:
    return sum(
        grid.size * log2(level.codebook_size)
        for image in images
        for grid, level in zip(image, recipe.levels, strict=True)
    )


def _coded_bits(prior: Prior, images: Sequence[list[Integers]]) -> int:
    return sum(8 * len(stream) for image in images for stream in prior.write(image))
