"""Residual of a denoiser, judged without truth: it should be the camera's noise and nothing else.

The residual is noisy minus denoised. Four questions are put to it: is it white, has it the variance
that the camera's noise model says, does it drift along the movie, and does the denoised movie carry a
grid of the network's stride. Every number comes with what white noise alone would give.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft, special

from denoscope.runtime import Intensity

from .records import BaselineRecord, GridRecord, NoiseBinRecord, ResidualRecord

__all__ = [
    "Baseline",
    "Grid",
    "NoiseBin",
    "Residual",
    "Whiteness",
    "analyse_residual",
    "grid_artefact",
    "noise_sigma",
    "whiteness",
]

FloatArray = npt.NDArray[np.float32]

REACH = 5  # pixels: lags farther away say nothing that nearer ones do not
LAGS = 5  # frames
_BINS = 16
_ENDS = 10  # frames at each end of the movie that make up its first and last baseline
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Whiteness:
    """Autocorrelation of the standardised residual.

    Attributes
    ----------
    excess
        The correlation farthest from what the detector's own noise has, over all near lags in space
        and time. Positive: structure was taken away. Negative: the output carries its neighbours'
        noise, as any average of few values does.
    excess_at
        Its lag as (frames, rows, columns).
    limit
        What the largest of so many correlations stays below in 95 of 100 movies of white noise.
    spatial
        (2 REACH + 1, 2 REACH + 1) correlations at lags (rows, columns), the centre is lag 0.
    detector
        The same of differences of successive raw frames, in which the scene cancels.
    temporal
        At lags of 1 to LAGS frames.
    """

    excess: float
    excess_at: tuple[int, int, int]
    limit: float
    spatial: npt.NDArray[np.float64]
    detector: npt.NDArray[np.float64]
    temporal: npt.NDArray[np.float64]


@dataclass(frozen=True)
class NoiseBin:
    """Pixels of one brightness: denoised mean, variance of the residual, variance of the noise model."""

    mean: float
    residual: float
    model: float


@dataclass(frozen=True)
class Baseline:
    """Mean residual of each frame, in standard deviations of one pixel's noise.

    Attributes
    ----------
    first, last
        Mean over the first and the last frames.
    largest, largest_at
        Of the frame farthest from zero, and its number.
    limit
        What the largest stays below in 95 of 100 movies of white noise.
    frames
        (T,), every frame's.
    """

    first: float
    last: float
    largest: float
    largest_at: int
    limit: float
    frames: npt.NDArray[np.float64]

    def record(self) -> BaselineRecord:
        """Return plain values for JSON, without every frame's."""
        return BaselineRecord(
            first_frames_sigma=self.first,
            last_frames_sigma=self.last,
            step_sigma=self.last - self.first,
            largest_sigma=self.largest,
            largest_at_frame=self.largest_at,
            white_noise_limit_sigma=self.limit,
        )


@dataclass(frozen=True)
class Grid:
    """Power of the denoised movie at the frequencies of a grid, beside their surroundings.

    Attributes
    ----------
    stride
        Pixels of the coarsest period looked for.
    peak_db
        The worst such frequency above the median of the frequencies round it.
    around_db
        The highest of those round it, above the same median: what chance makes of a spectrum.
    at
        Its frequency (rows, columns) in cycles per pixel.
    rms_sigma
        Root mean square of the grid itself, in standard deviations of one pixel's noise.
    camera_rms_sigma
        The same in the noisy movie, where it stands out of its surroundings there: a camera may have a
        grid, too.
    """

    stride: int
    peak_db: float
    around_db: float
    at: tuple[float, float]
    rms_sigma: float
    camera_rms_sigma: float

    @property
    def found(self) -> bool:
        """True where the grid stands out of its surroundings, and is not the camera's."""
        return self.peak_db > self.around_db + 1 and self.rms_sigma > 1.5 * self.camera_rms_sigma

    def record(self) -> GridRecord:
        """Return plain values for JSON."""
        return GridRecord(
            stride_px=self.stride,
            peak_db=self.peak_db,
            around_db=self.around_db,
            at_cycles_per_px=self.at,
            rms_sigma=self.rms_sigma,
            camera_rms_sigma=self.camera_rms_sigma,
            found=self.found,
        )


@dataclass(frozen=True)
class Residual:
    """All that was asked of one residual.

    Attributes
    ----------
    whiteness, baseline, grid
        See there.
    variance_ratio
        Mean square of the standardised residual; 1 if exactly the noise was taken away.
    expected_ratio
        What a posterior mean with the predicted deviations must have, `1 - std^2 / sigma^2`; None
        without predicted deviations.
    bins
        The same by brightness.
    """

    whiteness: Whiteness
    variance_ratio: float
    expected_ratio: float | None
    bins: list[NoiseBin]
    baseline: Baseline
    grid: Grid

    def record(self) -> ResidualRecord:
        """Return plain values for JSON: of the correlations the nearest lags, not the whole map."""
        w, c = self.whiteness, REACH
        return ResidualRecord(
            excess_correlation=w.excess,
            excess_at_lag=w.excess_at,
            white_noise_limit=w.limit,
            next_column=float(w.spatial[c, c + 1]),
            next_row=float(w.spatial[c + 1, c]),
            next_frame=float(w.temporal[0]) if len(w.temporal) else None,
            detector_next_column=float(w.detector[c, c + 1]),
            detector_next_row=float(w.detector[c + 1, c]),
            variance_ratio=self.variance_ratio,
            expected_variance_ratio=self.expected_ratio,
            by_brightness=[NoiseBinRecord(**asdict(b)) for b in self.bins],
            baseline=self.baseline.record(),
            grid=self.grid.record(),
        )


def noise_sigma(clean: FloatArray, intensity: Intensity) -> FloatArray:
    """Return the standard deviation of the camera's noise at clean values, in raw counts."""
    z = (clean - np.float32(intensity.offset)) / np.float32(intensity.scale)
    variance = np.maximum(intensity.noise_slope * z + 1, intensity.noise_floor)
    return np.asarray(np.sqrt(variance) * intensity.scale, np.float32)


def analyse_residual(
    noisy: FloatArray,
    denoised: FloatArray,
    intensity: Intensity,
    *,
    stride: int,
    std: FloatArray | None = None,
) -> Residual:
    """Put every question to the residual of one movie.

    Parameters
    ----------
    noisy, denoised
        (T, H, W) in raw counts.
    intensity
        The movie's noise model.
    stride
        The network's, for the grid.
    std
        Predicted standard deviation of `denoised`, if there is one.
    """
    sigma = noise_sigma(denoised, intensity)
    unit = (noisy - denoised) / sigma
    expected = None if std is None else float(np.mean(1 - np.square(std / sigma), dtype=np.float64))
    return Residual(
        whiteness=whiteness(unit, noisy, sigma),
        variance_ratio=float(np.mean(np.square(unit), dtype=np.float64)),
        expected_ratio=expected,
        bins=_by_brightness(noisy, denoised, sigma),
        baseline=_baseline(unit),
        grid=grid_artefact(denoised, noisy, stride, sigma=float(np.median(sigma))),
    )


def whiteness(unit: FloatArray, noisy: FloatArray, sigma: FloatArray) -> Whiteness:
    """Return the autocorrelation of a standardised residual beside the detector's own.

    Parameters
    ----------
    unit
        (T, H, W), the residual over the noise's standard deviation.
    noisy, sigma
        (T, H, W), the raw movie and that standard deviation.
    """
    length, height, width = unit.shape
    reach = min(REACH, (height - 1) // 2, (width - 1) // 2)
    centred = unit - np.float32(unit.mean(dtype=np.float64))
    spatial = _spatial(centred, reach)
    detector = _detector(noisy, sigma, reach)
    power = float(np.mean(np.square(centred), dtype=np.float64)) or 1.0
    temporal = np.array(
        [
            np.mean(centred[:-lag] * centred[lag:], dtype=np.float64) / power
            for lag in range(1, min(LAGS, length - 1) + 1)
        ]
    )
    beyond = spatial - detector
    half = beyond.copy()  # the map is symmetric: one half and the row of the centre's right side
    half[:reach] = 0
    half[reach, : reach + 1] = 0
    y, x = (int(i) for i in np.unravel_index(np.argmax(np.abs(half)), half.shape))
    excess, at = float(half[y, x]), (0, y - reach, x - reach)
    if len(temporal) and np.abs(temporal).max() > abs(excess):
        lag = int(np.argmax(np.abs(temporal)))
        excess, at = float(temporal[lag]), (lag + 1, 0, 0)
    tried = (spatial.size - 1) // 2 + len(temporal)
    # Both the residual's and the detector's correlation are estimates, each of variance 1 / n.
    limit = _two_sided(tried) * np.sqrt((2.0 if length > 1 else 1.0) / unit.size)
    return Whiteness(excess, at, float(limit), _framed(spatial), _framed(detector), temporal)


def grid_artefact(denoised: FloatArray, noisy: FloatArray, stride: int, *, sigma: float) -> Grid:
    """Look for a grid of period `stride` pixels and its overtones in the spectrum of every frame.

    The power is averaged over frames, so that a grid whose sign follows the content is seen too. Each
    frequency of the grid is compared with the ring of frequencies three to six steps away. `sigma` is
    the noise of one pixel, the unit of the result.
    """
    nothing = Grid(stride, 0.0, 0.0, (0.0, 0.0), 0.0, 0.0)
    if stride < 2 or min(denoised.shape[1:]) < 4 * stride:  # too few periods to tell a peak
        return nothing
    power, raw = _power(denoised, stride), _power(noisy, stride)
    rows, columns = power.shape
    frequencies = [
        (i * rows // stride, j * columns // stride)
        for i in range(stride)
        for j in range(stride // 2 + 1)
        if (i, j) != (0, 0)
    ]
    varying = [at for at in frequencies if np.median(_ring(power, *at)) > 0]
    if not varying:  # the movie is flat
        return nothing
    worst = max(varying, key=lambda at: _above(power, at)[0])
    peak, around = _above(power, worst)
    own, own_around = _above(raw, worst)
    return Grid(
        stride,
        peak,
        around,
        (worst[0] / rows, worst[1] / columns),
        _wave_rms(power, worst) / sigma,
        _wave_rms(raw, worst) / sigma if own > own_around else 0.0,
    )


def _above(power: npt.NDArray[np.float64], at: tuple[int, int]) -> tuple[float, float]:
    """Return the power at a frequency and the highest round it, in dB above the median round it."""
    ring = _ring(power, *at)
    middle = max(float(np.median(ring)), 1e-30)
    peak = max(float(power[at]), 1e-30)
    return float(10 * np.log10(peak / middle)), float(10 * np.log10(max(ring.max(), 1e-30) / middle))


def _wave_rms(power: npt.NDArray[np.float64], at: tuple[int, int]) -> float:
    """Return the root mean square, in counts, of the wave that rises above its surroundings."""
    rows, columns = power.shape
    beyond = max(float(power[at]) - float(np.median(_ring(power, *at))), 0.0)
    # A wave and its mirror image share the power, but for the waves that are their own mirror image.
    waves = 1 if (2 * at[0] % rows, 2 * at[1] % columns) == (0, 0) else 2
    return float(np.sqrt(waves * beyond) / (rows * columns / 4))  # the taper sums to a quarter


def _two_sided(tried: int) -> float:
    """Return the standard deviations that the largest of `tried` normal values rarely exceeds (Sidak)."""
    each = 1 - _CONFIDENCE ** (1 / max(tried, 1))
    return float(-special.ndtri(each / 2))


def _spatial(frames: FloatArray, reach: int) -> npt.NDArray[np.float64]:
    """Return the mean autocorrelation (2 reach + 1, 2 reach + 1) of frames, not wrapped round."""
    height, width = frames.shape[1:]
    shape = (fft.next_fast_len(height + reach, True), fft.next_fast_len(width + reach, True))
    total = np.zeros((shape[0], shape[1] // 2 + 1))
    for frame in frames:
        total += np.abs(fft.rfft2(frame, shape)) ** 2
    products = np.roll(fft.irfft2(total, shape), (reach, reach), axis=(0, 1))[
        : 2 * reach + 1, : 2 * reach + 1
    ]
    lags = np.abs(np.arange(-reach, reach + 1))
    covariance = products / np.outer(height - lags, width - lags)
    return np.asarray(covariance / (covariance[reach, reach] or 1.0))


def _detector(noisy: FloatArray, sigma: FloatArray, reach: int) -> npt.NDArray[np.float64]:
    """Return the spatial correlation of the noise itself, from differences of successive frames."""
    if len(noisy) < 2:
        white = np.zeros((2 * reach + 1, 2 * reach + 1))
        white[reach, reach] = 1
        return white
    change = np.diff(noisy, axis=0) / sigma[1:]
    # What all pixels share is the lamp or the scene, not the noise of a pixel.
    return _spatial(change - change.mean(axis=(1, 2), keepdims=True), reach)


def _framed(correlation: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the map with REACH lags on each side; lags that the frame does not have are 0."""
    missing = REACH - len(correlation) // 2
    return np.pad(correlation, missing)


def _by_brightness(noisy: FloatArray, denoised: FloatArray, sigma: FloatArray) -> list[NoiseBin]:
    """Return the variances over bins of equal numbers of pixels, chosen by the denoised value."""
    every = max(1, denoised.size // 2_000_000)
    level = denoised.ravel()[::every]
    square = np.square(noisy.ravel()[::every] - level)
    model = np.square(sigma.ravel()[::every])
    order = np.argsort(level, kind="stable")
    parts = np.array_split(order, min(_BINS, len(order)))
    return [NoiseBin(float(level[p].mean()), float(square[p].mean()), float(model[p].mean())) for p in parts]


def _baseline(unit: FloatArray) -> Baseline:
    means = unit.mean(axis=(1, 2), dtype=np.float64)
    worst = int(np.argmax(np.abs(means)))
    limit = _two_sided(len(means)) / np.sqrt(unit[0].size)
    first, last = float(means[:_ENDS].mean()), float(means[-_ENDS:].mean())
    return Baseline(first, last, float(means[worst]), worst, float(limit), means)


def _power(movie: FloatArray, stride: int) -> npt.NDArray[np.float64]:
    """Return the mean power spectrum (rows, columns) of windowed frames cut to a multiple of `stride`."""
    height, width = (n - n % stride for n in movie.shape[1:])
    taper = np.outer(np.hanning(height + 1)[:-1], np.hanning(width + 1)[:-1]).astype(np.float32)
    total = np.zeros((height, width))
    every = max(1, len(movie) // 100)  # a hundred frames give the spectrum to a tenth
    chosen = movie[::every, :height, :width]
    for frame in chosen:
        total += np.abs(fft.fft2((frame - frame.mean()) * taper)) ** 2
    return total / len(chosen)


def _ring(power: npt.NDArray[np.float64], y: int, x: int) -> npt.NDArray[np.float64]:
    """Return the powers three to six steps away from a frequency; zero frequency's own peak left out."""
    rows, columns = power.shape
    dy, dx = np.mgrid[-6:7, -6:7]
    far = np.maximum(np.abs(dy), np.abs(dx)) >= 3
    ys, xs = (y + dy[far]) % rows, (x + dx[far]) % columns
    from_zero = np.maximum(np.minimum(ys, rows - ys), np.minimum(xs, columns - xs))
    return np.asarray(power[ys, xs][from_zero > 3])
