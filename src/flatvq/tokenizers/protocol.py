"""The interface of every tokenizer: it converts images to indices and back, and has an identity.

Axes: B batch, C channels, H W rows and columns of pixels, h w rows and columns of a level's grid.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, lcm, nan, prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import Tensor, nn

from flatvq.errors import FlatvqError
from flatvq.quantize.checks import whole_number
from flatvq.tokenizers import hub
from flatvq.tokenizers.identity import identity_of

__all__ = ["Preprocess", "Tokenizer", "TokenizerLevel"]

_LONGEST_SIDE = 65_536


@dataclass(frozen=True)
class TokenizerLevel:
    """One grid of indices.

    Example:
        >>> residual = TokenizerLevel(codebook_size=1024, factor=8, index_shape=(4,))
        >>> residual.indices_per_cell, residual.shape_for(64, 32)
        (4, (4, 8, 4))

    Raises:
        FlatvqError: if a size is not a whole number of 1 or more.
    """

    codebook_size: int
    """K: indices are in [0, K)."""
    factor: int
    """Rows and columns of pixels for each row and column of the grid."""
    index_shape: tuple[int, ...] = ()
    """The axes of the indices of one cell: () for one index, (Q,) for Q indices."""

    def __post_init__(self) -> None:
        for name in ("codebook_size", "factor"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), 1))
        shape = tuple(whole_number("a size of index_shape", size, 1) for size in self.index_shape)
        object.__setattr__(self, "index_shape", shape)

    @property
    def indices_per_cell(self) -> int:
        """The number of indices in each cell of the grid."""
        return prod(self.index_shape)

    def shape_for(self, height: int, width: int) -> tuple[int, ...]:
        """Return the shape of the indices of one image, (*index_shape, h, w).

        Args:
            height: rows of pixels, a multiple of `factor`.
            width: columns of pixels, a multiple of `factor`.
        """
        return (*self.index_shape, height // self.factor, width // self.factor)


@dataclass(frozen=True)
class Preprocess:
    """How an image file becomes the input of a tokenizer.

    The size of the input changes reconstructions more than most changes of a model, so it belongs to the
    identity of a tokenizer. Images are scaled with Pillow's bicubic filter, and cut at their centre.

    Example:
        >>> Preprocess(crop=64).with_size(resize=256)
        Preprocess(resize=256, crop=256, channels=3, range=(-1.0, 1.0))

    Raises:
        FlatvqError: if a size is not a whole number from 0 to 65,536, or `channels` or `range` is impossible.
    """

    resize: int = 0
    """Pixels of the shorter side after scaling; 0 keeps the size of the image."""
    crop: int = 0
    """Pixels of the side of the centre crop; 0 keeps the whole image, whose last row and column are
    repeated until its sides are multiples of the factor."""
    channels: int = 3
    """3 for colour, 1 for luma."""
    range: tuple[float, float] = (-1.0, 1.0)
    """The input values of the network for black and for white. `encode` takes images in [0, 1] and converts
    them."""

    def __post_init__(self) -> None:
        for name in ("resize", "crop"):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), 0, _LONGEST_SIDE))
        try:
            low, high = map(float, self.range)
        except (TypeError, ValueError):
            low = high = nan
        if not isfinite(low - high) or low == high:
            raise FlatvqError(f"range is {str(self.range)[:80]}", "pass the values of black and white")
        if whole_number("channels", self.channels, 1) not in (1, 3):
            what = f"images of {self.channels} channels are not supported"
            raise FlatvqError(what, "use 3 for colour or 1 for luma")

    def with_size(self, resize: int | None = None, crop: int | None = None) -> Preprocess:
        """Return the same preprocessing at another size.

        Args:
            resize: pixels of the shorter side after scaling; None keeps it.
            crop: pixels of the side of the crop; None means `resize` if `resize` is given, and otherwise
                keeps it.
        """
        if crop is None:
            crop = resize or self.crop
        return Preprocess(self.resize if resize is None else resize, crop, self.channels, self.range)

    def to_dict(self) -> dict[str, Any]:
        """Return the description that records hold."""
        return {**asdict(self), "range": list(self.range), "interpolation": "bicubic"}


class Tokenizer(ABC):
    """Converts images to grids of indices, and back.

    To use a tokenizer of another library, write a subclass that is also a `torch.nn.Module` or overrides
    `inference_tensors`.

    Example:
        >>> class Threshold(Tokenizer):
        ...     levels = (TokenizerLevel(codebook_size=2, factor=1),)
        ...     preprocess = Preprocess(channels=1)
        ...     def encode(self, images):
        ...         return ((images[:, 0] > 0.5).long(),)
        ...     def decode(self, indices):
        ...         return indices[0][:, None].float()
        ...     def inference_tensors(self):
        ...         return {}
        >>> tokenizer = Threshold()
        >>> tokenizer.decode(tokenizer.encode(torch.tensor([[[[0.2, 0.9]]]]))).tolist()
        [[[[0.0, 1.0]]]]
    """

    preprocess: Preprocess = Preprocess()
    """How image files become inputs."""

    @property
    @abstractmethod
    def levels(self) -> tuple[TokenizerLevel, ...]:
        """The grids of indices, bottom (the finest) first."""

    @abstractmethod
    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Encode images to indices.

        Args:
            images: [B, C, H, W] in [0, 1]; C as in `preprocess`, H and W multiples of `factor`.

        Returns:
            int64 [B, *index_shape, h, w] for each level.
        """

    @abstractmethod
    def decode(self, indices: Sequence[Tensor]) -> Tensor:
        """Decode indices to images.

        Args:
            indices: integers for each level, as `encode` returns them.

        Returns:
            [B, C, H, W], approximately in [0, 1] but not clamped.
        """

    @property
    def factor(self) -> int:
        """The total downsampling. Height and width of images must be multiples of it."""
        return lcm(*(level.factor for level in self.levels))

    @property
    def id(self) -> str:
        """SHA-256 of everything that decides indices and images, as 64 hexadecimal digits.

        It covers the class or the recipe of the model, the levels, the preprocessing, and the tensors that
        inference reads. It is computed from the current weights each time.
        """
        config = {
            "model": self.inference_config(),
            "levels": [asdict(level) for level in self.levels],
            "preprocess": self.preprocess.to_dict(),
        }
        return identity_of(config, self.inference_tensors())

    def inference_config(self) -> Mapping[str, Any]:
        """Return the settings that determine indices and images, as JSON values; part of `id`."""
        return {"class": f"{type(self).__module__}.{type(self).__qualname__}"}

    def inference_tensors(self) -> Mapping[str, Tensor]:
        """Return the tensors that inference reads, by name; part of `id`.

        Raises:
            FlatvqError: if the tokenizer is not a `torch.nn.Module`, and its class does not override this.
        """
        if isinstance(self, nn.Module):
            return self.state_dict()
        what = f"{type(self).__name__} is not a torch.nn.Module, so its weights are unknown"
        raise FlatvqError(what, "override inference_tensors()")

    @staticmethod
    def from_pretrained(
        spec: str | Path,
        device: str | torch.device = "cpu",
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
    ) -> Tokenizer:
        """Open a tokenizer of flatvq or of another library.

        Args:
            spec: what `flatvq.load` accepts; or a tokenizer of another library, as `diffusers:PATH`,
                `janus:PATH`, `taming:PATH` or `python:MODULE:FACTORY`.
            device: the device for the model.
            revision: branch, tag or commit of a repository on the Hugging Face hub; None for `main`.
            cache_dir: folder for downloads from the hub; None for the default of `huggingface_hub`.
            local_files_only: whether to use only files of the hub that have been downloaded before.

        Returns:
            The tokenizer, in eval mode and float32.

        Raises:
            FlatvqError: if there is no such tokenizer, or it cannot be read.
            MissingExtraError: if a package that it needs is not installed.
        """
        from flatvq.tokenizers.loading import open_tokenizer

        return open_tokenizer(
            spec, device, revision=revision, cache_dir=cache_dir, local_files_only=local_files_only
        )

    def save_pretrained(
        self, folder: str | Path, *, dtype: Literal["float32", "float16"] = "float32"
    ) -> Path:
        """Write the tokenizer and its model card into a folder that `from_pretrained` reads.

        Args:
            folder: the folder; created if it does not exist.
            dtype: the number format of the stored weights. float16 halves the size, and changes indices where
                two codes are almost equally near. Computations are in float32 after loading.

        Returns:
            The folder.

        Raises:
            FlatvqError: if it is a tokenizer of another library.
            NonFiniteError: if a weight is NaN or infinite, or too large for float16.
        """
        raise FlatvqError(
            f"flatvq does not save tokenizers of type {type(self).__name__}", "save it with its own library"
        )

    def push_to_hub(
        self,
        repo_id: str,
        *,
        dtype: Literal["float32", "float16"] = "float32",
        private: bool | None = None,
        revision: str | None = None,
        token: str | None = None,
        commit_message: str = "Upload a flatvq tokenizer",
    ) -> str:
        """Upload what `save_pretrained` writes to a repository of the Hugging Face hub.

        Args:
            repo_id: the repository, `OWNER/NAME`; created if it does not exist.
            dtype: as for `save_pretrained`.
            private: whether a new repository is private; None for the default of the owner.
            revision: the branch to commit to; None for `main`.
            token: the access token; None for the token of `hf auth login`.
            commit_message: the message of the commit.

        Returns:
            The URL of the commit.

        Raises:
            FlatvqError: if the upload fails, or it is a tokenizer of another library.
            MissingExtraError: if `huggingface_hub` is not installed.
        """
        with TemporaryDirectory() as folder:
            self.save_pretrained(folder, dtype=dtype)
            return hub.upload(
                Path(folder),
                repo_id,
                private=private,
                revision=revision,
                token=token,
                commit_message=commit_message,
            )
