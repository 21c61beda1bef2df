"""Keep the mean of frames whose noise is skewed, which a network that was trained on even noise makes too dark.

With few photons most pixels show none and a few show much. What a network then believes lies between the median of such
values and their mean: at 0.05 photons a pixel a sixth of the light was lost. The total light of a frame is known
well, from all of its pixels, so the difference of the means of the measured and the denoised frame is added to
the denoised one. Only frames of the window are compared, and nothing else is remembered, so that a frame comes out
the same wherever a run begins.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .noise import Intensity

__all__ = ["Measured", "keep_mean", "light_of"]

Frame = npt.NDArray[Any]

_FEW = 0.5  # growth of the variance with the light (one over the root of the photons) above which frames are looked at
_SAMPLED = 16384  # pixels, at least, from which the skewness is taken
_EVEN, _SKEWED = 0.75, 1.5  # skewness of the noise up to which nothing is done, and from which all is
_FEWEST = 4  # frames whose spread says whether the light changed
_STEADY = 1.4  # standard errors that the means of frames may spread by
_WHOLE = 0.5  # of a count; less cannot be added to whole numbers


@dataclass(frozen=True, slots=True)
class Measured:
    """Mean of a measured frame, and a sample of its pixels."""

    mean: float
    sample: Frame


def light_of(frame: Frame, intensity: Intensity | None) -> Measured | None:
    """Return what `keep_mean` needs of a measured frame (H, W); None where its noise is known to be even.

    A slope of 0 says that the calibration could not tell, so that the frame itself is asked.
    """
    if intensity is None or 0 < intensity.noise_slope < _FEW:
        return None
    mean = float(frame.mean(dtype=np.float64))
    return Measured(mean, _sample(frame).copy()) if np.isfinite(mean) else None


def keep_mean(made: Frame, light: Measured, around: Sequence[float] = ()) -> Frame:
    """Return a denoised frame (H, W) with the mean of the measured one, where the noise is skewed.

    Parameters
    ----------
    made, light
        The denoised frame, and what was kept of the measured one.
    around
        Means of the measured frames of its window. Where they differ by no more than the noise of a frame's mean,
        they are all believed together.
    """
    rest = light.sample.astype(np.float32) - _sample(made)
    rest -= rest.mean()
    deviation = float(np.sqrt(np.mean(rest * rest)))
    if not deviation > 0 or not np.isfinite(deviation):
        return made
    rest /= deviation
    skewness = float(np.mean(rest * rest * rest))  # a power takes ten times as long
    share = min(1.0, max(0.0, (skewness - _EVEN) / (_SKEWED - _EVEN)))
    if share == 0:
        return made
    lost = share * (
        _level(light.mean, around, deviation / made.size**0.5) - float(made.mean(dtype=np.float64))
    )
    if made.dtype.kind == "f":
        return made if lost == 0 else made + made.dtype.type(lost)
    if abs(lost) < _WHOLE:
        return made
    limits = np.iinfo(made.dtype)
    return np.clip(made.astype(np.int32) + round(lost), limits.min, limits.max).astype(made.dtype)


def _level(mean: float, around: Sequence[float], error: float) -> float:
    """Return the mean of frames whose light did not change, else that of the one frame."""
    if len(around) < _FEWEST:
        return mean
    together = float(np.mean(around))
    steady = float(np.var(around, ddof=1)) < (_STEADY * error) ** 2 and abs(mean - together) < 3 * error
    return together if steady else mean


def _sample(frame: Frame) -> Frame:
    return frame[:: max(1, frame.size // _SAMPLED)]
