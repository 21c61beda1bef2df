"""How good a denoised movie is: against truth, and against baselines that were allowed to see the truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage import metrics

__all__ = ["Score", "best_gaussian", "best_temporal_average", "score"]

FloatArray = npt.NDArray[np.float32]

_SIGMA_T = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0, 21.0)
_SIGMA_XY = (0.0, 0.4, 0.7, 1.0, 1.4, 2.0, 3.0)
_LENGTHS = (3, 5, 7, 11, 15, 21, 31, 61)


@dataclass(frozen=True)
class Score:
    """Agreement with the clean movie.

    Attributes
    ----------
    psnr_db
        Peak signal-to-noise ratio; the peak is the clean movie's maximum minus its minimum.
    psnr_p999_db
        The same with the clean movie's 99.9 percentile minus its minimum as the peak.
    ssim
        Structural similarity, mean over frames, with the first peak as data range.
    """

    psnr_db: float
    psnr_p999_db: float
    ssim: float


def score(clean: FloatArray, estimate: npt.NDArray[np.generic]) -> Score:
    """Compare an estimate with the truth, both (T, H, W) in raw counts."""
    clean, estimate = np.asarray(clean, np.float32), np.asarray(estimate, np.float32)
    peak = float(clean.max() - clean.min())
    robust = float(np.percentile(clean, 99.9) - clean.min())
    # SSIM changes slowly along a movie; a hundred frames give it to three digits.
    sample = np.unique(np.linspace(0, len(clean) - 1, min(len(clean), 100)).astype(int))
    return Score(
        psnr_db=float(metrics.peak_signal_noise_ratio(clean, estimate, data_range=peak)),
        psnr_p999_db=float(metrics.peak_signal_noise_ratio(clean, estimate, data_range=robust)),
        ssim=float(
            np.mean([metrics.structural_similarity(clean[t], estimate[t], data_range=peak) for t in sample])
        ),
    )


def best_gaussian(clean: FloatArray, noisy: npt.NDArray[np.generic]) -> tuple[FloatArray, str]:
    """Return the 3-D Gaussian filter of the noisy movie that is closest to the truth, and its widths.

    This baseline is tuned on the truth, which no user has: a method worth running must beat it.
    """
    noisy = np.asarray(noisy, np.float32)

    def candidates() -> Iterable[tuple[FloatArray, str]]:
        for sigma_t in _SIGMA_T:
            along = ndimage.gaussian_filter1d(noisy, sigma_t, axis=0, mode="nearest") if sigma_t else noisy
            for sigma in _SIGMA_XY:
                smooth = ndimage.gaussian_filter(along, (0, sigma, sigma)) if sigma else along
                yield np.asarray(smooth, np.float32), f"sigma {sigma_t:g} frames, {sigma:g} px"

    return _closest(clean, candidates())


def best_temporal_average(clean: FloatArray, noisy: npt.NDArray[np.generic]) -> tuple[FloatArray, str]:
    """Return the centred moving average over time that is closest to the truth, and its length."""
    noisy = np.asarray(noisy, np.float32)
    return _closest(
        clean,
        ((ndimage.uniform_filter1d(noisy, n, axis=0, mode="nearest"), f"{n} frames") for n in _LENGTHS),
    )


def _closest(clean: FloatArray, candidates: Iterable[tuple[FloatArray, str]]) -> tuple[FloatArray, str]:
    best, label, least = clean, "", np.inf
    for estimate, name in candidates:
        error = float(np.mean((estimate - clean) ** 2))
        if error < least:
            best, label, least = np.asarray(estimate, np.float32), name, error
    return best, label
