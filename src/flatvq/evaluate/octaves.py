"""Contrast and power that a reconstruction keeps in bands of spatial frequencies.

With O and R the discrete Fourier transforms of the luma of an original and of its reconstruction, both minus
their mean, the contrast kept in a band of frequencies B is

    c(B) = sum over f in B of Re(R(f) conj(O(f)))  /  sum over f in B of |O(f)|^2

and the power kept is

    p(B) = sum over f in B of |R(f)|^2  /  sum over f in B of |O(f)|^2.

A filter with the real transfer function H has c = H at the frequency of a grating. Patterns at another place,
such as texture that a decoder invents, add to the power but not to the contrast kept. For a reconstruction
without the pattern c is 0, and if the pattern is inverted it is negative.

Axes: H W rows and columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin, sqrt
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from flatvq.data.types import Pixels

__all__ = ["AMPLITUDE", "Kept", "Octave", "grating", "kept", "luma", "octaves_of"]

AMPLITUDE = 0.25
"""Amplitude of gratings, of the range from black to white: from a quarter to three quarters of white."""

# An octave is not measured if fewer of its longest periods fit into the side of an image.
_FEWEST_PERIODS = 2
# Below this mean square, a band holds only rounding errors.
_NO_CONTRAST = 1e-20
_LUMA = (0.299, 0.587, 0.114)

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Octave:
    """A band of spatial frequencies in cycles per pixel: `low` <= frequency < `high`."""

    low: float
    high: float

    @property
    def centre(self) -> float:
        """The geometric mean of both ends."""
        return sqrt(self.low * self.high)


@dataclass(frozen=True)
class Kept:
    """The contrast and power that a reconstruction keeps in one band."""

    contrast: float
    """c(B)."""
    power: float
    """p(B)."""


def octaves_of(side: int) -> list[Octave]:
    """Return the octaves of images with this side, the finest first.

    Args:
        side: rows and columns, in pixels. An octave is left out if fewer than two of its longest waves fit.

    Example:
        >>> [(octave.low, octave.high) for octave in octaves_of(32)]
        [(0.25, 0.5), (0.125, 0.25), (0.0625, 0.125)]
    """
    octaves, high = [], 0.5
    while side * high / 2 >= _FEWEST_PERIODS:
        octaves.append(Octave(high / 2, high))
        high /= 2
    return octaves


def kept(original: Floats, stored: Floats, octave: Octave) -> Kept | None:
    """Return the contrast and power that a reconstruction keeps in a band.

    Args:
        original: luma [H, W].
        stored: luma of the reconstruction [H, W].
        octave: the band.

    Returns:
        None if the original has no contrast in the band.

    Example:
        >>> image = np.random.default_rng(0).random((16, 16))
        >>> of_half = kept(image, image / 2, Octave(0.125, 0.25))
        >>> round(of_half.contrast, 9), round(of_half.power, 9)
        (0.5, 0.25)
    """
    original_spectrum, stored_spectrum = (np.fft.fft2(plane - plane.mean()) for plane in (original, stored))
    down, across = (np.fft.fftfreq(side) for side in original.shape)
    radii = np.hypot(down[:, None], across[None, :])
    inside = (radii >= octave.low) & (radii < octave.high)
    original_spectrum, stored_spectrum = original_spectrum[inside], stored_spectrum[inside]
    energy = float(np.square(np.abs(original_spectrum)).sum())
    if energy <= _NO_CONTRAST * original.size**2:
        return None
    product = float((stored_spectrum * original_spectrum.conj()).real.sum())
    return Kept(product / energy, float(np.square(np.abs(stored_spectrum)).sum()) / energy)


def luma(image: Pixels) -> Floats:
    """Return 0.299 R + 0.587 G + 0.114 B of an image, uint8 [H, W, 3] or [H, W, 1], as [H, W] in [0, 1]."""
    planes = image.astype(np.float64) / 255
    return planes @ np.array(_LUMA) if image.shape[2] == 3 else planes[:, :, 0]


def grating(side: int, octave: Octave, orientation: int, phase: int) -> Pixels:
    """Return a sinusoidal grating with whole periods on each side, so that it has a single frequency.

    Args:
        side: rows and columns.
        octave: the band; the frequency is about its centre.
        orientation: of the wave, in degrees; 0 varies along a row.
        phase: in degrees.

    Returns:
        Grey uint8 [H, W, 3].
    """
    turn, cycles = orientation * pi / 180, side * octave.centre
    across, down = round(cycles * cos(turn)), round(cycles * sin(turn))
    rows, columns = np.mgrid[:side, :side]
    wave = np.cos(2 * pi * (across * columns + down * rows) / side + phase * pi / 180)
    grey = np.rint(255 * (0.5 + AMPLITUDE * wave)).astype(np.uint8)
    return np.repeat(grey[:, :, None], 3, axis=2)
