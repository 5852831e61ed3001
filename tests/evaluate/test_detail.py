"""Contrast kept by octave, compared with the known transfer function of a Gaussian blur."""

from __future__ import annotations

from math import cos, exp, pi, radians, sin
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut
from tests.evaluate.filters import Filter, gaussian_blur

from flatvq.evaluate.detail import evaluate_detail
from flatvq.evaluate.octaves import grating, kept, luma, octaves_of

SIDE = 64


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    folder = tmp_path / "photographs"
    folder.mkdir()
    for number, (top, left) in enumerate([(40, 180), (120, 200), (250, 30)]):
        Image.fromarray(astronaut()[top : top + 70, left : left + 80]).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("sigma", [0.9, 1.7])
def test_gratings_show_the_transfer_function_of_a_blur(sigma: float) -> None:
    result = evaluate_detail(Filter(gaussian_blur(sigma)), side=SIDE)
    assert [(row["low"], row["high"]) for row in result["octaves"]] == [
        (1 / 4, 1 / 2), (1 / 8, 1 / 4), (1 / 16, 1 / 8), (1 / 32, 1 / 16),
    ]  # fmt: skip
    for row in result["octaves"]:
        centre = (row["low"] * row["high"]) ** 0.5
        expected = []
        for turn in (0, 45, 90, 135):
            waves = [round(SIDE * centre * part(radians(turn))) / SIDE for part in (cos, sin)]
            expected.append(exp(-2 * pi**2 * sigma**2 * sum(wave**2 for wave in waves)))
        gratings = row["gratings"]
        assert gratings["images"] == 16
        assert gratings["contrast_kept"]["mean"] == pytest.approx(np.mean(expected), abs=0.01)
        low, high = gratings["contrast_kept"]["interval90"]
        assert low <= gratings["contrast_kept"]["mean"] <= high


def test_photographs_show_the_transfer_function_weighted_by_their_power(photographs: Path) -> None:
    sigma = 1.0
    result = evaluate_detail(Filter(gaussian_blur(sigma)), photographs, side=SIDE)
    rows, columns = np.meshgrid(np.fft.fftfreq(SIDE), np.fft.fftfreq(SIDE), indexing="ij")
    radius = np.hypot(rows, columns)
    transfer = np.exp(-2 * (np.pi * sigma * radius) ** 2)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SIDE) / SIDE)
    for row in result["octaves"]:
        expected = []
        for path in sorted(photographs.iterdir()):
            crop = np.array(Image.open(path))[3:67, 8:72] / 255 @ [0.299, 0.587, 0.114]
            power = np.abs(np.fft.fft2((crop - crop.mean()) * np.outer(hann, hann))) ** 2
            inside = (radius >= row["low"]) & (radius < row["high"])
            expected.append((transfer * power)[inside].sum() / power[inside].sum())
        assert row["photographs"]["contrast_kept"]["mean"] == pytest.approx(np.mean(expected), abs=0.03)
    assert result["photographs"] == 3


def test_invented_texture_adds_power_and_no_contrast() -> None:
    octave = octaves_of(SIDE)[1]
    original = luma(grating(SIDE, octave, 45, 0))
    other = luma(grating(SIDE, octave, 135, 0))
    of_other = kept(original, other, octave)
    assert of_other is not None
    assert of_other.contrast == pytest.approx(0, abs=1e-3)
    assert of_other.power == pytest.approx(1, abs=1e-2)
    inverted = kept(original, 1 - original, octave)
    assert inverted is not None
    assert (inverted.contrast, inverted.power) == pytest.approx((-1, 1))
    quarter = kept(original, luma(grating(SIDE, octave, 45, 90)), octave)
    assert quarter is not None
    assert quarter.contrast == pytest.approx(0, abs=1e-2)


def test_a_grating_lies_in_its_octave_alone() -> None:
    octaves = octaves_of(256)
    assert len(octaves) == 6
    for octave in octaves:
        image = luma(grating(256, octave, 45, 90)) - 0.5
        spectrum = np.abs(np.fft.fft2(image)) ** 2
        radius = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None])
        inside = (radius >= octave.low) & (radius < octave.high)
        assert spectrum[inside].sum() / spectrum.sum() > 0.999


def test_images_without_contrast_do_not_count(photographs: Path) -> None:
    Image.new("RGB", (70, 70), (10, 20, 30)).save(photographs / "flat.png")
    result = evaluate_detail(Filter(lambda images: images), photographs, side=SIDE, limit=4)
    for row in result["octaves"]:
        assert row["photographs"]["images"] == 3
        assert row["photographs"]["contrast_kept"]["mean"] == pytest.approx(1)
        assert row["gratings"]["power_kept"]["mean"] == pytest.approx(1)


def test_a_tokenizer_of_one_channel_is_measured_on_luma(photographs: Path) -> None:
    halved = Filter(lambda images: 0.5 + (images - 0.5) / 2, channels=1)
    result = evaluate_detail(halved, photographs, side=SIDE)
    for row in result["octaves"]:
        for kind in ("gratings", "photographs"):
            assert row[kind]["contrast_kept"]["mean"] == pytest.approx(0.5, abs=0.01)
    assert torch.is_tensor(halved.decode([torch.zeros(1, 1, 2, 2)]))
