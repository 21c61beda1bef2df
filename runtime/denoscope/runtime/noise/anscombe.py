"""The generalised Anscombe transform and its exact unbiased inverse (numpy only)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput

from .noise import Intensity

__all__ = ["GeneralisedAnscombe"]

FloatArray = npt.NDArray[np.float64]

_BRIGHTEST = 1e5  # photons in the table; above, the correction differs from its last value by less than 1e-5
_DIMMEST = 1e-4
_LEVELS = 600
_MOST_READ_NOISE = 1000.0  # photons
_TAIL = 9.0  # standard deviations of a distribution that are summed
_FAR_FROM_ZERO = 10.0  # standard deviations of read noise, where the root is smooth
_FINE, _COARSE = 4001, 32  # nodes of the integrals over read noise


@dataclass(frozen=True)
class GeneralisedAnscombe:
    """Counts to values whose noise has the standard deviation 1, and back without bias.

    For `x = gain * Poisson(photons) + offset + N(0, read_noise**2)` the forward transform is
    `z = 2 sqrt(y + 3/8 + s**2)` with `y = (x - offset) / gain` and `s = read_noise / gain`, 0 where the
    root's argument is negative (Starck, Murtagh, Bijaoui 1998). The inverse of a *denoised* `z` is
    exact and unbiased (Makitalo, Foi 2013): it returns the light whose expected `z` is the given one,
    found in a table of expectations integrated numerically over both noises. The algebraic inverse
    would be about a quarter of a photon too dark.

    Parameters
    ----------
    gain
        Counts per photon, above 0.
    offset
        Counts without light.
    read_noise
        Standard deviation of the Gaussian noise in counts, 0 to 1000 photons.

    Raises
    ------
    InvalidInput
        If a number is out of range or not finite.

    Examples
    --------
    >>> transform = GeneralisedAnscombe(gain=2.0, offset=100.0, read_noise=0.0)
    >>> [round(float(z), 3) for z in transform.forward([100.0, 104.0])]
    [1.225, 3.082]
    """

    gain: float
    offset: float = 0.0
    read_noise: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.gain) and self.gain > 0):
            raise InvalidInput(f"A gain of {self.gain:g} counts a photon is not possible: give one above 0.")
        if not math.isfinite(self.offset):
            raise InvalidInput(f"An offset of {self.offset:g} counts is not possible: give a finite number.")
        if not 0 <= self.read_noise <= _MOST_READ_NOISE * self.gain:
            raise InvalidInput(
                f"A read noise of {self.read_noise:g} counts is not possible at {self.gain:g} counts a photon: "
                f"give 0 to {_MOST_READ_NOISE * self.gain:g}."
            )

    @classmethod
    def of(cls, intensity: Intensity, read_noise: float = 0.0) -> Self:
        """Return the transform for a movie's estimated noise.

        Parameters
        ----------
        intensity
            Gives the line of variance over mean; the forward transform depends on nothing else.
        read_noise
            Its Gaussian part in counts, where known; the inverse depends on it a little below ten photons.

        Raises
        ------
        InvalidInput
            If the movie showed no photon noise (gain 0).
        """
        gain = intensity.gain
        if gain <= 0:
            raise InvalidInput("The movie's noise does not grow with light: there is nothing to stabilise.")
        # The line meets the read noise's variance where there is no light.
        dark = intensity.offset + (read_noise**2 - intensity.scale**2) / gain
        return cls(gain, dark, read_noise)

    def forward(self, counts: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return the stabilised values of raw counts, any shape; float32, float64 for float64."""
        x = np.asarray(counts)
        z: npt.NDArray[Any] = np.array(x, x.dtype if x.dtype in (np.float32, np.float64) else np.float32)
        z -= self.offset - (0.375 + self._sigma**2) * self.gain
        z *= 4 / self.gain
        np.maximum(z, 0, out=z)
        np.sqrt(z, out=z)
        return z

    def inverse(self, denoised: npt.ArrayLike) -> npt.NDArray[Any]:
        """Return expected counts of denoised values, any shape; float32, float64 for float64.

        Values below what darkness gives are taken as darkness.
        """
        z = np.asarray(denoised)
        expected, correction = _table(round(self._sigma, 9))
        darkest = expected[0]
        level = np.maximum(np.asarray(z, np.float64), darkest)
        photons = level**2 / 4 - 0.375 - self._sigma**2 + np.interp(level, expected, correction)
        counts: npt.NDArray[Any] = np.maximum(photons, 0.0) * self.gain + self.offset
        return counts if z.dtype == np.float64 else counts.astype(np.float32)

    @property
    def _sigma(self) -> float:
        return self.read_noise / self.gain


@lru_cache(maxsize=16)
def _table(sigma: float) -> tuple[FloatArray, FloatArray]:
    """Return expected stabilised values, growing, and what to add to the algebraic inverse of each."""
    photons = np.concatenate([[0.0], np.geomspace(_DIMMEST, _BRIGHTEST, _LEVELS)])
    most = int(_BRIGHTEST + _TAIL * math.sqrt(_BRIGHTEST)) + 64
    stabilised = _over_read_noise(np.arange(most + 1), sigma)
    log_factorial = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, most + 1)))])
    expected = np.empty_like(photons)
    expected[0] = stabilised[0]
    for i, light in enumerate(photons[1:], 1):
        reach = _TAIL * math.sqrt(light)
        n = np.arange(max(0, int(light - reach)), min(most, int(light + reach) + 40) + 1)
        share = np.exp(n * math.log(light) - light - log_factorial[n])
        expected[i] = float(share @ stabilised[n]) / float(share.sum())
    return expected, photons - (expected**2 / 4 - 0.375 - sigma**2)


def _over_read_noise(n: npt.NDArray[np.int64], sigma: float) -> FloatArray:
    """Return the expected stabilised value of n photons, over the read noise."""
    centre: FloatArray = n.astype(np.float64) + (0.375 + sigma**2)
    if sigma == 0:
        return np.asarray(2 * np.sqrt(centre))
    smooth = n > _FAR_FROM_ZERO * sigma
    result = np.empty(n.shape)
    nodes, weights = np.polynomial.hermite_e.hermegauss(_COARSE)
    result[smooth] = _mean_root(centre[smooth], sigma * nodes, weights / weights.sum())
    # The root ends at zero: many nodes in place of a rule for smooth functions.
    nodes = np.linspace(-_TAIL, _TAIL, _FINE)
    weights = np.exp(-(nodes**2) / 2)
    result[~smooth] = _mean_root(centre[~smooth], sigma * nodes, weights / weights.sum())
    return result


def _mean_root(centre: FloatArray, shifts: npt.NDArray[Any], weights: npt.NDArray[Any]) -> FloatArray:
    mean = np.empty(centre.shape)
    for part in range(0, len(centre), 2048):  # so that the table of nodes stays small
        rows = slice(part, part + 2048)
        mean[rows] = 2 * np.sqrt(np.maximum(centre[rows, None] + shifts, 0)) @ weights
    return mean
