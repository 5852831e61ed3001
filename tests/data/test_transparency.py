"""Images with transparency are laid over white in bands. The result is that of the whole image at once."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from flatvq.data import pillow
from flatvq.data.pillow import opened, to_rgb


def pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def picture(kind: str) -> Image.Image:
    if kind in ("RGBA", "LA"):
        return Image.fromarray(pixels(37, 11, len(kind)), kind)
    if kind == "P":
        return Image.fromarray(pixels(37, 11, 3)).quantize(16)
    return Image.fromarray(pixels(37, 11) % 4 if kind == "L" else pixels(37, 11, 3) % 2)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("RGBA", {}),
        ("LA", {}),
        ("P", {"transparency": 3}),
        ("P", {"transparency": bytes(range(0, 160, 10))}),
        ("L", {"transparency": 2}),
        ("RGB", {"transparency": (1, 0, 1)}),
    ],
)
def test_bands_give_what_the_whole_image_gives(kind: str, options: dict, monkeypatch) -> None:
    file = BytesIO()
    picture(kind).save(file, "PNG", **options)
    with Image.open(file) as whole:
        opaque = whole.convert("RGBA")
        expected = Image.alpha_composite(Image.new("RGBA", opaque.size, "white"), opaque).convert("RGB")
    for band in (1, 50, 2**20):
        monkeypatch.setattr(pillow, "_BAND_PIXELS", band)
        file.seek(0)
        with opened(file) as image:
            assert np.array_equal(to_rgb(image), expected)
    assert len(np.unique(np.asarray(expected))) > 1
