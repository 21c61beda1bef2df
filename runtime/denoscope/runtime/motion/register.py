"""Rigid displacement of each frame against a running reference, numpy only."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.noise.noise import Intensity

from .detail import LARGEST, binned, binning

__all__ = ["AT_FIRST", "REACH", "Registration"]

REACH = 16  # pixels that the scene may move from where it began

Image = npt.NDArray[np.floating[Any]]
Complex64 = npt.NDArray[np.complex64]
Pair = npt.NDArray[np.float64]  # rows, columns

_FINEST_PX = 1.0  # structure below and above these scales does not count:
_COARSEST_PX = 10.0  # noise, and brightness that changes with activity
_MEMORY = 40.0  # frames, time constant of the reference
_SIGMAS = 1.6  # evidence for moving, in standard deviations of what noise alone would do,
AT_FIRST = 4.5  # and while nothing says yet that there is a scene to follow
_EVEN = 1 / 12  # variance of what is even over a pixel
_HALF = 0.499  # pixels: rounding a displacement must give its whole pixels again


class Registration:
    """Follow the rigid displacement of a movie, frame by frame.

    Cross-correlation of the band-passed frame with an exponential average of the aligned past, both
    kept as spectra of a binned image, so that the cost hardly grows with the frame. A displacement
    other than the last one is accepted only if it correlates better by several standard deviations of
    what the camera's noise would do, so that a still movie is not moved at all.

    Parameters
    ----------
    shape
        (H, W) of the frames.
    intensity
        Transform and noise of the session.
    reach
        Largest displacement looked for, in pixels, in y and in x.
    sigmas
        Standard deviations by which another displacement must correlate better.
    largest
        Pixels of an edge after binning.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        intensity: Intensity,
        reach: int,
        *,
        sigmas: float = _SIGMAS,
        largest: int = LARGEST,
    ) -> None:
        self.reach = reach
        self._sigmas = sigmas
        self._unit = intensity
        self._bin, self._size = binning(shape, largest)
        rows, columns = self._size
        taper = np.hanning(rows + 2)[1:-1, None] * np.hanning(columns + 2)[None, 1:-1]
        self._taper = taper.astype(np.float32)
        self._fy = np.fft.fftfreq(rows)[:, None]
        self._fx = np.fft.rfftfreq(columns)[None, :]
        radius = np.hypot(self._fy, self._fx) / self._bin  # cycles per pixel of the frame
        low = np.exp(-2 * (np.pi * radius * _FINEST_PX) ** 2)
        high = 1 - np.exp(-2 * (np.pi * radius * _COARSEST_PX) ** 2)
        self._band = (low * high).astype(np.float32)
        self._taper_share = float(np.square(taper).mean())  # of white noise that passes the taper,
        # and of its product with a scene that has passed it too
        self._taper_twice = float((taper**4).mean()) / self._taper_share
        twice = np.full(self._fx.shape, 2.0)  # half spectra hold each of these columns once for two
        twice[0, 0] = 1.0
        if columns % 2 == 0:
            twice[0, -1] = 1.0
        self._weights = (twice / (rows * columns)).astype(np.float32)
        self._two_apart = [1 - np.cos(4 * np.pi * f).astype(np.float32) for f in (self._fy, self._fx)]
        self._band_energy = float((np.square(self._band) * self._weights).sum()) * rows * columns
        self.restart()

    def restart(self) -> None:
        """Forget the reference: the next frame has the displacement (0, 0)."""
        self._reference: Complex64 | None = None
        self._age = 0
        self._shift = (0, 0)
        self._rest = (0.0, 0.0)
        self._total: Pair = np.zeros(2)
        self._motion = 0.0
        self._changes = self._explained = 0.0

    @property
    def explained(self) -> float:
        """Share of what changed between frames and reference, beyond noise, that alignment explains."""
        return self._explained / self._changes if self._changes > 0 else 0.0

    @property
    def rest(self) -> tuple[float, float]:
        """Rest of the last frame's displacement (y, x) beyond whole pixels, each within half a pixel.

        It is the top of a parabola through the correlation, drawn towards 0 as far as noise may have made it: the
        posterior mean, where beforehand a frame moves as frames have moved so far, at most evenly over a pixel.
        """
        return self._rest

    @property
    def measured(self) -> Pair:
        """The last frame's displacement (y, x) in pixels as it was measured, noise included."""
        return self._total

    def follow(self, frame: npt.NDArray[Any]) -> tuple[int, int]:
        """Return the displacement (y, x) of a frame from the reference, in whole pixels; `rest` has the rest.

        Parameters
        ----------
        frame
            (H, W) raw counts.
        """
        return self.follow_image(binned(frame, self._bin, self._size, self._unit))

    def follow_image(self, image: Image) -> tuple[int, int]:
        """Do the same with a frame that has been normalised and binned."""
        spectrum = np.fft.rfft2(image * self._taper).astype(np.complex64) * self._band
        if self._reference is not None:
            self._shift = self._displacement(spectrum, float(image.mean()))
        self._update(spectrum)
        return self._shift

    def _displacement(self, spectrum: Complex64, level: float) -> tuple[int, int]:
        """Return the best displacement if it is better than the last one beyond doubt, else the last."""
        assert self._reference is not None
        b = self._bin
        noise = max(self._unit.noise_slope * level + 1, self._unit.noise_floor) / b**2
        correlation = np.fft.irfft2(spectrum * np.conj(self._reference), s=self._size)
        chosen = self._choose(correlation, noise)
        top, variance = self._beyond(correlation, chosen, noise)
        self._rest, gain = self._believed(correlation, chosen, top, variance)
        power = self._energy(spectrum) + self._energy(self._reference) - 2 * float(correlation[0, 0])
        self._changes += power - noise * self._taper_share * self._band_energy * (1 + 1 / self._age)
        self._explained += 2 * (_at(correlation, chosen, b) + gain - float(correlation[0, 0]))
        return chosen

    def _choose(self, correlation: Image, noise: float) -> tuple[int, int]:
        assert self._reference is not None
        found, b = self._peak(correlation), self._bin
        if found == self._shift:
            return found
        gain = _at(correlation, found, b) - _at(correlation, self._shift, b)
        # Given the reference, the frame's white noise gives the correlation this variance.
        own = np.fft.irfft2(np.square(np.abs(self._reference) * self._band), s=self._size)
        apart = found[0] - self._shift[0], found[1] - self._shift[1]
        variance = 2 * noise * self._taper_twice * (own[0, 0] - _at(own, apart, b))
        return found if gain > self._sigmas * np.sqrt(max(variance, 0.0)) else self._shift

    def _beyond(self, correlation: Image, chosen: tuple[int, int], noise: float) -> tuple[Pair, Pair]:
        """Return how far from the chosen displacement the correlation has its top, and the variance of that."""
        assert self._reference is not None
        power = np.square(np.abs(self._reference) * self._band) * self._weights
        top, variance = np.zeros(2), np.full(2, np.inf)
        for axis in range(2):
            left, middle, right, lag = self._across(correlation, chosen, axis)
            bend = 2 * middle - left - right
            if bend <= 0:
                continue
            # Given the reference, the noise of left and right differs by this variance, as in `_choose`.
            apart = 2 * noise * self._taper_twice * float((power * self._two_apart[axis]).sum())
            top[axis] = self._bin * (lag + np.clip(0.5 * (right - left) / bend, -0.5, 0.5)) - chosen[axis]
            variance[axis] = (0.5 * self._bin / bend) ** 2 * apart * (1 + 1 / self._age)
        return top, variance

    def _believed(
        self, correlation: Image, chosen: tuple[int, int], top: Pair, variance: Pair
    ) -> tuple[tuple[float, float], float]:
        """Return the rest as far as it is believed, and by how much the correlation is higher there."""
        self._total = np.array(chosen) + top
        known = np.isfinite(variance)
        if known.any():
            moved = np.square(self._total[known])
            share = max(1 / self._age, 1 / _MEMORY)
            self._motion += share * (float((moved - variance[known]).mean()) - self._motion)
        prior = min(max(self._motion, 0.0), _EVEN)
        rest = np.clip(top * prior / (prior + variance), -_HALF, _HALF) if prior else np.zeros(2)
        gain = 0.0
        for axis in range(2):
            left, middle, right, lag = self._across(correlation, chosen, axis)
            there, here = (np.array([chosen[axis] + rest[axis], chosen[axis]]) / self._bin) - lag
            slope, bend = (right - left) / 2, 2 * middle - left - right
            gain += float(slope * (there - here) - bend / 2 * (there**2 - here**2))
        return (float(rest[0]), float(rest[1])), gain

    def _across(
        self, correlation: Image, chosen: tuple[int, int], axis: int
    ) -> tuple[float, float, float, int]:
        """Return the correlation before, at and after the chosen displacement along an axis, and its lag in bins."""
        lag = [round(c / self._bin) for c in chosen]
        found = []
        for step in (-1, 0, 1):
            at = list(lag)
            at[axis] += step
            found.append(float(correlation[at[0] % self._size[0], at[1] % self._size[1]]))
        return found[0], found[1], found[2], lag[axis]

    def _energy(self, spectrum: Complex64) -> float:
        """Return the sum of squares of the image that has this half spectrum."""
        return float((np.square(np.abs(spectrum)) * self._weights).sum())

    def _peak(self, correlation: Image) -> tuple[int, int]:
        """Return the lag of the highest correlation within reach, in pixels of the frame."""
        b = self._bin
        ry, rx = (max(min(self.reach // b, n // 2 - 1), 0) for n in self._size)
        near = np.roll(correlation, (ry, rx), axis=(0, 1))[: 2 * ry + 1, : 2 * rx + 1]
        y, x = np.unravel_index(int(near.argmax()), near.shape)
        fine_y, fine_x = y + _vertex(near[:, x], int(y)), x + _vertex(near[y], int(x))
        return round(float(b * (fine_y - ry))), round(float(b * (fine_x - rx)))

    def _update(self, spectrum: Complex64) -> None:
        """Average the spectrum, moved back to the reference, into it."""
        y, x = ((s + r) / self._bin for s, r in zip(self._shift, self._rest, strict=True))
        back = np.exp(2j * np.pi * (self._fy * y)) * np.exp(2j * np.pi * (self._fx * x))
        aligned = (spectrum * back).astype(np.complex64)
        self._age += 1
        share = max(1 / self._age, 1 / _MEMORY)
        if self._reference is None:
            self._reference = aligned
        else:
            self._reference += np.float32(share) * (aligned - self._reference)


def _at(correlation: Image, lag: tuple[int, int], binning: int) -> float:
    """Return the correlation at a lag given in pixels of the frame, bilinear between bins."""
    rows, columns = correlation.shape
    y, x = lag[0] / binning, lag[1] / binning
    top, left = int(np.floor(y)), int(np.floor(x))
    v, u = y - top, x - left
    corner = correlation[np.ix_([top % rows, (top + 1) % rows], [left % columns, (left + 1) % columns])]
    return float(np.array([1 - v, v]) @ corner @ np.array([1 - u, u]))


def _vertex(values: Image, peak: int) -> float:
    """Return the offset of a parabola's top through the peak and its neighbours, -0.5 to 0.5."""
    if not 0 < peak < len(values) - 1:
        return 0.0
    left, middle, right = (float(v) for v in values[peak - 1 : peak + 2])
    bend = left - 2 * middle + right
    return 0.0 if bend >= 0 else float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5))
