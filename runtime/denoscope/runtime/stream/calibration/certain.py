"""Certainty of a noise model that was estimated from the first frames of a recording."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.artefacts.scanner import ScannerArtefacts
from denoscope.runtime.motion.moves import surely_still
from denoscope.runtime.noise.noise import Intensity, estimate_intensity

from .learned import Estimate

__all__ = ["agree", "is_certain"]

_FEWEST = 4  # frames; with fewer, motion is not told from noise
_PARTS = 4  # of a frame, in bands of
_BAND = 8  # rows
_LEAST_EDGE = 48  # pixels of a frame; smaller ones have too few for parts
_LARGEST_ERROR = 0.1  # standard error of the logarithm of the variance of the noise
_AGREES = 0.02  # difference of two such logarithms
_DIM = 1.0  # one over the root of the photons a pixel, above which few frames say little
_LEAST_LIGHT = 0.1  # by how much bright pixels are noisier than dark ones, in such a logarithm
_LEVELS = (0.05, 0.5, 0.98)  # quantiles of the brightness

Frames = npt.NDArray[Any]


def is_certain(estimate: Estimate) -> bool:
    """Say whether a noise model from a few frames is as good, for these frames, as one from many.

    Four parts of the picture are asked by themselves for the variance of the noise in dark, usual and bright pixels:
    the standard error of their mean says how certain the model is. It is never certain of few photons, beside a
    pattern of the scanner, where the scene moves or may move, or where bright pixels are hardly noisier than dark ones:
    frames of a closed shutter say nothing of the light that comes later. Then the frames that follow are waited for.
    """
    frames, intensity = estimate.as_one, estimate.intensity
    if len(frames) < _FEWEST or min(frames.shape[1:]) < _LEAST_EDGE:
        return False
    if intensity.empirical or intensity.noise_slope > _DIM or estimate.artefacts != ScannerArtefacts():
        return False
    levels = _levels(frames)
    log_noise = _log_noise(intensity, levels)
    if log_noise[-1] - log_noise[0] < _LEAST_LIGHT or not surely_still(frames, intensity):
        return False
    bands = np.arange(frames.shape[1]) // _BAND % _PARTS
    of_parts = np.array(
        [_log_noise(estimate_intensity(frames[:, bands == part]), levels) for part in range(_PARTS)]
    )
    error = of_parts.std(axis=0, ddof=1) / np.sqrt(_PARTS)
    off = np.abs(of_parts.mean(axis=0) - log_noise)
    return bool(max(error.max(), off.max() / 2) < _LARGEST_ERROR)


def agree(estimate: Estimate, intensity: Intensity, artefacts: ScannerArtefacts) -> bool:
    """Say whether an estimate confirms the noise model and the artefacts that a stream began with."""
    levels = _levels(estimate.as_one)
    apart = np.abs(_log_noise(estimate.intensity, levels) - _log_noise(intensity, levels))
    return estimate.artefacts == artefacts and bool(apart.max() < _AGREES)


def _levels(frames: Frames) -> npt.NDArray[np.float64]:
    """Return dark, usual and bright counts of frames (T, H, W)."""
    return np.asarray(np.quantile(frames[:, ::4].mean(axis=0, dtype=np.float64), _LEVELS))


def _log_noise(intensity: Intensity, counts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the logarithms of the variance of the noise at counts."""
    z = (counts - intensity.offset) / intensity.scale
    variance = np.maximum(intensity.noise_slope * z + 1, intensity.noise_floor)
    return np.asarray(np.log(variance * intensity.scale**2))
