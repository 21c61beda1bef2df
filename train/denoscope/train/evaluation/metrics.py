"""How good a denoised movie is: against truth, and against baselines that were allowed to see the truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats
from skimage import metrics

__all__ = ["Reliability", "Score", "best_gaussian", "best_temporal_average", "reliability", "score"]

FloatArray = npt.NDArray[np.float32]

_SIGMA_T = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0, 21.0)
_SIGMA_XY = (0.0, 0.4, 0.7, 1.0, 1.4, 2.0, 3.0)
_LENGTHS = (3, 5, 7, 11, 15, 21, 31, 61)
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.68, 0.8, 0.9, 0.95, 0.99)
_DEVIATION_BINS = 12
_MOST_PIXELS = 4_000_000


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
    """Compare an estimate with the truth.

    Parameters
    ----------
    clean, estimate
        (T, H, W) raw counts; the truth is NaN where it is not known.

    Returns
    -------
    Score
        PSNR in dB, SSIM and the other numbers of the tables.

    Examples
    --------
    >>> clean = np.random.default_rng(0).uniform(100, 200, (4, 32, 32)).astype(np.float32)
    >>> score(clean, clean + 1).psnr_db > score(clean, clean + 10).psnr_db
    True
    """
    clean = np.asarray(clean, np.float32)
    known = np.isfinite(clean)
    if not known.all():
        return _score_of_known(clean, np.asarray(estimate, np.float32), known)
    estimate = np.asarray(estimate, np.float32)
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


def _score_of_known(clean: FloatArray, estimate: FloatArray, known: npt.NDArray[np.bool_]) -> Score:
    truth = clean[known]
    low = float(truth.min())
    error = float(np.mean((truth.astype(np.float64) - estimate[known]) ** 2))
    peak, robust = float(truth.max()) - low, float(np.percentile(truth, 99.9)) - low
    seen = np.where(known, clean, estimate)
    similar, count = 0.0, 0
    edge = 3  # half of the window, as the mean of the whole picture leaves out
    for t in np.unique(np.linspace(0, len(clean) - 1, min(len(clean), 100)).astype(int)):
        _, each = metrics.structural_similarity(seen[t], estimate[t], data_range=peak, full=True)
        there = known[t, edge:-edge, edge:-edge]
        similar += float(each[edge:-edge, edge:-edge][there].sum())
        count += int(there.sum())
    decibels = [10 * float(np.log10(max(top, 1e-30) ** 2 / max(error, 1e-30))) for top in (peak, robust)]
    return Score(decibels[0], decibels[1], similar / max(count, 1))


@dataclass(frozen=True)
class Reliability:
    """How well predicted deviations match the errors.

    Attributes
    ----------
    nominal, observed
        Share of clean pixels that a normal distribution puts into the predicted interval, and the
        share that lies there.
    predicted, actual
        Over bins of equal numbers of pixels: root mean square of the predicted deviation and of the
        error, in raw counts.
    """

    nominal: tuple[float, ...]
    observed: tuple[float, ...]
    predicted: tuple[float, ...]
    actual: tuple[float, ...]

    def coverage(self, share: float) -> float:
        """Return the observed share of one of the `nominal` intervals."""
        return self.observed[self.nominal.index(share)]


def reliability(clean: FloatArray, estimate: npt.NDArray[np.generic], std: FloatArray) -> Reliability:
    """Compare predicted deviations with the errors, all (T, H, W) in raw counts; the truth is NaN where not known."""
    known = np.isfinite(clean)
    if not known.all():
        clean, estimate, std = clean[known], np.asarray(estimate)[known], std[known]
    every = max(1, clean.size // _MOST_PIXELS)
    deviation = np.asarray(std, np.float32).ravel()[::every]
    error = np.abs(
        np.asarray(estimate, np.float32).ravel()[::every] - np.asarray(clean, np.float32).ravel()[::every]
    )
    observed = tuple(float((error <= stats.norm.ppf((1 + p) / 2) * deviation).mean()) for p in _SHARES)
    parts = np.array_split(np.argsort(deviation, kind="stable"), min(_DEVIATION_BINS, len(deviation)))
    rms = [
        (float(np.sqrt(np.mean(deviation[p] ** 2))), float(np.sqrt(np.mean(error[p] ** 2)))) for p in parts
    ]
    return Reliability(_SHARES, observed, tuple(r[0] for r in rms), tuple(r[1] for r in rms))


def best_gaussian(clean: FloatArray, noisy: npt.NDArray[np.generic]) -> tuple[FloatArray, str]:
    """Return the 3-D Gaussian filter of the noisy movie that is closest to the truth, and its widths.

    This baseline is tuned on the truth, which no user has: a method worth running must beat it.

    Parameters
    ----------
    clean, noisy
        (T, H, W) raw counts; the truth is NaN where it is not known.

    Returns
    -------
    ndarray, str
        (T, H, W) float64 counts, and the widths in words.

    Examples
    --------
    >>> clean = np.full((8, 32, 32), 100, np.float32)
    >>> clean[:, 8:24, 8:24] = 200
    >>> noisy = np.random.default_rng(0).poisson(clean)
    >>> best, how = best_gaussian(clean, noisy)
    >>> score(clean, best).psnr_db > score(clean, noisy).psnr_db
    True
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
    """Return the centred moving average over time that is closest to the truth, and its length in words.

    Parameters
    ----------
    clean, noisy
        (T, H, W) raw counts; the truth is NaN where it is not known.

    Returns
    -------
    ndarray, str
        (T, H, W) float64 counts, and the length in words.

    Examples
    --------
    >>> clean = np.full((8, 32, 32), 100, np.float32)
    >>> clean[:, 8:24, 8:24] = 200
    >>> best, how = best_temporal_average(clean, np.random.default_rng(0).poisson(clean))
    >>> how
    '11 frames'
    """
    noisy = np.asarray(noisy, np.float32)
    return _closest(
        clean,
        ((ndimage.uniform_filter1d(noisy, n, axis=0, mode="nearest"), f"{n} frames") for n in _LENGTHS),
    )


def _closest(clean: FloatArray, candidates: Iterable[tuple[FloatArray, str]]) -> tuple[FloatArray, str]:
    best, label, least = clean, "", np.inf
    for estimate, name in candidates:
        error = float(np.nanmean((estimate - clean) ** 2))
        if error < least:
            best, label, least = np.asarray(estimate, np.float32), name, error
    return best, label
