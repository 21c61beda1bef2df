"""Predicted standard deviation of a region's mean, whose pixels' errors are not independent.

The errors of neighbouring denoised pixels are alike, so that the mean of n pixels is less certain than n independent
ones would make it: its variance is K times the mean predicted variance over n, and n / K is the effective number of
independent pixels. K is computed for each region from n and from what its traces have shown so far: the scatter of the
raw mean, of the difference between raw and denoised mean, and of the denoised mean, from frame to frame.

The raw mean is noisy but has no error that lasts, which the denoised one may have, of cells that it mixes with their
surroundings for example. So the mean difference between both in the last frames, squared, adds to the variance. The
numbers below are a fit to simulated movies; see decisions 68 and 117.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["MeanDeviation"]

Values = npt.NDArray[np.float64]

# Of log K: constant, log n, square of log n; then the variance that denoising leaves, the variance of the residual
# mean, both over that of the raw mean, the variance of the denoised mean's change over the independent one, and the
# square of the first of these.
_SIZE = (-0.511, 1.022, -0.0667)
_SEEN = (0.6861, 0.8498, -0.0549, 0.6942, 0.4414, 0.1611, 0.116)
_LASTING = 0.615  # of the squared mean difference between raw and denoised mean
_LAST = 8  # frames of that mean
_LEAST = 30  # frames before the traces' own scatter is believed
_MEMORY = 1000  # frames over which it is averaged
_MOST_CHANGE = 30.0  # independent variances; a change beyond is the scene's, not the error's (decision 76)
_NORMAL = 0.7979  # mean of the absolute value of a standard normal number


class MeanDeviation:
    """Follow the effective number of independent pixels of many regions.

    Parameters
    ----------
    sizes
        Pixels of each region.
    """

    def __init__(self, sizes: npt.NDArray[np.int64]) -> None:
        self._sizes = sizes.astype(np.float64)
        log = np.log(self._sizes)
        self._of_size: Values = np.exp(_SIZE[0] + _SIZE[1] * log + _SIZE[2] * log**2)
        self._seen_size: Values = _SEEN[0] + _SEEN[1] * log + _SEEN[2] * log**2
        self._means = np.zeros((4, len(sizes)))
        self._difference = np.zeros(len(sizes))
        self._before: tuple[Values, Values] | None = None
        self._frames = self._seen = 0
        self.factor = self._of_size

    def add(self, raw: Values, denoised: Values, variance: Values) -> Values:
        """Take one frame; return the predicted standard deviation of each region's denoised mean.

        Parameters
        ----------
        raw, denoised
            Means of the regions.
        variance
            Means of the predicted variances of their pixels.
        """
        deviation: Values = np.sqrt(self.factor * variance / self._sizes + self._lasting(raw, denoised))
        self._learn(raw, denoised, variance / self._sizes)
        return deviation

    def replay(self, raw: Values, denoised: Values, deviation: Values) -> None:
        """Take a frame whose deviation is known, of traces that are continued."""
        of_pixels = np.maximum(deviation**2 - self._lasting(raw, denoised), 0.0)
        self._learn(raw, denoised, of_pixels / self.factor)

    def _lasting(self, raw: Values, denoised: Values) -> Values:
        """Take the difference of a frame; return the variance that lasting differences add, 0 in the first frames."""
        self._seen += 1
        step = (raw - denoised - self._difference) / min(self._seen, _LAST)
        self._difference += np.where(np.isfinite(step), step, 0.0)
        added: Values = (_LASTING if self._frames >= _LEAST else 0.0) * self._difference**2
        return added

    def _learn(self, raw: Values, denoised: Values, independent: Values) -> None:
        """Let a frame's means change the factor of the frames after it."""
        if self._before is not None:
            change = np.abs(denoised - self._before[1]) / np.sqrt(np.maximum(independent, 1e-30))
            now = np.stack(
                [independent, (raw - denoised) ** 2, (raw - self._before[0]) ** 2 / 2, change],
            )
            now = np.where(np.isfinite(now), now, self._means)
            self._frames += 1
            self._means += (now - self._means) / min(self._frames, _MEMORY)
            if self._frames >= _LEAST:
                self.factor = self._from_traces()
        self._before = raw, denoised

    def _from_traces(self) -> Values:
        left, residual, scatter, change = self._means
        scatter = np.maximum(scatter, 1e-30)
        kept = np.log(1e-3 + left / scatter)
        log = (
            self._seen_size
            + _SEEN[3] * kept
            + _SEEN[4] * np.log(1e-2 + residual / scatter)
            + _SEEN[5] * np.log(1e-3 + np.minimum((change / _NORMAL) ** 2 / 2, _MOST_CHANGE))
            + _SEEN[6] * kept**2
        )
        # Beyond what was ever seen the fit says nothing.
        factor: Values = np.exp(np.clip(log, np.log(self._of_size / 4), np.log(self._of_size * 4)))
        return factor
