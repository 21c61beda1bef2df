"""Noise of movies with few photons or strong pulses, where a photon-transfer fit through medians fails (numpy only).

The squared difference of two frames is 0 in most pixels of such a movie and huge in a few, so that medians of small
groups of pixels lie far below its mean or between two whole numbers of photons. Means over many pixels do not, but
they also count what moves or flashes. The two differ in space: photons fall anywhere, while a structure fills whole
neighbourhoods. So neighbourhoods that vary significantly more than their brightness explains are left out, and the
means of the rest are believed where medians of pixels drawn at random lie off them as the medians of neighbours do.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["FewPhotons"]

FloatArray = npt.NDArray[np.float64]

_TILE = 8  # pixels, edge of a neighbourhood; bands of sampled rows are as high
_ROUNDS = 4
_SIGNIFICANT = 4.0  # standard errors of a neighbourhood's excess
_EXCESS = 0.3  # of the noise
_ALIKE = 1.2  # ratio of medians of neighbours and of pixels drawn at random
_ABOVE = 1.05  # skewed noise has its median below its mean
_MOST_LEFT_OUT = 0.1  # of the neighbourhoods; beyond, the scene moves
_OFF = 1.25  # ratio of the fitted variance to the mean one, beyond which the fit is not believed
_LEAST = 0.25  # of the quietest bin's variance: what a line through the bins keeps everywhere
_STEPS = 10
_UNCERTAIN = (
    0.5  # twice the standard error of a line at its ends, in its variance there, beyond which a user is told
)
_SPARSE = 12.0  # variance of a pixel's variance, in the square of that over its frames; even noise has 2 to 3
_TOGETHER = (
    2.0  # variance of neighbourhoods, in that of as many pixels drawn at random, above which structures vary
)
_MOVES = 6.0  # the same, above which the scene moves; measured: 8 or more, photons alone up to 4


class FewPhotons:
    """Check a photon-transfer line against the mean temporal noise, and replace it where it is off.

    Parameters
    ----------
    mean, variance
        (H, W) of each pixel.
    usable
        (H, W) pixels that count.
    bins
        Flat indices of the usable pixels, from dark to bright.
    group
        Pixels in a group whose median was fitted.
    length
        Frames that the variance was taken from.
    """

    def __init__(
        self,
        mean: FloatArray,
        variance: FloatArray,
        usable: npt.NDArray[np.bool_],
        bins: list[npt.NDArray[np.intp]],
        group: int,
        length: int,
    ) -> None:
        self._length = length
        self._mean, self._variance = mean.ravel(), variance.ravel()
        self._usable, self._bins, self._group = usable.ravel(), bins, group
        self._sizes = np.array([members.size for members in bins], np.float64)
        self._levels = np.array([self._mean[members].mean() for members in bins])
        rows, columns = (np.arange(edge) // _TILE for edge in mean.shape)
        self._tiles = (rows[:, None] * (columns[-1] + 1) + columns).ravel()
        kept = self._leave_structures_out()
        self._drawn, self._neighbours = self._medians(kept)

    def line(self, gain: float, constant: float, is_white: Callable[[], bool]) -> tuple[float, float] | None:
        """Return (gain, constant) of the mean noise where a fitted line is off, None where it is good.

        A line that is not positive at the mean brightness or in the darkest bin of pixels is off in any case.
        Else it stays where `is_white` denies that what varies is noise: a scene moves then.
        """
        found_gain, found_constant = self._line
        middle = float(np.median(self._mean[self._usable]))
        whole = float(np.average(self._levels, weights=self._sizes))
        fitted, measured = (
            np.array([gain * level + constant for level in (middle, whole)]),
            np.array([found_gain * level + found_constant for level in (middle, whole)]),
        )
        least = _LEAST * float(self._means.min())
        if (fitted < least).any():
            return self._line if self._random else _physical_line(self._levels, self._robust, self._sizes)
        ratio = np.maximum(fitted, 1e-30) / np.maximum(measured, 1e-30)
        off = bool(((ratio > _OFF) | (ratio < 1 / _OFF)).any())
        return self._line if off and self._random and is_white() else None

    @property
    def sparse(self) -> bool:
        """Say whether there are so few photons that single ones decide what a pixel varies by."""
        return self._scatter * max(self._length - 1, 1) > _SPARSE

    @property
    def still(self) -> bool:
        """Say whether there are so few photons that two fits differ by chance, and no sign of a scene that moves."""
        return self.sparse and self._clustered < _MOVES

    def uncertain(self, gain: float, constant: float) -> bool:
        """Say whether a line may be off by a factor of two in the darkest or the brightest bin, for lack of photons."""
        if not self.sparse or len(self._levels) < 3:
            return False
        x, y = self._levels, self._means
        fitted = np.maximum(gain * x + constant, _LEAST * max(float(y.min()), 0.0) + 1e-30)
        weights = self._sizes / np.maximum(fitted, 0.05 * float(np.average(fitted, weights=self._sizes)))
        centre = float(np.average(x, weights=weights))
        rest = float((weights * (y - fitted) ** 2).sum()) / (len(y) - 2)
        spread = max(float((weights * (x - centre) ** 2).sum()), 1e-30)
        ends = np.array([0, -1])
        error = np.sqrt(rest * (1 / float(weights.sum()) + (x[ends] - centre) ** 2 / spread))
        return bool((2 * error > _UNCERTAIN * fitted[ends]).any())

    @property
    def _random(self) -> bool:
        """Say whether what varies lies anywhere, as photons do, rather than together, as a structure does."""
        if self._left_out > _MOST_LEFT_OUT or self._drawn > _ABOVE:
            return False
        if 1 / _ALIKE < self._neighbours / max(self._drawn, 1e-30) < _ALIKE:
            return True
        # Medians of so few photons scatter themselves.
        return self.sparse and self._clustered < _TOGETHER

    def _leave_structures_out(self) -> npt.NDArray[np.bool_]:
        """Find the line of mean variance over mean without neighbourhoods that vary for another reason."""
        count = np.maximum(np.bincount(self._tiles, self._usable), 1)
        kept, beyond = self._usable, np.zeros(count.size, np.bool_)
        # Not the mean of a pixel itself, which of few photons holds the very ones that it varies by.
        level_of = np.zeros(self._mean.size)
        for members, level in zip(self._bins, self._levels, strict=True):
            level_of[members] = level
        for _ in range(_ROUNDS):
            self._means = np.array([self._mean_of(members, kept) for members in self._bins])
            self._line = _physical_line(self._levels, self._means, self._sizes)
            expected = np.maximum(self._line[0] * level_of + self._line[1], _LEAST * self._means.min())
            excess = np.where(self._usable, self._variance - expected, 0.0)
            level = np.bincount(self._tiles, excess) / count
            spread = np.bincount(self._tiles, excess**2) / count - level**2
            # Of few photons a neighbourhood sees too few to tell its own scatter.
            scatter = np.square(excess[kept]).mean() / max(float(np.square(expected[kept]).mean()), 1e-30)
            noise = np.bincount(self._tiles, np.where(self._usable, expected, 0.0)) / count
            pooled = scatter * noise**2 / count
            error = np.sqrt(np.maximum(np.maximum(spread, 0.0) / count, pooled))
            beyond = (level > _SIGNIFICANT * error) & (level > _EXCESS * noise)
            kept = self._usable & ~beyond[self._tiles]
        self._left_out = float(beyond.mean())
        rest = ~beyond
        self._clustered = float(np.square(level[rest]).sum()) / max(float(pooled[rest].sum()), 1e-30)
        self._scatter = float(scatter)
        return kept

    def _mean_of(self, members: npt.NDArray[np.intp], kept: npt.NDArray[np.bool_]) -> float:
        chosen = members[kept[members]]
        return float(self._variance[chosen if chosen.size else members].mean())

    def _medians(self, kept: npt.NDArray[np.bool_]) -> tuple[float, float]:
        """Return medians of groups over means, of pixels drawn at random from each bin and of neighbours in it."""
        random = np.random.default_rng(0)
        total, drawn, neighbours = 0.0, 0.0, 0.0
        self._robust = np.empty_like(self._means)
        for i, (members, size, mean) in enumerate(zip(self._bins, self._sizes, self._means, strict=True)):
            chosen = members[kept[members]]
            values = self._variance[chosen if chosen.size >= self._group else members]
            groups = max(1, values.size // self._group)
            total += size * mean
            self._robust[i] = _median(values, groups)
            neighbours += size * self._robust[i]
            drawn += size * _median(random.permutation(values), groups)
        return drawn / max(total, 1e-30), neighbours / max(total, 1e-30)


def _median(values: FloatArray, groups: int) -> float:
    whole = values[: values.size // groups * groups]
    return float(np.median(whole.reshape(groups, -1).mean(1)))


def _physical_line(x: FloatArray, y: FloatArray, sizes: FloatArray) -> tuple[float, float]:
    """Fit y = gain * x + constant: gain >= 0, positive at every x, the mean of y kept.

    Errors of means of few pulses grow as the root of the light, so bins weigh as their size over their variance. A
    gain below two standard errors is set to 0.
    """
    level = float(np.average(y, weights=sizes))
    least = _LEAST * max(float(y.min()), 0.0)
    fitted, gain, constant = np.full_like(y, level), 0.0, level
    for _ in range(_STEPS):
        weights = sizes / np.maximum(fitted, 0.05 * level + 1e-30)
        centre, height = float(np.average(x, weights=weights)), float(np.average(y, weights=weights))
        spread = float((weights * (x - centre) ** 2).sum())
        if spread <= 1e-12 * float(weights.sum()) * max(centre**2, 1e-30):
            return 0.0, level
        gain = max(0.0, float((weights * (x - centre) * (y - height)).sum()) / spread)
        constant = height - gain * centre
        fitted = gain * x + constant
    if len(y) > 2:
        error = np.sqrt(float((weights * (y - fitted) ** 2).sum()) / (len(y) - 2) / spread)
        gain = 0.0 if gain < 2 * error else gain
    # Turned about the mean of all pixels, which so stays what was measured.
    middle, darkest = float(np.average(x, weights=sizes)), float(x.min())
    if gain * (darkest - middle) + level < least:
        gain = (level - least) / max(middle - darkest, 1e-30)
    return gain, level - gain * middle
