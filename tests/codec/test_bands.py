from __future__ import annotations

import numpy as np
import pytest
import torch
from tests.codec.tokenizers import KINDS, image, tokenizer

from flatvq.codec import bands
from flatvq.model import VQVAE

pytestmark = pytest.mark.slow


def pixels_of(model: VQVAE, height: int, width: int) -> torch.Tensor:
    colour = torch.from_numpy(image(height, width)).permute(2, 0, 1)[None]
    return colour[:, : model.recipe.channels]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("height", "width"), [(1000, 16), (24, 800)])
@torch.no_grad()
def test_bands_give_what_the_whole_image_gives(
    kind: str, height: int, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tokenizer(kind)
    pixels = pixels_of(model, height, width)
    whole = model.encode(pixels.float() / 255)
    decoded = np.rint(model.decode(whole)[0].clamp(0, 1).numpy() * 255)
    monkeypatch.setattr(bands, "_PIXELS", 1000)
    assert len(bands.bands(model, height, width)) > 2
    in_bands = bands.encode_in_bands(model, pixels)
    # Rounding may decide between two codes that are equally near.
    for level, expected in zip(in_bands, whole, strict=True):
        assert (level != expected).float().mean() < 0.005
    assert np.abs(bands.decode_in_bands(model, whole).numpy() - decoded).max() <= 1


@torch.no_grad()
def test_without_a_margin_bands_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tokenizer()
    pixels = pixels_of(model, 1000, 16)
    whole = model.encode(pixels.float() / 255)
    monkeypatch.setattr(bands, "_PIXELS", 1000)
    monkeypatch.setattr(bands, "_margin", lambda model: 0)
    decoded = bands.decode_in_bands(model, whole)
    monkeypatch.setattr(bands, "_PIXELS", 2**30)
    assert (decoded.int() - bands.decode_in_bands(model, whole).int()).abs().max() > 1


@pytest.mark.parametrize(
    ("height", "width"), [(8, 8), (65536, 1496), (10_000, 10_000), (1496, 65536), (256, 256)]
)
def test_bands_cover_an_image_once_with_a_bounded_size(height: int, width: int) -> None:
    model = tokenizer("conditioned")
    intervals = bands.bands(model, height, width)
    assert [band.start for band in intervals] == [0, *(band.stop for band in intervals[:-1])]
    assert intervals[-1].stop * model.factor == max(height, width)
    assert max(band.last - band.first for band in intervals) * model.factor * min(height, width) < 1.2 * 2**22
    if height * width < 2**20:
        assert len(intervals) == 1
