"""Pictures whose spectrum is that of photographs, and files of them."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 403, 302  # no multiples of 2, 4 or 8: the last columns of a reduced image are partly outside


def photograph(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Draw noise that falls off with the frequency as photographs do, mostly common to the three colours."""
    frequencies = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    noise = np.random.default_rng(seed).normal(size=(3, height, width))
    spectrum = np.fft.rfft2(noise) / np.maximum(frequencies, 0.01) ** 1.2
    waves = np.fft.irfft2(spectrum, s=(height, width))
    waves = waves[:1] + 0.3 * waves
    return Image.fromarray(
        np.clip(128 + 50 * waves / waves.std(), 0, 255).astype(np.uint8).transpose(1, 2, 0)
    )


def file_of(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **({"quality": 92} if kind == "JPEG" else {}) | options)
    return buffer.getvalue()
