"""How much light each frame of a movie got, against the frames before, and which frames have no picture.

A lamp that flickers, a shutter, a stimulus changes all pixels of a frame together. One pixel cannot show this
beneath its noise; some ten thousand, averaged in blocks, show it to a fraction of a percent. Where a frame's
light has changed by more than the error of that, the frame is brought to the light of the reference before its
neighbours and the memory are mixed with it, and its denoised picture is brought back. Where not, nothing is touched.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.noise.noise import Intensity
from denoscope.runtime.noise.saturation import is_full

from .other_picture import CALM_FRAMES, LEAST_PART, other_picture

__all__ = ["STEADY", "Light", "LightMeter", "Lit", "lit_as_one", "under"]

Array = npt.NDArray[np.float64]

_BLOCKS = 16  # along each side
_LEAST_BLOCK = 4  # pixels of its side
_LEAST_PHOTONS = 16.0  # of a block; fewer, and its noise is taken for structure
_FEWEST_BLOCKS = 4  # along each side
_PIXELS, _PIXELS_DIM = 1 << 15, 1 << 17  # sampled of a frame; where there are few photons
_DIM = 4.0  # photons a pixel
_SIGMAS = 5.0  # standard errors that a change of light must have,
_SIGMAS_SLOW = 7.0  # and one that came slowly, as out-of-focus activity does
_SUDDEN = 0.7  # of a change that the trend of the last frames does not explain, where it is sudden
# Variance of lines within their blocks, in that of their noise, of light that some of them got.
_STRIPED = 20.0
_LEAST_STRIPED = 0.05  # of the light: by which the mean must have changed then
_LEAST_TREND = 4  # frames that a trend is taken from
_LEAST = 0.01  # of the light
_MEMORY = 16.0  # frames, time constant of the reference,
_SHORT = 4.0  # and of what a frame is compared with, so that activity that lasts is no change
_LONG = 64.0  # and of what slow drifts are told by
_REGIONS = 4  # along each side, whose changes are compared
_EVEN_SIGMAS = 4.0  # standard errors, by what regions differ in, that an even change must have
_LEAST_DRIFT = 0.005  # of the light
_LITTLE = 0.02  # of the variance of the blocks' means
_UNEVEN = 0.33  # largest spread of a change over the frame, relative to the change: else it is activity
_STEPS = 6  # of the robust fit
_SETTLED = 0.05  # standard errors; a step that moves it by less is the last one
_TUKEY = 4.7
_ACTIVITY = 0.03  # by which activity changes the contrast from frame to frame
_CERTAIN, _SOME_EVIDENCE = 20.0, 4.0  # logarithms of odds
_SAME = 2.5  # standard errors by which frames of the same light differ at most
_HELD = 8  # frames by which the light they have is learned
_FRESH = 2  # frames after a change of light, in which it is compared with the last frames
_OF_MEDIAN = 1.57  # variance of a median in that of a mean
_OWN = 8.0  # frames by which it is learned how much a block changes by itself,
_BY_CHANCE = 1.4  # over the root of these: by how much more than noise it seems to, by chance
_MOST_BEYOND = 100.0  # variances of its noise that a block is off at most
_QUIET = 32  # frames without a change after which the light is steady again
_LOOK_EVERY = 4  # frames, for that
_LIT = 10.0  # standard deviations of a pixel: light that comes on in the dark
_DARK = 0.2  # of the reference's light: what is below has no picture
_FADED = 0.15  # of all light that is gone: most that goes from one frame to the next where it fades
_FULL_SHARE = 0.5  # of the pixels, of the frame or of a block
_NOISIER = 6.0  # variance of a frame under other light, in that of the reference
_ALIKE = 0.8  # correlation of the blocks of two frames of one scene
_PATIENCE, _PATIENCE_DARK = 4, 128  # unusual frames after which the scene is taken to be another


@dataclass(frozen=True, slots=True)
class Light:
    """Light of a frame: ``frame = gain * (frame in the reference's light) + offset``.

    Attributes
    ----------
    gain, offset
        Factor, and raw counts.
    unusual
        Why the frame has no picture of the scene: ``dark``, ``saturated``, ``bright``, ``striped``, or what
        `other_picture` says; else empty.
    anew
        Whether the scene is another one from this frame on.
    """

    gain: float = 1.0
    offset: float = 0.0
    unusual: str = ""
    anew: bool = False


STEADY = Light()


@dataclass(slots=True)
class Lit:
    """Number of a measured frame, its means over the blocks of the light meter, and the light it got.

    `drift` is by how much the mean of the last frames in steady light is off that of many before them, in counts, and
    `even` whether all parts of the frame have drifted so.
    """

    number: int
    blocks: Array
    light: Light
    mean: float
    drift: float = 0.0
    even: bool = False


def under(intensity: Intensity, light: Light, brightest: float = 3.0) -> Intensity:
    """Return the transform that takes a frame in some light to the reference's normalised units, with its noise there.

    Parameters
    ----------
    intensity
        Of the reference's light.
    light
        Of the frame.
    brightest
        Normalised brightness up to which the noise shall be right; it is linear, and 1 at 0 whatever the light is.
    """
    gain, slope = light.gain, intensity.noise_slope
    offset = light.offset + gain * intensity.offset
    shift = (offset - intensity.offset) / intensity.scale
    middle = max(slope * shift + 1, intensity.noise_floor) / gain**2
    top = max(brightest, 1.0)
    return Intensity(
        offset=offset,
        scale=gain * intensity.scale,
        noise_slope=max(0.0, slope / gain + (middle - 1) / top),
        noise_floor=max(intensity.noise_floor / gain**2, middle if middle > 1 else 0.0),
    )


def _median(values: Array) -> float:
    """Return what `np.median` gives of a few hundred finite numbers, at a fraction of its cost."""
    ordered = values.copy()
    ordered.sort()  # half the time of a partition at two places
    middle = ordered.size // 2
    if ordered.size % 2:
        return float(ordered.item(middle))
    return float((ordered.item(middle - 1) + ordered.item(middle)) / 2)


def _medians(lines: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return what `np.median` gives of each line of finite numbers (lines, parts), at a third of its cost."""
    ordered = lines.copy()
    ordered.sort(axis=1)
    middle = lines.shape[1] // 2
    return np.asarray((ordered[:, middle] + ordered[:, -1 - middle]) / 2)


def _sum(values: Array) -> float:
    return float(np.add.reduce(values))


def _mean(values: Array) -> float:
    return _sum(values) / values.size


def _edge(length: int, least: float) -> int:
    """Return the number of blocks along a side, of which each shall have so many pixels."""
    few = max(_FEWEST_BLOCKS, int(length / max(least, 1.0)))
    return max(1, min(_BLOCKS, length // _LEAST_BLOCK, few))


class _Blocks:
    """Means of a frame over blocks, from some of its rows."""

    def __init__(self, shape: tuple[int, int], pixels: int, photons: float = np.inf) -> None:
        height, width = shape
        least = (_LEAST_PHOTONS / photons) ** 0.5
        every = max(1, height * width // pixels)
        every |= every > 1  # odd and even lines alike
        self._every = every
        rows = np.arange(0, height, every)
        self.size = _edge(len(rows), least), _edge(width, least)
        self._down = self.pool(len(rows), self.size[0])
        self._across = self.pool(width, self.size[1]).T.copy()
        self._counts = np.empty((len(rows), width), np.float32)
        # Where all parts of a line have as many pixels: their means at a third of the cost.
        part, rest = divmod(width, self.size[1])
        self._parts = None if rest else (self._counts.reshape(-1, part), self._across[:part, 0].copy())
        # Of the last frame: means over parts of lines.
        self.lines = np.zeros((len(rows), self.size[1]), np.float32)
        self.pixels = len(rows) * width / (self.size[0] * self.size[1])

    @staticmethod
    def pool(length: int, cells: int) -> npt.NDArray[np.float32]:
        """Return the matrix (cells, length) that takes means over parts of a line."""
        member = np.arange(length) * cells // length == np.arange(cells)[:, None]
        return np.asarray(member / member.sum(1, keepdims=True), np.float32)

    def sample(self, frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the rows that are looked at."""
        return frame[:: self._every]

    def of(self, frame: npt.NDArray[Any]) -> Array:
        """Return the means, one after the other."""
        np.copyto(self._counts, frame[:: self._every], casting="unsafe")
        if frame.dtype.kind in "iu":
            return self._means()
        with np.errstate(
            invalid="ignore"
        ):  # infinite pixels make a mean that is no number, which is seen later
            return self._means()

    def _means(self) -> Array:
        if self._parts is None:
            self.lines = self._counts @ self._across
        else:
            parts, weights = self._parts
            self.lines = (parts @ weights).reshape(len(parts) // self.size[1], self.size[1])
        return np.asarray(self._down @ self.lines, np.float64).ravel()

    def within(self, lines: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return by what parts of lines differ from the means of their blocks."""
        block = np.arange(len(lines)) * self.size[0] // len(lines)
        return np.asarray(lines - (self._down @ lines)[block])

    def full(self, frame: npt.NDArray[Any], *, seen: bool = False) -> npt.NDArray[np.bool_] | None:
        """Say which blocks saturate, most of their pixels; None where none does.

        `seen` is true of the frame whose means were taken last.
        """
        # Counts of 16 bits are the same in float32, where they lie one after the other.
        kept = seen and frame.dtype.itemsize <= self._counts.itemsize // 2
        sample = self._counts if kept else self.sample(frame)
        top = np.maximum.reduce(sample, axis=None)
        if not is_full(float(top), frame.dtype):
            return None
        np.copyto(self._counts, sample == top)
        full = np.asarray(self._down @ (self._counts @ self._across)).ravel() > _FULL_SHARE
        return full if full.any() else None


@dataclass(slots=True)
class _Fit:
    """A change of light: ``frame - predicted = change + slope * (reference - centre)``."""

    change: float
    error: float
    slope: float
    slope_error: float
    centre: float
    spread: float  # of the blocks about the fit, in standard deviations of their noise


def _fit(residual: Array, reference: Array, variance: Array, compared: Array | None = None) -> _Fit:
    """Fit a change of light that is robust against structures that change by themselves."""
    weight = 1 / variance
    middle = _median(residual)
    # Begin with what leaves most blocks in place: the same everywhere, or all blocks alike.
    about = float(weight @ reference) / float(weight.sum())
    x = reference - about
    moments = np.empty((5, x.size))
    moments[0], moments[1], moments[3] = 1, x, residual
    np.multiply(x, x, out=moments[2])
    np.multiply(x, residual, out=moments[4])
    change, slope, centre, _, _ = _line(moments, weight)
    starts = (residual - middle, residual - change - slope * (x - centre))
    squares = [left * left * weight for left in starts]
    medians = [_median(each) for each in squares]
    squared, middle = min(zip(squares, medians, strict=True), key=lambda each: each[1])
    change = slope = before = slope_before = 0.0
    for step in range(_STEPS):
        spread = max(1.0, 1.4826 * middle**0.5)
        kept = np.maximum(1 - squared * (1 / (_TUKEY * spread) ** 2), 0.0)
        w = kept * kept * weight
        change, slope, centre, total, spread_x = _line(moments, w)
        moved = (change - before) ** 2 * total + (slope - slope_before) ** 2 * spread_x
        if step and moved < (_SETTLED * spread) ** 2:
            break
        before, slope_before = change, slope
        left = residual - (change - slope * centre) - slope * x
        squared = left * left * weight
        middle = _median(squared)
    centre += about
    if compared is not None:
        centre = float(w @ compared / total)
    return _Fit(
        change, spread / float(np.sqrt(total)), slope, spread / float(np.sqrt(spread_x)), centre, spread
    )


def _line(moments: Array, weight: Array) -> tuple[float, float, float, float, float]:
    """Return mean and slope of a weighted line through blocks, the centre, and the weights of both.

    `moments` are ones, x, x squared, y and x times y of the blocks.
    """
    total, x, xx, y, xy = (moments @ weight).tolist()
    centre = x / total
    spread = max(xx - x * centre, 1e-30)
    return y / total, (xy - centre * y) / spread, centre, total, spread


class _Anchor:
    """Blocks as they look in the reference's light while the light changes, and how much each changes by itself.

    A frame is compared with what it was expected to be. Blocks that did not change by themselves are known from many
    frames, and tell the most; those of cells that flash follow the cells, and tell little. Compared with the last few
    frames only, the light would follow cells that grow dim after a step, frame by frame.

    Parameters
    ----------
    blocks
        (B,) means over many frames, in counts.
    variance
        (B,) of the blocks of one frame by the camera's noise, in counts^2.
    frames
        (B,) blocks of each of the last frames, in counts.
    """

    def __init__(self, blocks: Array, variance: Array, frames: Sequence[Array]) -> None:
        self.blocks = blocks
        self.error = variance.copy()
        self._beyond = np.ones(len(blocks))  # squares of what was not expected, in those of noise
        self._frames = 0.0
        for frame in frames:
            self.take(frame, variance)

    def take(self, frame: Array, variance: Array) -> None:
        """Learn from the blocks of a frame, brought to the reference's light, and their variance by noise there."""
        expected = self.error + variance
        off = frame - self.blocks
        self._frames = min(self._frames + 1, _OWN)
        self._beyond += (np.minimum(off * off / expected, _MOST_BEYOND) - self._beyond) / self._frames
        share = self.error / expected
        self.blocks = self.blocks + share * off
        walk = np.maximum(self._beyond - 1 - _BY_CHANCE / self._frames**0.5, 0.0)
        self.error = (1 - share) * self.error + np.maximum(walk * variance, variance / _LONG**2)


class LightMeter:
    """Follow the light of a movie, frame by frame.

    Parameters
    ----------
    shape
        (H, W) of the frames.
    intensity
        Transform and noise of the session.
    """

    def __init__(self, shape: tuple[int, int], intensity: Intensity) -> None:
        photons = 1 / max(intensity.noise_slope, 1e-3) ** 2
        self._blocks = _Blocks(shape, _PIXELS if photons >= _DIM else _PIXELS_DIM, photons)
        down, across = (_Blocks.pool(edge, min(_REGIONS, edge)) for edge in self._blocks.size)
        self._down, self._across = down, across.T.copy()  # from blocks to regions
        self._intensity = intensity
        # Variance of a block's mean, as a line of the mean, and the least.
        n, pixels = intensity, self._blocks.pixels
        self._variance_slope = n.noise_slope * n.scale / pixels
        self._variance_at_0 = (1 - n.noise_slope * n.offset / n.scale) * (n.scale**2 / pixels)
        self._least_variance = n.noise_floor * (n.scale**2 / pixels)
        self.few_photons = min(1.0, intensity.noise_slope)
        self._seen_blocks: Array = np.zeros(0)  # of the last frame
        self._seen_mean = 0.0
        self.restart()

    def restart(self) -> None:
        """Forget all: the next frame is the first of a movie."""
        self._reference: Array | None = None
        self._last: Array = np.zeros(0)  # the same over a few frames
        self._seen = 0.0
        self._long: Array = np.zeros(0)  # the same over many frames
        self._frames = 0
        self._level = STEADY  # the light while it is steady
        self._varies = False
        self._recent: deque[tuple[float, float, float]] = deque(maxlen=_QUIET)
        self._jumped = -_QUIET  # frame at which the light changed suddenly
        self._usual = 1.0  # spread of the blocks from frame to frame, in that of their noise
        self._calm: deque[Array] = deque(
            maxlen=CALM_FRAMES
        )  # blocks of the last usual frames, in the reference's light
        self._full: deque[npt.NDArray[np.bool_] | None] = deque(maxlen=CALM_FRAMES)  # and which saturated
        self._lines: npt.NDArray[np.float32] | None = None  # as in the last frames, in the reference's light
        self._last_lines: npt.NDArray[np.float32] | None = None  # and in the last one
        self._unusual = 0
        self._other: Array | None = None
        # How much a block's light changes with its brightness when the mean changes by one count: 1 over the light
        # above the camera's offset if it is a gain. Learned, since the offset is not known.
        self._ratio: float | None = None
        self._ratio_weight = 0.0
        self._before: tuple[float, float] | None = None
        self._added = 0.0
        self._held: Light | None = None  # of the last frames, while it stays the same,
        self._held_frames = 0  # how many they are,
        self._held_off = 0.0  # and by how many counts they were off it, all together
        self._anchor: _Anchor | None = None  # while the light changes
        self._since = 1  # frames since it changed from one frame to the next, that one among them
        self._blocks_before: Array = np.zeros(0)  # of the last frame with a picture

    def begin(self, frames: npt.NDArray[Any]) -> None:
        """Make the reference from frames (T, H, W) of which the first will be seen next, if some of them are dark."""
        with np.errstate(invalid="ignore"):  # NaN and infinite pixels
            blocks = np.array([self._blocks.of(frame) for frame in frames]).reshape(len(frames), -1)
        blocks = blocks[
            np.isfinite(blocks).all(axis=1)
        ]  # frames with pixels that were not measured say nothing
        if len(blocks) < 3:
            return
        usual, changes = _common_light(blocks)
        if usual.sum() < 2 or usual.all():
            return
        chosen = blocks[usual] - changes[usual, None]
        self._reference = chosen.mean(axis=0)
        self._last = self._long = chosen[: int(2 * _SHORT)].mean(axis=0)
        self._seen = float(min(usual.sum(), _MEMORY))

    def begin_with(self, frame: npt.NDArray[Any]) -> None:
        """Take a frame as it is for the first of a movie."""
        self.restart()
        self._reference = self._last = self._blocks.of(frame)
        self._seen = 1.0
        self._long, self._frames = self._last, 1

    def see(self, frame: npt.NDArray[Any], measured: npt.NDArray[Any] | None = None) -> Light:
        """Return the light of the next frame (H, W) of raw counts.

        Parameters
        ----------
        frame
            Its saturated structures may be filled with what lies beside them.
        measured
            The same frame as measured; None where nothing is filled.
        """
        self._seen_blocks = x = self._blocks.of(frame)
        self._seen_mean = _mean(x)
        if not isfinite(self._seen_mean):
            return self._level
        full = self._blocks.full(frame, seen=True) if measured is None else self._blocks.full(measured)
        if self._reference is None:
            if self._lacks_a_picture(x):
                return Light(unusual="dark")
            self._reference, self._last, self._seen = x, x, 1.0
            self._long, self._frames = x, 1
            self._full.append(full)
            return STEADY
        level, anchor = self._level, self._anchor
        if anchor is not None and not self._lasts():
            anchor = None
        last = self._last if anchor is None else anchor.blocks
        predicted = last if level is STEADY else level.gain * last + level.offset
        averaged = min(self._seen, 2 * _SHORT - 1)
        variance = self._steady_variance(predicted, averaged)
        if anchor is None:
            variance = variance * (1 + level.gain**2 / averaged)
        else:
            variance = variance + level.gain**2 * anchor.error
        residual = x - predicted
        weight = 1 / variance
        total, weighted = _sum(weight), weight * residual
        change = _sum(weighted) / total
        error = self._usual / sqrt(total)
        light = level
        worst = float(weighted.dot(residual)) / len(x)
        flash = self._flash(full)
        if self._varies or abs(change) > _SIGMAS * error or worst > 4 * self._usual**2 or flash is not None:
            light = self._judge(frame, x, residual, variance, flash, last)
            if light.unusual or light.anew:
                return light
        else:
            self._usual += 0.05 * (max(1.0, sqrt(worst)) - self._usual)
        self._unusual, self._other = 0, None
        self._seen = min(self._seen + 1, _MEMORY)
        steady = x if light is STEADY else (x - light.offset) / light.gain
        self._blocks_before = x
        if self._anchor is not None:
            self._anchor.take(steady, self.variance_of(self._anchor.blocks) / light.gain)
        self._reference = self._reference + (steady - self._reference) / self._seen
        self._last = self._last + (steady - self._last) / min(self._seen, _SHORT)
        lines = self._blocks.lines
        lines = self._last_lines = lines if light is STEADY else (lines - light.offset) / light.gain
        share = np.float32(1 / min(self._seen, _SHORT))
        self._lines = lines if self._lines is None else self._lines + (lines - self._lines) * share
        self._calm.append(steady)
        self._full.append(full)
        self._frames += 1
        self._long = (
            steady if self._frames == 1 else self._long + (steady - self._long) / min(self._frames, _LONG)
        )
        return light

    def lit(self, number: int, light: Light) -> Lit:
        """Return what is kept of the frame that was seen last."""
        reference = self._reference
        drift, even = 0.0, False
        if light is STEADY and reference is not None:
            # Means of some frames, of which single ones may hide a drift.
            change, longer = self._last - reference, self._last - self._long
            drift, other = _mean(change), _mean(longer)
            if abs(other) > abs(drift):
                change, drift = longer, other
            even = self.is_even(change)
        return Lit(number, self._seen_blocks, light, self._seen_mean, drift, even)

    def is_even(self, change: Array) -> bool:
        """Say whether a change of the blocks' means is one of the light.

        All parts of the frame have then changed by a like number of counts or by a like share of their light.
        Structures that move, enter or flash change some parts only.
        """
        reference = self._reference
        if reference is None:
            return False
        mean, level = _mean(change), _mean(reference)
        light = self.light_above(level)
        if not abs(mean) > _LEAST_DRIFT * light > 0:
            return False
        changes, levels = (
            (self._down @ (each.reshape(self._blocks.size) @ self._across)).ravel()
            for each in (change, reference)
        )
        above = np.maximum(levels - (level - light), 0.1 * light)
        for each in (changes, changes / above):
            if abs(each.mean()) > _EVEN_SIGMAS * each.std() / (each.size - 1) ** 0.5:
                return True
        return False

    def blocks_of(self, frame: npt.NDArray[Any]) -> Array:
        """Return the means of a frame over the blocks that are kept of a measured one."""
        return self._blocks.of(frame)

    def light_above(self, mean: float) -> float:
        """Return the light of a mean in counts above the camera's offset, about."""
        reference = self._reference
        return 0.0 if reference is None else self._light_above(mean, reference)

    def variance_of(self, level: Array) -> Array:
        """Return the variance of the blocks' means by the camera's noise."""
        variance = level * self._variance_slope
        variance += self._variance_at_0
        return np.maximum(variance, self._least_variance, out=variance)

    def _steady_variance(self, level: Array, frames: float) -> Array:
        """Return the variance of blocks by the camera's noise, given their means over so many frames.

        Weights by the means themselves would prefer blocks that are dark by noise, so that the next frame looks
        brighter. So the means are drawn together by the share of their spread that is noise.
        """
        variance = self.variance_of(level)
        mean = _mean(level)
        away = level - mean
        spread = float(away.dot(away)) / away.size
        noise = _mean(variance) / frames
        if noise < _LITTLE * spread:
            return variance
        away *= max(0.0, 1 - noise / max(spread, 1e-30))
        away += mean
        return self.variance_of(away)

    def _lacks_a_picture(self, x: Array) -> bool:
        """Say whether a first frame is dark: far below the session's median everywhere, and without structure."""
        n = self._intensity
        z = (_median(x) - n.offset) / n.scale
        spread = float(np.square(x - x.mean()).mean()) * self._blocks.pixels / n.scale**2
        noise = max(n.noise_slope * z + 1, n.noise_floor)
        return z < -0.25 and noise < 0.5 and spread < 2 * max(noise, 0.02)

    def _lights_up(self, x: Array, variance: Array) -> bool:
        """Say whether light comes on where there was none: the reference is flat, and far below."""
        reference = self._reference
        assert reference is not None
        if _median(x - reference) <= _LIT * self._intensity.scale:
            return False
        return float(np.var(reference)) < 4 * _median(variance)

    def _flash(self, full: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_] | None:
        """Return which blocks saturate that did not in the last usual frames; None where they are few."""
        if full is None:
            return None
        flash = full.copy()
        for before in self._full:
            if before is not None:
                flash &= ~before
        return flash if flash.mean() >= LEAST_PART else None

    def _judge(
        self,
        frame: npt.NDArray[Any],
        x: Array,
        residual: Array,
        variance: Array,
        flash: npt.NDArray[np.bool_] | None,
        last: Array,
    ) -> Light:
        """Return the light of a frame that differs from the reference."""
        reference, level = self._reference, self._level
        assert reference is not None
        if self._lights_up(x, variance):
            return Light(anew=True)
        fit = _fit(residual, reference, variance, last)
        light_counts = self._light_above(fit.centre, reference)
        kind = self._unusual_kind(frame, x, fit, light_counts, variance) or self._other_picture(
            x, variance, flash
        )
        if not kind and self._is_striped(residual, variance, light_counts):
            kind = "striped"
        if kind == "dark" and self._fades(x, fit.change):
            return Light(anew=True)
        if kind:
            return self._pass_by(x, kind)
        # Brighter frames have more noise.
        means = np.array([_mean(x), _mean(x - residual)])
        more, before = self.variance_of(means)
        noise = 1 + float(more - before) / _mean(variance)
        spread = np.sqrt(max(fit.spread**2 - max(noise, 1.0) * self._usual**2, 0.0) * _median(variance))
        error = max(
            fit.error, self._usual * fit.error / fit.spread, self._row_error(residual, fit, reference)
        )
        changed = abs(fit.change) > max(_SIGMAS * error, _LEAST * light_counts)
        even = spread < (2 * _UNEVEN if self._varies else _UNEVEN) * abs(fit.change)
        if not self._varies:
            sudden = changed and self._is_sudden(x, fit.change, reference, variance)
            if sudden:
                self._jumped = self._frames
            slow = not sudden and self._frames - self._jumped > _PATIENCE
            if not (changed and even) or (slow and abs(fit.change) < _SIGMAS_SLOW * error):
                self._usual += 0.05 * (min(fit.spread, 2 * self._usual) - self._usual)
                return level
            self._anchor, self._since = _Anchor(reference, self.variance_of(reference), self._calm), 1
        if not self._varies:
            self._varies = True
            self._recent.clear()
            self._before = self._held = None
            self._added = 0.0
        elif changed and not even:
            return level
        slope = self._slope(fit)
        gain = level.gain + slope
        self._learn(fit, error)
        self._recent.append((fit.change, error, slope))
        if not _DARK < gain < 1 / _DARK:
            slope, gain = 0.0, level.gain
        offset = level.offset + fit.change - slope * fit.centre
        light = self._held_light(Light(gain, offset), fit.centre, _SAME * error)
        self._settle(fit.centre)
        return light

    def _lasts(self) -> bool:
        """Count the frames since the light jumped; say whether more than `_FRESH` have passed."""
        seen = self._seen_blocks
        change = abs(_median(seen - self._blocks_before))  # cells that flash move it little
        error = self._usual * (_OF_MEDIAN * 2 * _mean(self.variance_of(seen)) / len(seen)) ** 0.5
        jumped = change > max(_SIGMAS * error, _LEAST * self.light_above(self._seen_mean))
        self._since = 1 if jumped else self._since + 1
        return self._since > _FRESH

    def _held_light(self, light: Light, centre: float, most: float) -> Light:
        """Return the light of the frames before where that of a frame is the same but for its error.

        The light of each frame by itself has an error that the reference would take over, frame by frame: where cells
        grow dim after a step of the light, it ran away by a tenth.
        """
        held = self._held
        off = 0.0 if held is None else (light.gain - held.gain) * centre + light.offset - held.offset
        self._held_off += off
        count = self._held_frames + 1
        if held is None or abs(off) > most or abs(self._held_off) > most * count**0.5:
            self._held, self._held_frames, self._held_off = light, 1, 0.0
            return light
        self._held_frames = count
        if count > _HELD:
            return held
        share = 1 / count
        self._held = Light(
            held.gain + share * (light.gain - held.gain), held.offset + share * (light.offset - held.offset)
        )
        return self._held

    def _is_sudden(self, x: Array, change: float, reference: Array, variance: Array) -> bool:
        """Say whether a change of light, in counts, is more than the trend of the last frames goes on."""
        if len(self._calm) < _LEAST_TREND:
            return True
        calm, level = np.stack(self._calm), self._level
        t = np.arange(len(calm)) - (len(calm) - 1) / 2
        # One frame after the last of them.
        expected = calm.mean(axis=0) + (1 - t[0]) / float(t @ t) * (t @ calm)
        unexplained = _fit(x - level.gain * expected - level.offset, reference, variance).change
        return bool(unexplained * np.sign(change) > _SUDDEN * abs(change))

    def _is_striped(self, residual: Array, variance: Array, light: float) -> bool:
        """Say whether some lines of the frame seen last got much of the light that it has more, and others none."""
        change = _mean(residual)
        error = self._usual * (_mean(variance) / len(variance)) ** 0.5
        if not abs(change) > max(_SIGMAS * error, _LEAST_STRIPED * light):
            return False
        before, last, rows = self._lines, self._last_lines, len(self._blocks.lines)
        if before is None or last is None or len(self._calm) < _LEAST_TREND:
            return False
        if rows < 2 * self.rows or self._blocks.size[1] < _FEWEST_BLOCKS:
            return False
        level = self._level
        stripes, usual = (  # in counts of this frame, as the change and the noise are
            level.gain**2 * float(np.square(_medians(self._blocks.within(each - before))).mean())
            for each in ((self._blocks.lines - level.offset) / level.gain, last)
        )
        noise = _mean(variance) * rows / (self.rows * self._blocks.size[1])
        return stripes > max(_STRIPED * noise, _STRIPED / 2 * usual, (0.5 * change) ** 2)

    def _slope(self, fit: _Fit) -> float:
        """Return how the change grows with brightness: by a gain, or not at all where light was added to all pixels.

        What the frame itself shows only decides between the two. Bright structures that are active change it too.
        """
        if self._ratio is None:
            self._prior(fit)
        assert self._ratio is not None
        expected = self._ratio * fit.change
        # The longer ago the light changed, the more of the contrast has changed by itself since.
        error = np.hypot(fit.slope_error, _ACTIVITY * self._since)
        added = expected * (expected - 2 * fit.slope) / (2 * error**2)  # log of the odds that light was added
        self._added = float(np.clip((1 - 0.2 / self._since) * self._added + added, -_CERTAIN, _CERTAIN))
        return 0.0 if self._added > _SOME_EVIDENCE else expected

    def _learn(self, fit: _Fit, error: float) -> None:
        """Take what a changed frame says of the camera's offset, by the step from the frame before."""
        before, self._before = self._before, (fit.change, fit.slope)
        if before is None or self._ratio is None or self._added > 0:
            return
        step = fit.change - before[0]
        if abs(step) < 2 * _SIGMAS * error:
            return
        seen = (fit.slope - before[1]) / step
        weight = step**2 / (2 * (fit.slope_error**2 + _ACTIVITY**2))
        if abs(seen - self._ratio) > 4 * np.sqrt(1 / weight + 1 / self._ratio_weight):
            return
        total = self._ratio_weight + weight
        self._ratio = max(self._ratio + weight / total * (seen - self._ratio), 0.0)
        self._ratio_weight = 0.98 * total

    def _prior(self, fit: _Fit) -> None:
        """Begin with an offset between where the noise ends and the darkest blocks."""
        n, reference = self._intensity, self._reference
        assert reference is not None
        darkest = float(np.quantile(reference, 0.02))
        high = 1 / max(fit.centre - darkest, 1e-6 * n.scale, 1e-12)
        end = n.offset - n.scale / n.noise_slope if n.noise_slope > 0 else -np.inf
        low = 0.0 if end == -np.inf else 1 / max(fit.centre - min(end, darkest), 1e-12)
        high = min(high, 4 * low) if low else high
        self._ratio = low if low else high / 2
        self._ratio_weight = 1 / max((high - low) / 2, 0.05 * high) ** 2

    def _light_above(self, centre: float, reference: Array) -> float:
        """Return the light of the reference in counts above the camera's offset, about."""
        if self._ratio is not None and self._ratio > 0:
            return 1 / self._ratio
        n = self._intensity
        darkest = float(np.minimum.reduce(reference))
        end = n.offset - n.scale / n.noise_slope if n.noise_slope > 0 else darkest
        return max(centre - min(end, darkest), 0.0)

    def _row_error(self, residual: Array, fit: _Fit, reference: Array) -> float:
        """Return the error of the change as rows show it that share some noise."""
        return self.line_error(residual - fit.change - fit.slope * (reference - float(reference.mean())))

    @property
    def rows(self) -> int:
        """Rows of blocks."""
        return self._blocks.size[0]

    def line_error(self, left: Array) -> float:
        """Return the error of a mean as lines show it that share some noise.

        Parameters
        ----------
        left
            What is left of the blocks' means, one after the other, besides a change of light.
        """
        rows = _medians(left.reshape(self._blocks.size))
        return 1.78 * _median(np.abs(rows - _median(rows))) / float(np.sqrt(len(rows)))

    def _settle(self, centre: float) -> None:
        """Call the light steady again when it has not changed for a while."""
        if len(self._recent) < _QUIET:
            return
        changes, errors, slopes = np.array(self._recent).T
        mean = float(changes.mean())
        if np.square((changes - mean) / errors).mean() > 2:
            for _ in range(_LOOK_EVERY):
                self._recent.popleft()
            return
        level, slope = self._level, float(slopes.mean())
        error = float(errors.mean()) / np.sqrt(_QUIET)
        self._varies = False
        self._anchor = None
        self._recent.clear()
        if abs(mean) > 3 * error:
            self._level = Light(level.gain + slope, level.offset + mean - slope * centre)

    def _unusual_kind(
        self,
        frame: npt.NDArray[Any],
        x: Array,
        fit: _Fit,
        light: float,
        variance: Array,
    ) -> str:
        """Return why a frame shows nothing of the scene, empty where it does."""
        reference, level = self._reference, self._level
        assert reference is not None
        significant = abs(fit.change) > 2 * _SIGMAS * fit.error
        sample = self._blocks.sample(frame)
        largest = float(sample.max())
        if is_full(largest, frame.dtype) and np.count_nonzero(sample == largest) > _FULL_SHARE * sample.size:
            return "saturated"
        if significant and abs(fit.change) > 0.5 * light * level.gain:
            # The reference is old: active structures may have gone out since, and that is not what makes a frame flat.
            left, error = self._contrast_left(x, variance)
            flat = left < _DARK and error < 0.25 * _DARK
            low = fit.change < -(1 - _DARK) * light * level.gain and self._intensity.noise_slope > 0
            if fit.change > 0 and flat:
                return "bright"
            if fit.change < 0 and (flat or (low and left - 2 * error < _DARK)):
                return "dark"
        if significant and fit.change > 0:
            # More light, and with it more noise than the frames around can make good.
            ratio = self.variance_of(x) / variance
            if _median(ratio) > _NOISIER:
                return "bright"
        return ""

    def _fades(self, x: Array, change: float) -> bool:
        """Say whether a frame is dark because the light faded: the frame before had a picture, and was nearly as dark.

        Parameters
        ----------
        x
            Blocks of the frame.
        change
            Counts by which it differs from steady light.
        """
        before = self._blocks_before
        if self._unusual or not before.size:
            return False
        return abs(_mean(x - before)) < _FADED * abs(change)

    def _other_picture(self, x: Array, variance: Array, flash: npt.NDArray[np.bool_] | None) -> str:
        """Return why a frame shows something else, in part or as a whole; empty where it does not."""
        level, n = self._level, self._intensity
        floor = n.offset - n.scale / n.noise_slope if n.noise_slope > 0 else float(x.min())
        steady = (x - level.offset) / level.gain
        return other_picture(
            steady, self._last, self._calm, self._blocks.size, floor, variance / level.gain**2, flash
        )

    def _contrast_left(self, x: Array, variance: Array) -> tuple[float, float]:
        """Return the contrast of a frame in that of the last ones, and its error."""
        fit = _fit(x - self._last, self._last, variance)
        return 1 + fit.slope, fit.slope_error

    def _pass_by(self, x: Array, kind: str) -> Light:
        """Count unusual frames; after some that are alike the scene is another."""
        other = self._other
        alike = other is not None and x.std() > 0 and np.corrcoef(x, other)[0, 1] > _ALIKE
        pictured = float(np.var(x)) > 20 * _median(self.variance_of(x))
        self._other = x if other is None or not alike else other + (x - other) / 4
        self._unusual = self._unusual + 1 if other is not None else 1
        patience = _PATIENCE if alike and pictured and kind not in ("dark", "saturated") else _PATIENCE_DARK
        if self._unusual >= patience:
            return Light(anew=True)
        return Light(unusual=kind)


def _common_light(blocks: Array) -> tuple[npt.NDArray[np.bool_], Array]:
    """Return which frames show the same scene, and by how many counts each is brighter than the most usual one.

    Parameters
    ----------
    blocks
        (T, B) means of the blocks of each frame.
    """
    length = len(blocks)
    usual, changes = np.ones(length, bool), np.zeros(length)
    if length < 3:
        return usual, changes
    totals = np.median(blocks, axis=1)
    # Noise of a block: what successive frames differ by once their means are equal.
    steps = np.diff(blocks, axis=0)
    steps = steps - np.median(steps, axis=1)[:, None]
    sigma = 1.4826 * float(np.median(np.abs(steps))) / np.sqrt(2)
    variance = np.full(blocks.shape[1], max(sigma**2, 1e-12))
    # Dark frames are flat: the frame to start with is the middle one of those with structure.
    structure = blocks.std(axis=1)
    pictured = structure >= 0.5 * np.quantile(structure, 0.9)
    order = np.flatnonzero(pictured)[np.argsort(totals[pictured], kind="stable")]
    reference = blocks[order[len(order) // 2]]
    for _ in range(2):
        for t in range(length):
            fit = _fit(blocks[t] - reference, reference, 2 * variance)
            uneven = np.sqrt(max(fit.spread**2 - 1, 0.0) * 2 * variance[0])
            changed = abs(fit.change) > max(_SIGMAS * fit.error, uneven / _UNEVEN)
            changes[t] = fit.change if changed else 0.0
            usual[t] = not (changed and fit.slope_error < 0.1 and 1 + fit.slope < 2 * _DARK)
        if usual.sum() < 2:
            return np.ones(length, bool), np.zeros(length)
        reference = (blocks[usual] - changes[usual, None]).mean(axis=0)
    return usual, changes


def lit_as_one(frames: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return frames (T, H, W) for the estimate of the noise: brought to one light, without dark ones.

    The array itself comes back where the light does not change.
    """
    if len(frames) < 4:
        return frames
    pool = _Blocks((frames.shape[1], frames.shape[2]), _PIXELS_DIM)
    blocks = np.stack([pool.of(frame) for frame in frames])
    if not np.isfinite(blocks).all():
        return frames
    usual, changes = _common_light(blocks)
    if usual.sum() < 4:
        return frames
    moved = np.abs(changes)
    darkest = float(np.quantile(blocks, 0.02))
    if not usual.all():
        darkest = min(darkest, float(np.median(blocks[~usual])))
    light = float(np.median(blocks[usual])) - darkest
    if moved[usual].max() < 0.1 * light:
        return frames if usual.all() else frames[usual]
    # Light that alternates: the frames of one of the two.
    near = usual & (moved <= 0.4 * (changes[usual].max() - changes[usual].min()) + 0.1 * light)
    chosen = near if near.sum() >= 4 else usual
    shift = changes[chosen].astype(np.float32)[:, None, None]
    return np.asarray(frames[chosen].astype(np.float32) - shift)
