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
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.artefacts.light import STEADY, LightMeter, Lit

__all__ = ["change_of_mean", "changed", "lies_in_rounding", "missing_light"]

Frame = npt.NDArray[Any]
Array = npt.NDArray[np.float64]

_MISSED = 0.2  # of a change of light, likely to be missing from a denoised frame; measured: up to 0.25
_MISSED_CONTRAST = 0.08  # the same of the contrast, which activity changes too
_MOST_MISSED = 3.0  # of that; more is no fault of the light, and the guard shall see it
_DRIFT = 1.5  # standard errors of one frame by which steady light must have drifted in the mean of some,
_UNSEEN = 3.0  # standard errors by which a frame in steady light must be off
_MOST_UNSEEN = 0.03  # of the light
_LEAST = 0.005  # and the share of the light
_FEWEST = 4  # frames of one light through whose means a line is drawn
_STEADY = 1.5  # variance of their means about it, in that of the noise, up to which it is believed
_MOST = 0.5  # of the contrast that is changed
_NOTHING = 0.02  # of a count
_FEW_COUNTS = 4.0
_MANY_COUNTS = 8.0
_SHARED = 3.0  # over the root of the rows: scatter beyond that of pixels, from which on rows share noise


def missing_light(
    made: Frame,
    own: Lit,
    around: Sequence[Lit],
    meter: LightMeter,
    above: float | None = None,
    *,
    unseen: bool = False,
) -> tuple[float, float] | None:
    """Return (factor, shift) that give a denoised frame (H, W) the light and the contrast of the measured one.

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

    Returns
    -------
    tuple or None
        The frame shall become ``factor * made + shift``, in counts. None where it can stay as it is.
    """
    steady = all(lit.light is STEADY for lit in around)
    light = max(meter.light_above(own.mean) if above is None else above, 1e-12)
    drifts = abs(own.drift) > _LEAST * light
    if steady and not (drifts or unseen):
        return None
    variance = meter.variance_of(own.blocks)
    count = len(variance)
    error = float(variance.mean()) / count  # squared
    drifts &= own.drift**2 > _DRIFT**2 * error
    if unseen if drifts or not steady else not unseen:
        return None
    found = meter.blocks_of(made)
    missing = own.blocks - found
    if not np.isfinite(missing).all():
        return None
    weight = 1 / variance
    total = float(weight.sum())
    x = found - float(weight @ found) / total
    spread_x = max(float(weight @ (x * x)), 1e-30)
    slope = float(weight @ (x * missing)) / spread_x
    left = missing - float(weight @ missing) / total - slope * x
    spread = max(1.0, float(weight @ (left * left)) / count)  # beyond noise
    noise = error  # as the camera's alone
    shared = meter.line_error(left) ** 2
    # Lines with noise of their own move the mean more than pixels do.
    if shared > (1 + _SHARED / meter.rows**0.5) ** 2 * error:
        spread = max(spread, shared / error)
        drifts &= own.drift**2 > _DRIFT**2 * shared
        if steady and not (drifts or unseen):
            return None
    error *= spread
    centre = float(found.mean())
    mean, leverage = _level(own, around, error)
    error *= leverage
    lack = mean - centre
    if steady and abs(lack) < max((1 if drifts else _UNSEEN) * error**0.5, _LEAST * light):
        return None
    means = [lit.mean for lit in around]
    before = (own.mean - own.light.offset) / own.light.gain  # in the reference's light
    likely = _MISSED * max(max(means) - min(means), abs(own.mean - before), abs(own.drift))
    if steady and not drifts:
        likely = max(likely, min(abs(lack) / 2, _MOST_UNSEEN * light))
    if abs(lack) > _MOST_MISSED * likely + 6 * noise**0.5:
        return None
    lack *= _share(likely, error)
    slope *= _share(_MISSED_CONTRAST / _MISSED * likely / light, spread / spread_x)
    slope = min(max(slope, -_MOST), _MOST)
    low, high = float(found.min()), float(found.max())
    most = max(abs(lack + slope * (low - centre)), abs(lack + slope * (high - centre)))
    if made.dtype.kind != "f" and most < _NOTHING:
        return None
    return 1 + slope, lack - slope * centre


def change_of_mean(made: Frame, change: tuple[float, float]) -> float:
    """Return by how many counts a change moves the mean of a frame."""
    factor, shift = change
    return (factor - 1) * float(made.mean()) + shift


def lies_in_rounding(made: Frame, change: tuple[float, float]) -> bool:
    """Say whether a frame of whole numbers is changed by so few counts that they must be added before it is rounded."""
    if made.dtype.kind == "f" or abs(change_of_mean(made, change)) >= _FEW_COUNTS:
        return False
    # Pixels that differ by many counts are rounded up and down alike; a second `fuse` would double a frame's cost.
    some = made[::4, ::4].ravel()
    places = np.array((0.25, 0.75)) * (some.size - 1)
    below = places.astype(np.intp)
    above = np.minimum(below + 1, some.size - 1)
    ordered = np.partition(some, np.unique((below, above)))
    low, high = ordered[below] + (places - below) * (ordered[above].astype(np.float64) - ordered[below])
    return bool(high - low < _MANY_COUNTS)


def changed(made: Frame, change: tuple[float, float]) -> Frame:
    """Return ``factor * made + shift`` in the dtype of the frame."""
    factor, shift = change
    if made.dtype.kind == "f":
        return np.asarray(made * made.dtype.type(factor) + made.dtype.type(shift))
    limits = np.iinfo(made.dtype)
    counts = made.astype(np.float32)
    counts *= np.float32(factor)
    counts += np.float32(shift)
    np.rint(counts, out=counts)
    np.clip(counts, limits.min, limits.max, out=counts)
    return counts.astype(made.dtype)


def _share(likely: float, error: float) -> float:
    """Return the share of a measured deviation to believe, by its likely size and its squared error."""
    return likely * likely / max(likely * likely + error, 1e-30)


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
