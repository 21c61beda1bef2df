"""Give a denoised frame the light that was measured, where light changes as a whole.

The total light of a frame is known to a fraction of a percent from its raw pixels. Bringing frames to one light before
they are mixed keeps most of a change; what the fit of the change misses, and what the network takes for noise, is
found by comparing the blocks of the denoised frame with those of the measured one. The difference is a number of counts
for all pixels and a factor of the contrast. Each is weighed by the error that is likely against the error of its
measurement, so that single pixels get no noise back. Only frames of the window are used, so a frame comes out the same
wherever a run begins. Where the light is steady nothing is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import log
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.artefacts.light import STEADY, LightMeter, Lit

__all__ = ["Change", "change_of_mean", "changed", "lost_in_rounding", "missing_light", "some_counts_more"]

Frame = npt.NDArray[Any]
Array = npt.NDArray[np.float64]

_MISSED = 0.2  # of a change of light, likely to be missing from a denoised frame; measured: up to 0.25
_MISSED_DRIFT = 0.5  # the same of a drift, behind which the memory lags
_MISSED_CONTRAST = 0.08  # the same of the contrast, which activity changes too
_LEAST_CONTRAST = 0.03  # where light changes at all
_MOST_MISSED = 3.0  # of that; more is no fault of the light, and the guard shall see it
_DRIFT = 1.5  # standard errors of one frame by which steady light must have drifted in the mean of some,
_TREND = 3.5  # the same of the trend within a window
# Of the light and of the contrast, likely to be missing at one photon. Behind a fade that is not seen the memory lags,
# so the light that is missing is the same for long, and half of it matters more than the noise of a mean.
_UNSEEN, _UNSEEN_CONTRAST = 0.04, 0.04
_LEAST = 0.005  # and the share of the light
_FEWEST = 4  # frames of one light through whose means a line is drawn
_STEADY = 1.5  # variance of their means about it, in that of the noise, up to which it is believed
_STILL, _STILL_ALL = 2.5, 1.1  # the same of a single block, and of all
_MOST = 0.5  # of the contrast that is changed
_NOTHING = 0.02  # of a count
_TOLERANCE, _TOLERANCE_OF_LIGHT = 0.02, 0.002  # counts, and share of the light, that rounding may hide
_SAMPLED, _SAMPLED_DARK = 4096, 512  # pixels, at least, that tell, and of which the darkest third is known
_SPREAD = 0.7548776662, 0.5698402910, 0.6180339887  # along rows, columns, frames: places evenly apart
_SHARED = 3.0  # over the root of the rows: scatter beyond that of pixels, from which on rows share noise


@dataclass(frozen=True, slots=True)
class Change:
    """A denoised frame shall become ``factor * frame + shift``, in counts; `tolerance` of them may be lost."""

    factor: float
    shift: float
    tolerance: float = 0.0


def missing_light(
    made: Frame,
    own: Lit,
    around: Sequence[Lit],
    meter: LightMeter,
    above: float | None = None,
    *,
    unseen: bool = False,
    moves: bool = False,
) -> Change | None:
    """Return factor and shift that give a denoised frame (H, W) the light and the contrast of the measured one.

    Parameters
    ----------
    made
        The denoised frame.
    own, around
        The measured frame, and those of its window, itself among them.
    meter
        Of the movie.
    above
        Its `light_above` for the frame, as it was when the frame was due; None to ask for it now.
    unseen
        Look for what is missing from frames in steady light only: of few photons light changes unseen.
    moves
        The scene moves, so that its structures change the means of the frame and of its blocks.

    Returns
    -------
    Change or None
        None where it can stay as it is.
    """
    steady = all(lit.light is STEADY for lit in around)
    light = max(meter.light_above(own.mean) if above is None else above, 1e-12)
    trend = _trend(around) if steady else 0.0
    if steady and not (max(abs(own.drift), abs(trend)) > _LEAST * light or unseen):
        return None
    variance = meter.variance_of(own.blocks)
    count = len(variance)
    error = float(variance.mean()) / count  # squared
    drift = _drift(own, trend, light, error)
    if drift and moves and not (own.even or meter.is_even(_rise(around))):
        drift = 0.0
    drifts = drift != 0
    if unseen if drifts or not steady else not unseen:
        return None
    found = meter.blocks_of(made)
    # Not by the measured blocks, of which those that are dark by noise would weigh more.
    variance = meter.variance_of(found)
    measured, errors = (own.blocks, 1.0) if moves else _measured_blocks(own, around, meter, variance)
    missing = measured - found
    if not np.isfinite(missing).all():
        return None
    weight = 1 / (errors * variance)
    centre = float(found.mean())
    x = found - centre
    spread_x = max(float(weight @ (x * x)), 1e-30)
    # Through the means, so that dim blocks, which have most of the weight, are right together with the mean.
    lack = float(missing.mean())
    slope = float(weight @ (x * (missing - lack))) / spread_x
    left = missing - lack - slope * x
    spread = max(1.0, float(weight @ (left * left)) / count)  # beyond noise
    noise = error  # as the camera's alone
    own_left = own.blocks - found - slope * x
    shared = meter.line_error(own_left - float(own_left.mean())) ** 2
    # Lines that share noise move the mean more than pixels do.
    if shared > (1 + _SHARED / meter.rows**0.5) ** 2 * error:
        spread = max(spread, shared / error)
        drifts = drifts and _drift(own, trend, light, shared) != 0
        if steady and not (drifts or unseen):
            return None
    error *= spread
    mean, leverage = _level(own, around, error)
    error *= leverage
    lack = mean - centre
    few = meter.few_photons
    likely = max(_likely_missed(own, around, drift), _UNSEEN * few * light)
    if abs(lack) > _MOST_MISSED * likely + 6 * noise**0.5:
        return None
    contrast = _MISSED_CONTRAST / _MISSED * likely / light
    contrast = max(contrast, _UNSEEN_CONTRAST * few, 0.0 if unseen else _LEAST_CONTRAST)
    if not steady:
        contrast = max(contrast, few * _other_noise(own, around, meter))
    lack *= _share(likely, error)
    slope *= _share(contrast, spread / spread_x)
    slope = min(max(slope, -_MOST), _MOST)
    low, high = float(found.min()), float(found.max())
    most = max(abs(lack + slope * (low - centre)), abs(lack + slope * (high - centre)))
    if made.dtype.kind != "f" and most < _NOTHING:
        return None
    return Change(1 + slope, lack - slope * centre, max(_TOLERANCE, _TOLERANCE_OF_LIGHT * light))


def change_of_mean(made: Frame, change: Change) -> float:
    """Return by how many counts a change moves the mean of a frame."""
    return (change.factor - 1) * float(made.mean()) + change.shift


def lost_in_rounding(made: Frame, rounded: Frame, change: Change) -> bool:
    """Say whether whole counts hide a change: in the mean of all pixels, or of the darkest third.

    Parameters
    ----------
    made, rounded
        The frame before the change and after it.
    change
        Factor and shift.
    """
    if made.dtype.kind == "f":
        return False
    step = max(1, int((made.size / _SAMPLED) ** 0.5))
    before = made[::step, ::step].ravel()
    off = rounded[::step, ::step].ravel() - (np.float32(change.factor) * before + np.float32(change.shift))
    if abs(float(off.mean())) > change.tolerance:
        return True
    some = before[:: max(1, before.size // _SAMPLED_DARK)]  # the darkest third, about
    dark = before <= np.partition(some, some.size // 3)[some.size // 3]
    mean = float(off @ dark.astype(np.float32)) / int(np.count_nonzero(dark))
    return abs(mean) > change.tolerance


def some_counts_more(made: Frame, missing: float, number: int) -> Frame:
    """Return a frame of whole counts with one count more, or less, in as many pixels as its mean lacks.

    Where an even background is rounded alike in all pixels, no shift of it moves the mean by a part of a count.

    Parameters
    ----------
    made
        The frame (H, W).
    missing
        Of the mean, in counts; at most half a count is given.
    number
        Of the frame: the pixels are spread evenly, and are others in the next frame.
    """
    height, width = made.shape
    down, across, onward = _SPREAD
    places = np.add.outer(np.arange(height) * down + number * onward, np.arange(width) * across) % 1
    chosen = places < min(abs(missing), 0.5)
    lowest, highest = _limits(made.dtype)
    chosen &= (made < highest) if missing > 0 else (made > lowest)
    one = chosen.astype(made.dtype)
    return np.asarray(made + one if missing > 0 else made - one)


def changed(made: Frame, change: Change) -> Frame:
    """Return ``factor * made + shift`` in the dtype of the frame."""
    factor, shift = change.factor, change.shift
    if made.dtype.kind == "f":
        return np.asarray(made * made.dtype.type(factor) + made.dtype.type(shift))
    lowest, highest = _limits(made.dtype)
    counts = made.astype(np.float32)
    counts *= np.float32(factor)
    ends = sorted((factor * float(made.min()) + shift, factor * float(made.max()) + shift))
    if ends[0] > max(lowest, 0) + 1 and ends[1] < highest - 1:
        counts += np.float32(shift + 0.5)  # is rounded by being cut off, which takes half the time
        return counts.astype(made.dtype)
    counts += np.float32(shift)
    return np.clip(np.rint(counts, out=counts), lowest, highest, out=counts).astype(made.dtype)


@cache
def _limits(dtype: np.dtype[Any]) -> tuple[int, int]:
    limits = np.iinfo(dtype)
    return int(limits.min), int(limits.max)


def _share(likely: float, error: float) -> float:
    """Return the share of a measured deviation to believe, by its likely size and its squared error."""
    return likely * likely / max(likely * likely + error, 1e-30)


def _likely_missed(own: Lit, around: Sequence[Lit], drift: float) -> float:
    """Return how many counts a denoised frame likely lacks, by how much the light of its window changes."""
    means = [lit.mean for lit in around]
    before = (own.mean - own.light.offset) / own.light.gain  # in the reference's light
    return max(_MISSED * max(max(means) - min(means), abs(own.mean - before)), _MISSED_DRIFT * abs(drift))


def _trend(around: Sequence[Lit]) -> float:
    """Return by how many counts the means of the frames of a window rise from the first to the last, along a line."""
    count = len(around)
    if count < _FEWEST:
        return 0.0
    # A dozen numbers: plain Python takes a fifth of the time of arrays.
    centre = sum([lit.number for lit in around]) / count
    rising = spread = 0.0
    for lit in around:
        t = lit.number - centre
        rising += t * lit.mean
        spread += t * t
    return rising / spread * (around[-1].number - around[0].number)


def _rise(around: Sequence[Lit]) -> Array:
    """Return the same of the blocks of the frames."""
    t = np.array([lit.number for lit in around], np.float64)
    t -= t.mean()
    blocks = np.stack([lit.blocks for lit in around])
    return np.asarray(t @ blocks / max(float(t @ t), 1.0) * float(t[-1] - t[0]))


def _drift(own: Lit, trend: float, light: float, error: float) -> float:
    """Return by how many counts steady light has drifted, against the squared error of a mean; 0 where none is seen."""
    seen = [own.drift] if own.drift**2 > _DRIFT**2 * error else []
    seen += [trend] if trend**2 > _TREND**2 * error else []
    drift = max(seen, key=abs, default=0.0)
    return drift if abs(drift) > _LEAST * light else 0.0


def _measured_blocks(
    own: Lit, around: Sequence[Lit], meter: LightMeter, variance: Array
) -> tuple[Array, Array | float]:
    """Return the blocks of a measured frame, and their squared errors in those of the one frame.

    Where a block of the frames of the window, brought to the light of the frame, lies on a line in time but for its
    noise, it is taken from the line. A scene that moves is not: a mean over its frames has too little contrast.
    """
    count = len(around)
    if count < _FEWEST:
        return own.blocks, 1.0
    frames = np.array([lit.blocks for lit in around])
    means = np.add.reduce(frames, axis=1) / frames.shape[1]
    gains = own.light.gain / np.array([lit.light.gain for lit in around])
    frames -= means[:, None]
    frames *= gains[:, None]
    noise = gains * gains * meter.variance_of(means)
    numbers = [lit.number for lit in around]
    mine = numbers.index(own.number)
    weight = noise[mine] / noise if (gains != 1).any() else np.ones(count)
    total = float(weight.sum())
    t = np.array(numbers, np.float64)
    t -= float(weight @ t) / total
    weighted = weight * t
    spread = float(weighted @ t)
    level, rise, squares = weight @ frames / total, weighted @ frames / spread, weight @ np.square(frames)
    spreads = (squares - total * np.square(level) - spread * np.square(rise)) / ((count - 2) * variance)
    if not float(spreads.mean()) < _STILL_ALL:
        return own.blocks, 1.0
    still = spreads < _STILL
    at = float(t[mine])
    level += own.mean + at * rise
    return np.where(still, level, own.blocks), np.where(still, 1 / total + at**2 / spread, 1.0)


def _other_noise(own: Lit, around: Sequence[Lit], meter: LightMeter) -> float:
    """Return by how much the noise of a frame in the reference's light differs from that of its window.

    The graphs see a frame in units of its noise, so that in a window of bright and dark frames the contrast of a dark
    one becomes too high by about that share of it that few photons have, and that of a bright one too low.
    """
    variances = meter.variance_of(np.array([lit.mean for lit in around]))
    variances /= np.square([lit.light.gain for lit in around])
    mine = [lit.number for lit in around].index(own.number)
    return abs(0.5 * log(float(variances[mine] / variances.mean())))


def _level(own: Lit, around: Sequence[Lit], error: float) -> tuple[float, float]:
    """Return the mean of a frame, and its squared error in that of one frame's mean.

    Where frames of one light lie on a line in time but for their noise, it is that of the line.
    """
    if len(around) >= _FEWEST and all(lit.light is own.light for lit in around):
        means = np.array([lit.mean for lit in around])
        t = np.array([lit.number - own.number for lit in around], np.float64)
        centre = float(t.mean())
        spread = float(np.square(t - centre).sum())
        slope = float((t - centre) @ means) / spread
        level = float(means.mean()) - slope * centre
        left = means - level - slope * t
        if float(left @ left) / (len(means) - 2) < _STEADY * error and abs(own.mean - level) < 2 * error**0.5:
            return level, 1 / len(means) + centre**2 / spread
    return own.mean, 1.0
