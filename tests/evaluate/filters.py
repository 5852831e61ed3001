"""Tokenizers whose reconstructions are known: indices are the 8-bit samples, and decoding filters them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from flatvq.tokenizers import Preprocess, Tokenizer, TokenizerLevel


class Filter(Tokenizer):
    """Stores every sample, and applies a function to the decoded images [B, C, H, W] in [0, 1]."""

    def __init__(self, apply: Callable[[Tensor], Tensor], channels: int = 3) -> None:
        self.apply, self.preprocess = apply, Preprocess(channels=channels)

    @property
    def levels(self) -> tuple[TokenizerLevel, ...]:
        return (TokenizerLevel(256, 1, (self.preprocess.channels,)),)

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        return ((images * 255).round().long(),)

    def decode(self, indices: Sequence[Tensor]) -> Tensor:
        return self.apply(indices[0].double() / 255)

    def inference_tensors(self) -> dict[str, Tensor]:
        return {}


def gaussian_blur(sigma: float) -> Callable[[Tensor], Tensor]:
    """A blur with wrapped borders, by direct summation of shifted images."""
    reach = int(6 * sigma) + 1
    taps = torch.exp(-(torch.arange(-reach, reach + 1).double() ** 2) / (2 * sigma**2))
    taps = taps / taps.sum()

    def blur(images: Tensor) -> Tensor:
        for axis in (2, 3):
            images = sum(
                tap * images.roll(shift, axis)
                for tap, shift in zip(taps, range(-reach, reach + 1), strict=True)
            )
        return images

    return blur


def blurring() -> Filter:
    """The factory of `python:tests.evaluate.filters:blurring`."""
    return Filter(gaussian_blur(1.0))
