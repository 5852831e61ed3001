from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from flatvq.report.pictures import amplification, differences, embed, error_picture, psnr_db


def opened(uri: str) -> Image.Image:
    kind, _, data = uri.partition(";base64,")
    assert kind == "data:image/webp"
    return Image.open(BytesIO(base64.b64decode(data)))


def test_psnr_agrees_with_scikit_image():
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    assert abs(psnr_db(a, b) - peak_signal_noise_ratio(a, b, data_range=255)) < 1e-9
    assert psnr_db(a, a) is None


def test_pictures_within_the_budget_are_lossless():
    picture = np.random.default_rng(2).integers(0, 256, (32, 48, 3), dtype=np.uint8)
    written = embed([picture])
    assert written.encoding == "shown without loss"
    assert np.array_equal(np.asarray(opened(written.uris[0]).convert("RGB")), picture)


def test_pictures_beyond_the_budget_share_one_smaller_encoding():
    rng = np.random.default_rng(3)
    pictures = [rng.integers(0, 256, (200, 200, 3), dtype=np.uint8) for _ in range(4)]
    written = embed(pictures, budget=80_000)
    assert sum(len(uri) for uri in written.uris) < 80_000 * 4 / 3 + 200
    assert {opened(uri).size for uri in written.uris} == {(160, 160)}
    assert written.encoding.startswith("scaled to 160 pixels")


def test_errors_are_absolute_amplified_and_clipped():
    original = np.full((1, 3, 3), 100, np.uint8)
    reconstruction = np.array([[[100, 100, 100], [97, 103, 100], [250, 250, 250]]], np.uint8)
    error = differences(original, reconstruction)
    assert error.tolist() == [[0.0, 2.0, 150.0]]
    assert error_picture(error, 8).tolist() == [[0, 16, 255]]


def test_amplification_keeps_99_percent_of_the_errors_below_white():
    flat = np.full((10, 10), 7.0)
    assert amplification([flat]) == 32
    assert amplification([flat * 2]) == 16
    assert amplification([np.full((2, 2), 200.0)]) == 1
    one_bright = np.concatenate([np.full(999, 7.0), [255.0]])[None]
    assert amplification([one_bright]) == 32
