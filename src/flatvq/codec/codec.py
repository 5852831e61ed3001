"""Compress images with a tokenizer and its prior, and decompress them.

    image -> indices of each level -> stream of each level -> file

Axes: H W rows and columns of pixels, C channels, Q indices of a cell, h w rows and columns of a grid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from io import BytesIO
from math import prod
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch

from flatvq.codec.bands import decode_in_bands, encode_in_bands
from flatvq.codec.container import ID_BYTES, CodedImage, Contents, pack, read_contents, read_streams
from flatvq.codec.entropy import SLACK_BITS, Integers
from flatvq.codec.identity import tokenizer_digest
from flatvq.codec.prior import Prior, PriorKind, indices_per_cell, without_prior
from flatvq.codec.storage import has_prior, load_prior
from flatvq.data.types import Pixels
from flatvq.errors import FlatvqError
from flatvq.model import VQVAE, load_tokenizer, tokenizer_folder
from flatvq.model.layout import grids_of
from flatvq.model.pixels import with_channels
from flatvq.tokenizers import local_folder

__all__ = ["Codec", "indices_of", "load_codec"]

_SAME = "give the tokenizer that compressed it, with the same prior"


class Codec:
    """Compresses images to `.fvq` and `.fvqs` files, and decompresses them.

    A file holds the indices exactly. Decompressed pixels are the decoder's output, rounded to 8 bits. On
    another machine a pixel may differ by one level of 255, because sums are rounded in another order.

    Args:
        model: the tokenizer, in eval mode.
        prior: its prior; None if all codes have the same probability.

    Example:
        >>> from flatvq import CodebookRecipe, ModelRecipe, build_vqvae
        >>> recipe = ModelRecipe(width=8, residual_width=2, levels=({"codebook_size": 16, "code_dim": 4},))
        >>> codec = Codec(build_vqvae(recipe, CodebookRecipe()).eval())
        >>> content = codec.compress(np.zeros((30, 50, 3), np.uint8))
        >>> len(content), codec.decompress(content).shape
        (75, (30, 50, 3))
    """

    def __init__(self, model: VQVAE, prior: Prior | None = None) -> None:
        self.model = model
        self.prior = prior or without_prior(model.recipe)
        # Files that were written without a prior stay readable when the tokenizer gets one.
        self._priors = {"none": without_prior(model.recipe), self.prior.kind: self.prior}
        self._tokenizer = tokenizer_digest(model)

    @property
    def identity(self) -> bytes:
        """The 8 bytes in a file that identify the tokenizer and the prior."""
        return self._identity(self.prior)

    def compress(self, image: Pixels) -> bytes:
        """Compress an image to the content of a `.fvq` file.

        Args:
            image: uint8 [H, W, 3], of any size. If the sides are not multiples of the factor of the
                tokenizer, the last row and column are repeated, and cut off when the image is decompressed.

        Returns:
            The content of the file, header and checksum included.

        Raises:
            FlatvqError: if the image is not uint8 [H, W, 3].
        """
        return pack(self.prior.kind, self.identity, [self.to_streams(image)], names=None)

    def compress_collection(self, images: Iterable[tuple[str, Pixels]]) -> bytes:
        """Compress images to the content of a `.fvqs` file.

        Args:
            images: pairs of a name, such as `dogs/rex`, and uint8 [H, W, 3]. The names are all empty, or
                distinct.

        Returns:
            The content of the file, header and checksum included.

        Raises:
            FlatvqError: if an image is not uint8 [H, W, 3], or a name is not valid.
        """
        names, coded = [], []
        for name, image in images:
            names.append(name)
            coded.append(self.to_streams(image))
        return pack(self.prior.kind, self.identity, coded, names)

    def decompress(self, content: bytes) -> Pixels:
        """Decompress the content of a `.fvq` file.

        Args:
            content: the bytes of the file.

        Returns:
            uint8 [H, W, C], with the channels of the tokenizer.

        Raises:
            FlatvqError: if the file is damaged or a collection, or was written with another tokenizer or
                prior.
        """
        with BytesIO(content) as file:
            contents = self.open(file, "the file")
            if contents.collection:
                raise FlatvqError("the file is a collection", "decompress it with decompress_collection")
            return self.from_streams(read_streams(file, contents.entries[0]), contents.prior)

    def decompress_collection(self, content: bytes) -> Iterator[tuple[str, Pixels]]:
        """Decompress the content of a `.fvqs` file, or of a `.fvq` file.

        Args:
            content: the bytes of the file.

        Yields:
            The name of each image, and uint8 [H, W, C].

        Raises:
            FlatvqError: if the file is damaged, or was written with another tokenizer or prior.
        """
        with BytesIO(content) as file:
            contents = self.open(file, "the file")
            for entry in contents.entries:
                yield entry.name, self.from_streams(read_streams(file, entry), contents.prior)

    def open(self, file: BinaryIO, origin: str) -> Contents:
        """Read the header of a file, and check that this codec can decompress it.

        Args:
            file: the file, seekable. Afterwards it is at the first stream.
            origin: the name of the file in error messages.

        Returns:
            Everything that the file states before its streams.

        Raises:
            FlatvqError: if the file is damaged, or was written with another tokenizer or prior.
        """
        contents = read_contents(file, origin)
        prior = self._priors.get(contents.prior)
        if prior is None:
            what = f"{origin} needs a prior of kind {contents.prior}, and the tokenizer has {self.prior.kind}"
            raise FlatvqError(what, _SAME)
        identity = self._identity(prior)
        if contents.identity != identity:
            ids = f"{contents.identity.hex()}, and this one is {identity.hex()}"
            raise FlatvqError(f"{origin} was compressed with another tokenizer or prior ({ids})", _SAME)
        if contents.levels != len(self.model.recipe.levels):
            what = f"{origin} has {contents.levels} levels, and the tokenizer {len(self.model.recipe.levels)}"
            raise FlatvqError(what, "compress the image again")
        return contents

    def to_streams(self, image: Pixels) -> CodedImage:
        """Compress an image to streams.

        Args:
            image: uint8 [H, W, 3], of any size.

        Returns:
            The size of the image, and the stream of each level.

        Raises:
            FlatvqError: if the image is not uint8 [H, W, 3].
        """
        streams = self.prior.write(indices_of(self.model, image))
        return CodedImage(image.shape[1], image.shape[0], tuple(reversed(streams)))

    @torch.no_grad()
    def from_streams(self, image: CodedImage, kind: PriorKind) -> Pixels:
        """Decompress streams to an image.

        Args:
            image: the streams.
            kind: the kind of their prior: `none`, or the kind of this codec's prior.

        Returns:
            uint8 [H, W, C], with the channels of the tokenizer.

        Raises:
            FlatvqError: if a stream is not valid.
        """
        device = next(self.model.parameters()).device
        indices = [
            torch.from_numpy(level)[None].to(device) for level in self._read(image, self._priors[kind])
        ]
        with torch.autocast(device.type, enabled=False):
            pixels = decode_in_bands(self.model, indices)[:, : image.height, : image.width]
        return pixels.permute(1, 2, 0).contiguous().numpy()

    def _identity(self, prior: Prior) -> bytes:
        content = self._tokenizer + prior.kind.encode() + prior.digest
        return hashlib.sha256(content).digest()[:ID_BYTES]

    def _read(self, image: CodedImage, prior: Prior) -> list[Integers]:
        """Return the indices of each level, int64 [*index_shape, h, w]."""
        recipe = self.model.recipe
        grids = grids_of(recipe, _padded(image.height, image.width, self.model.factor))
        streams = tuple(reversed(image.streams))
        for level_prior, grid, stream in zip(prior.levels, grids, streams, strict=True):
            cells, bits = prod(grid), 8 * len(stream) + SLACK_BITS
            # The bound of a table takes time, so it is computed only for less than a bit per cell.
            if bits < cells and bits < level_prior.fewest_bits(cells):
                what = f"a stream of {len(stream)} bytes is too short for {grid[0]} x {grid[1]} indices"
                raise FlatvqError(what, "compress the image again")
        shapes = [(indices_per_cell(level), *grid) for level, grid in zip(recipe.levels, grids, strict=True)]
        levels = zip(prior.read(streams, shapes), recipe.levels, grids, strict=True)
        return [indices.reshape(*level.index_shape, *grid) for indices, level, grid in levels]


def load_codec(source: str | Path, device: str | torch.device = "cpu", *, prior: bool = True) -> Codec:
    """Load a tokenizer with its prior, if it has one, to compress images.

    Args:
        source: the tokenizer, as for `flatvq.load`.
        device: the device for the model.
        prior: whether to use the prior of the tokenizer.

    Returns:
        The codec. Without a prior, all codes have the same probability.

    Raises:
        FlatvqError: if the tokenizer or its prior is missing or damaged.

    Example:
        >>> load_codec("flatvq-f4").prior.kind
        'network'
    """
    folder = tokenizer_folder(local_folder(source))
    model = load_tokenizer(folder, device)
    if not prior or not has_prior(folder):
        return Codec(model)
    return Codec(model, load_prior(folder, model.recipe, tokenizer_digest(model)))


@torch.no_grad()
def indices_of(model: VQVAE, image: Pixels) -> list[Integers]:
    """Encode an image of any size.

    Args:
        model: the tokenizer, in eval mode.
        image: uint8 [H, W, 3].

    Returns:
        int64 [Q, h, w] for each level, bottom first.

    Raises:
        FlatvqError: if the image is not uint8 [H, W, 3].
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        what = f"an image of {image.dtype} {list(image.shape)} is not uint8 [H, W, 3]"
        raise FlatvqError(what, "convert it with Pillow's .convert('RGB')")
    height, width = image.shape[:2]
    padded_height, padded_width = _padded(height, width, model.factor)
    missing = ((0, padded_height - height), (0, padded_width - width), (0, 0))
    pixels = torch.from_numpy(np.pad(image, missing, mode="edge")).permute(2, 0, 1)[None]
    with torch.autocast(next(model.parameters()).device.type, enabled=False):
        levels = encode_in_bands(model, with_channels(pixels, model.recipe.channels))
    return [level[0].reshape(-1, *level.shape[-2:]).cpu().numpy() for level in levels]


def _padded(height: int, width: int, factor: int) -> tuple[int, int]:
    return height + -height % factor, width + -width % factor
