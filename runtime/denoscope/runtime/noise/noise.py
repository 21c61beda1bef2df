"""The session's intensity transform and camera noise, estimated from its first frames (numpy only)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Annotated, Any, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.arguments import check_movie
from denoscope.runtime.movies.holes import check_magnitude, measurable, measured_part, unmasked

from .correlation import FEWEST_FRAMES, LEAST_EDGE, measure_noise_correlation
from .few_photons import FewPhotons
from .saturation import ends_at, is_full

__all__ = ["Intensity", "estimate_intensity", "noise_of"]

FloatArray = npt.NDArray[np.float64]

_BINS = 32
_GROUP = 16  # pixels averaged before the median, so that few photons do not skew it
_MOST_PIXELS = 1 << 18
_ROUNDING_VARIANCE = 1 / 12  # of a count rounded to an integer
_LEAST_FLOOR = 0.02  # of the variance at the median
_ITERATIONS = 20
# Fourth differences in both directions, and the variance that they give white noise of variance 1.
_HIGH_PASS = (1.0, -4.0, 6.0, -4.0, 1.0)
_HIGH_PASS_POWER = 70.0**2
_NEXT_PIXEL = 2 * 56 / 70  # of its power, lost for each unit of correlation with the next pixel
_WHITE = 0.7  # share of the variance that high-passed noise keeps; measured: noise 0.85 or more, moving scenes to 0.33
_MOVES = 0.93  # share of the plain variance below which the scene is held to have moved


class _Line(NamedTuple):
    """Photon-transfer line of a movie: variance = gain * mean + constant."""

    gain: float
    constant: float
    darkest: float
    empirical: bool
    still: bool


class Intensity(BaseModel):
    """An affine transform to normalised units and the camera's noise in them, frozen for a session.

    A raw count `x` becomes `z = (x - offset) / scale`. A pixel whose clean value is `z` varies with
    `max(noise_slope * z + 1, noise_floor)`: shot noise grows with the light, and a pixel at `offset`
    (the movie's median) has the variance 1.

    Attributes
    ----------
    offset
        Raw counts that become 0.
    scale
        Raw counts that become 1; the standard deviation of the noise at `offset`.
    noise_slope
        Growth of the variance with the clean value, normalised units; 0 for pure read noise.
    noise_floor
        Least variance, normalised units: what the darkest pixels keep.
    empirical
        Whether the photon-transfer fit failed, so that the mean scatter of the pixels was taken, or there are too few
        photons to be sure of it; left out of JSON if not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    offset: FiniteFloat
    scale: Annotated[FiniteFloat, Field(gt=0)]
    noise_slope: Annotated[FiniteFloat, Field(ge=0)]
    noise_floor: Annotated[FiniteFloat, Field(gt=0)]
    empirical: bool = False

    @model_serializer(mode="wrap")
    def _without_the_usual(self, handler: SerializerFunctionWrapHandler) -> dict[str, object]:
        values: dict[str, object] = handler(self)
        if not self.empirical:  # as earlier versions write and read it
            values.pop("empirical", None)
        return values

    def warning(self) -> str | None:
        """Return a sentence for the user where the estimate is less certain than usual, else None."""
        if not self.empirical:
            return None
        return (
            "there are few photons or strong pulses, so the noise is known less well than usual: it may be off by a "
            "factor of two in the darkest and the brightest pixels; compare the result with the raw frames"
        )

    @property
    def gain(self) -> float:
        """Raw counts per detected photon, the slope of the photon-transfer line."""
        return self.noise_slope * self.scale


def noise_of(counts: npt.NDArray[Any], intensity: Intensity) -> npt.NDArray[np.float32]:
    """Return the standard deviation of counts as measured, float32 of any shape, in raw counts."""
    z = (counts.astype(np.float32) - np.float32(intensity.offset)) / np.float32(intensity.scale)
    variance = np.maximum(intensity.noise_slope * z + 1, intensity.noise_floor)
    return np.asarray(np.sqrt(variance) * intensity.scale, np.float32)


def estimate_intensity(frames: npt.ArrayLike) -> Intensity:
    """Estimate the transform and the noise from a few frames, by a photon-transfer fit.

    The noise variance of a pixel is half the mean squared difference of successive frames (von
    Neumann 1941), which slow changes hardly touch. Over bins of equal brightness the medians of that
    variance, robust to active and moving structures, lie on the line `variance = gain * mean + c`
    (photon transfer, Janesick 2007). Pixels are put into bins by the mean of their neighbours, so
    that a pixel's own noise does not choose its bin; saturated pixels are left out: those that reach what
    the dtype, or a converter of 8 or more bits, can hold at most, where that is the largest count.

    With few photons or strong pulses medians say little, and the line may even turn negative. So it is
    compared with the mean temporal noise of the movie and replaced by it where the two part (`FewPhotons`).

    A moving scene adds to these differences, up to many times the noise of a bright movie. So the fit is
    repeated on differences that were high-passed in space, which removes what an objective can resolve
    but little of white noise, corrected for measured correlation between pixels. Where this finds less
    noise, the scene moved, and it is believed. (Noise that was interpolated is smooth itself: then not.)

    Parameters
    ----------
    frames
        (T, H, W) raw counts, T >= 1. With one frame the differences between diagonal neighbours
        take the place of time; fine structure then counts as noise. Borders of NaN or infinite values are
        left out, and others are taken from the pixels beside them.

    Returns
    -------
    Intensity
        Offset is the median of the mean image. A movie that does not vary at all gets the rounding
        error of its counts as noise.

    Raises
    ------
    InvalidInput
        If `frames` is not three-dimensional, is empty, or holds nothing but NaN and infinite values.

    Examples
    --------
    >>> import numpy as np
    >>> photons = np.random.default_rng(0).poisson(20, (32, 64, 64))
    >>> found = estimate_intensity((100 + 4 * photons).astype(np.uint16))  # four counts a photon, 100 without light
    >>> bool(170 < found.offset < 190), found.empirical  # the median of the movie
    (True, False)
    """
    movie = np.asarray(unmasked(frames) if isinstance(frames, np.ndarray) else frames)
    if movie.ndim != 3 or movie.size == 0:
        raise InvalidInput(
            f"Frames of shape {movie.shape} cannot be calibrated: "
            "give at least one frame as an array (T, H, W)."
        )
    check_movie(movie, "frames")
    movie = measurable(movie[(slice(None), *measured_part(movie))])
    if not len(movie):
        raise InvalidInput(
            "The frames hold nothing but NaN and infinite values: choose frames with a picture for the calibration."
        )
    check_magnitude(movie)
    mean, variance, usable, largest = _moments(movie)
    # Floating-point counts may have any unit, so that only a share of the largest can be claimed.
    least = _ROUNDING_VARIANCE if movie.dtype.kind in "iu" else (1e-4 * (largest or 1.0)) ** 2

    @cache
    def is_white() -> bool:
        return _is_white(movie, variance, usable)

    gain, constant, darkest, empirical, still = _photon_transfer(mean, variance, usable, is_white, len(movie))
    if len(movie) > 1 and not (still and is_white()):
        without_motion = _without_motion(movie, mean, usable, is_white, gain, constant, darkest)
        if without_motion is not None:
            gain, constant, empirical = without_motion
    # A saturated half of the picture says nothing of the light of the rest.
    offset = _typical(mean if usable.all() or not usable.any() else mean[usable], darkest)
    scale = float(np.sqrt(max(gain * offset + constant, least)))
    floor = max(gain * darkest + constant, _LEAST_FLOOR * scale**2, least)
    return Intensity(
        offset=offset,
        scale=scale,
        noise_slope=gain / scale,
        noise_floor=min(floor, scale**2) / scale**2,
        empirical=empirical,
    )


def _typical(mean: FloatArray, darkest: float) -> float:
    """Return the median, or the mean where most pixels of few photons are darker than every mean of many."""
    median = float(np.median(mean))
    return median if median >= darkest else max(float(mean.mean()), darkest)


def _moments(movie: npt.NDArray[np.generic]) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_], float]:
    """Return mean and noise variance of each pixel, which pixels never saturate, and the largest |value|."""
    length = len(movie)
    rows = _some_rows(movie.shape[1], movie.shape[2])
    previous = np.asarray(movie[0][rows], np.float64)
    highest, largest = previous.copy(), np.abs(previous).max()
    total, squares = previous.copy(), np.zeros_like(previous)
    for t in range(1, length):
        current = np.asarray(movie[t][rows], np.float64)
        np.maximum(highest, current, out=highest)
        largest = np.maximum(largest, np.abs(current).max())
        total += current
        np.subtract(current, previous, out=previous)
        squares += np.square(previous, out=previous)
        previous = current
    largest = float(largest)
    full = highest == largest
    usable = ~full if is_full(largest, movie.dtype) or ends_at(highest, full, largest) else np.ones_like(full)
    if length == 1:
        return _moments_of_one(previous, usable, largest)
    return total / length, squares / (2 * (length - 1)), usable, largest


def _without_motion(
    movie: npt.NDArray[np.generic],
    mean: FloatArray,
    usable: npt.NDArray[np.bool_],
    is_white: Callable[[], bool],
    gain: float,
    constant: float,
    darkest: float,
) -> tuple[float, float, bool] | None:
    """Return gain, constant and if they are empirical, from high-passed differences; None if nothing moved."""
    _, height, width = movie.shape
    if len(movie) < FEWEST_FRAMES or min(height, width) < LEAST_EDGE:
        return None
    sharp, inner = _high_passed_inside(movie)
    still_gain, still_constant, _, empirical, _ = _photon_transfer(
        mean[inner], sharp, usable[inner], is_white, len(movie)
    )
    levels = np.maximum([_typical(mean, darkest), np.quantile(mean, 0.95)], darkest)
    plain, still = gain * levels + constant, still_gain * levels + still_constant
    if not (still < _MOVES * plain).any():
        return None
    noise = measure_noise_correlation(movie)
    if noise.kind == "neighbours":
        return None
    kept = (1 - _NEXT_PIXEL * noise.bleed) if noise.kind == "bleed" else 1.0
    kept *= (1 - noise.row) if noise.kind == "row" else 1.0
    if not (still < _MOVES * kept * plain).any():
        return None
    return still_gain / kept, still_constant / kept, empirical


def _is_white(movie: npt.NDArray[np.generic], variance: FloatArray, usable: npt.NDArray[np.bool_]) -> bool:
    """Say whether differences of frames vary from pixel to pixel, as noise does, not smoothly, as what moves does."""
    if len(movie) < 2 or min(movie.shape[1:]) < LEAST_EDGE:
        return True
    sharp, inner = _high_passed_inside(movie)
    chosen = usable[inner]
    return float(sharp[chosen].sum()) > _WHITE * float(variance[inner][chosen].sum())


def _high_passed_inside(
    movie: npt.NDArray[np.generic],
) -> tuple[FloatArray, tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]]:
    """Return the high-passed variance of the looked-at rows that have neighbours, and where they are among them."""
    _, height, width = movie.shape
    edge = len(_HIGH_PASS) // 2
    rows = _some_rows(height, width)
    # Bands of rows are not next to each other.
    whole = np.flatnonzero(rows[2 * edge :] - rows[: -2 * edge] == 2 * edge)
    inner = whole[:, None] + edge, np.arange(edge, width - edge)
    return _high_passed_variance(movie, rows)[whole], inner


def _high_passed_variance(movie: npt.NDArray[np.generic], rows: npt.NDArray[np.intp]) -> FloatArray:
    """Return the noise variance of each pixel but the outermost, from high-passed differences of frames."""
    squares: FloatArray | None = None
    previous = np.asarray(movie[0][rows], np.float32)
    for t in range(1, len(movie)):
        current = np.asarray(movie[t][rows], np.float32)
        change = _fourth_difference(_fourth_difference(current - previous).T).T
        squares = np.zeros(change.shape) if squares is None else squares
        squares += np.square(change)
        previous = current
    assert squares is not None
    return squares / (2 * _HIGH_PASS_POWER * (len(movie) - 1))


def _fourth_difference(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    length = len(image) - len(_HIGH_PASS) + 1
    out = np.float32(_HIGH_PASS[0]) * image[:length]
    for i, weight in enumerate(_HIGH_PASS[1:], 1):
        out += np.float32(weight) * image[i : i + length]
    return out


def _moments_of_one(
    frame: FloatArray, usable: npt.NDArray[np.bool_], largest: float
) -> tuple[FloatArray, FloatArray, npt.NDArray[np.bool_], float]:
    if min(frame.shape) < 2:
        return frame, np.zeros_like(frame), usable, largest
    a, b, c, d = frame[:-1, :-1], frame[:-1, 1:], frame[1:, :-1], frame[1:, 1:]
    ok = usable[:-1, :-1] & usable[:-1, 1:] & usable[1:, :-1] & usable[1:, 1:]
    return (a + b + c + d) / 4, np.square(a - b - c + d) / 4, ok, largest


def _some_rows(height: int, width: int) -> npt.NDArray[np.intp]:
    """Choose bands of eight rows spread over the frame, all rows when the frame is small."""
    every = max(1, height * width // _MOST_PIXELS)
    rows = np.arange(height)
    return np.flatnonzero((rows // 8) % every == 0)


def _photon_transfer(
    mean: FloatArray,
    variance: FloatArray,
    usable: npt.NDArray[np.bool_],
    is_white: Callable[[], bool],
    length: int,
) -> _Line:
    """Fit variance = gain * mean + constant over brightness bins of a movie of so many frames."""
    chosen = np.flatnonzero(usable.ravel())
    if chosen.size == 0:  # everything saturated: only rounding noise can be claimed
        return _Line(0.0, 0.0, float(mean.min()), empirical=False, still=False)
    brightness = _neighbour_mean(mean).ravel()[chosen]
    m, v = mean.ravel()[chosen], variance.ravel()[chosen]
    bins = int(np.clip(chosen.size // (4 * _GROUP), 1, _BINS))
    means, variances, counts = np.empty(bins), np.empty(bins), np.empty(bins)
    parts = np.array_split(np.argsort(brightness, kind="stable"), bins)
    for i, members in enumerate(parts):
        # In the order of the frame, so that an active structure fills few groups, not all of them.
        members.sort()
        groups = max(1, members.size // _GROUP)
        means[i] = m[members].mean()
        variances[i] = np.median(_means_of_groups(v[members], groups))
        counts[i] = groups
    gain, constant = _robust_line(means, variances, counts)
    few = FewPhotons(mean, variance, usable, [chosen[members] for members in parts], _GROUP, length)
    mean_noise = few.line(gain, constant, is_white)
    gain, constant = mean_noise or (gain, constant)
    empirical = mean_noise is not None or few.uncertain(gain, constant)
    return _Line(gain, constant, float(means.min()), empirical, few.still)


def _means_of_groups(values: FloatArray, groups: int) -> FloatArray:
    """Return the means of so many groups of successive values, the first ones longer by one if need be."""
    size, longer = divmod(values.size, groups)
    cut = longer * (size + 1)
    first, rest = values[:cut].reshape(longer, size + 1), values[cut:].reshape(groups - longer, size)
    return np.concatenate((first.mean(1), rest.mean(1)))


def _neighbour_mean(image: FloatArray) -> FloatArray:
    """Return the mean of the eight neighbours of each pixel, edges replicated."""
    padded = np.pad(image, 1, mode="edge")
    height, width = image.shape
    total = np.zeros_like(image)
    for dy in range(3):
        for dx in range(3):
            if (dy, dx) != (1, 1):
                total += padded[dy : dy + height, dx : dx + width]
    return total / 8


def _robust_line(x: FloatArray, y: FloatArray, counts: FloatArray) -> tuple[float, float]:
    """Fit y = slope * x + constant, slope >= 0, by Huber's reweighting with relative errors.

    A slope below two standard errors is set to 0: an evenly lit field cannot show one.
    """
    centre = float(np.average(x, weights=counts))
    typical = float(np.median(y))
    sigma = np.maximum(y, max(0.05 * typical, 1e-30))
    trust = np.ones_like(y)
    slope, level, spread = 0.0, typical, 0.0
    w, fitted = counts, np.full_like(y, typical)
    for _ in range(_ITERATIONS):
        w = counts * trust / sigma**2
        total = float(w.sum())
        centre = float((w * x).sum() / total)
        level = float((w * y).sum() / total)
        spread = float((w * (x - centre) ** 2).sum())
        # Brightness that hardly varies cannot show a slope.
        flat = spread <= 1e-12 * total * max(centre**2, 1e-30)
        slope = 0.0 if flat else max(0.0, float((w * (x - centre) * (y - level)).sum()) / spread)
        fitted = slope * (x - centre) + level
        sigma = np.maximum(fitted, max(0.05 * typical, 1e-30))
        residual = np.abs(y - fitted) / sigma
        limit = 1.5 * max(1.48 * float(np.median(residual)), 1e-6)
        trust = np.minimum(1.0, limit / np.maximum(residual, 1e-30))
    if len(y) > 2 and slope > 0:
        error = np.sqrt(float((w * (y - fitted) ** 2).sum()) / (len(y) - 2) / spread)
        if slope < 2 * error:
            return 0.0, level
    return slope, level - slope * centre
