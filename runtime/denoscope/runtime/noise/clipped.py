"""Saturated structures with a sharp edge: taken out before a frame is denoised, shown as measured afterwards.

A bright bead, debris or a hot pixel that saturates differs from the tissue beside it by far more than the networks
ever saw, and spoils some ten pixels around it. So it is filled with what lies beside it. Structures that saturate
with a soft edge, and those only some forty times as bright as the noise, are denoised well and stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.movies.holes import fill_sources

from .noise import Intensity, estimate_intensity, noise_of
from .saturation import ends_at, saturated_part

__all__ = ["Clipped", "all_without_clipped", "filled_estimate", "saturated_pixels", "take_out_clipped"]

Frame = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]

_FAR = 40.0  # median steps of a pixel from frame to frame
_STEP = 40.0  # standard deviations of the noise beside it by which a structure stands out
_DARK = 0.1  # share of the saturated counts that what lies beside it may have at most
_BRIGHT = 10.0  # standard deviations from which a pixel beside it belongs to it
_FLANK = 5  # pixels that an edge may be wide
_FEWEST = 16  # pixels of a plateau
_EVEN = 0.1  # standard deviations of the noise that the counts of a plateau differ by
_SPREAD = 3.0  # the same for those of an even structure
_BEYOND = 0.3  # of these, more than noise makes so even: a plateau
_LOOKED_AT = 4096  # pixels
_MOST = 0.9  # share of a frame; what is left of others says nothing


@dataclass(frozen=True, slots=True)
class Clipped:
    """Pixels that were taken out of a frame.

    Attributes
    ----------
    at
        Their places in the flat frame.
    measured
        Their counts.
    noise
        Standard deviation of these, float32.
    """

    at: npt.NDArray[np.intp]
    measured: Frame
    noise: Floats

    def moved(self, shape: tuple[int, int], move: Callable[[Frame], Frame]) -> Clipped:
        """Return the same pixels where `move` puts those of a frame of that shape."""
        images = []
        for values in (np.True_, self.measured, self.noise):
            image = np.zeros(shape, values.dtype)
            image.put(self.at, values)
            images.append(move(image).ravel())
        at = np.flatnonzero(images[0])
        return Clipped(at, images[1][at], images[2][at])

    def put_back(self, made: Frame, std: Floats | None) -> None:
        """Show them as measured in a denoised frame (H, W) and its standard deviation."""
        made.put(self.at, self.measured)
        if std is not None:
            std.put(self.at, self.noise)


def take_out_clipped(frame: Frame, intensity: Intensity) -> tuple[Frame, Clipped | None]:
    """Return a frame (H, W) whose saturated structures are filled with the pixels beside them, and what they were.

    A frame without saturated structures that stand out is returned itself, with None.
    """
    found = _at_the_ceiling(frame, intensity)
    if found is None:
        return frame, None
    full, ceiling = found
    wide = _with_flanks(frame, full, intensity)
    if wide.all():
        return frame, None
    at, source = np.flatnonzero(wide), fill_sources(wide)
    beside, which = np.unique(source, return_inverse=True)
    dark = _around(frame, wide, beside)
    lit = dark - np.float32(intensity.offset)
    stands_out = (lit < _DARK * (ceiling - intensity.offset)) & (
        ceiling - dark > _STEP * noise_of(dark, intensity)
    )
    chosen = stands_out[which]
    if not chosen.any():
        return frame, None
    at, source = at[chosen], source[chosen]
    out = frame.copy()
    out.ravel()[at] = frame.ravel()[source]
    measured = frame.ravel()[at]
    return out, Clipped(at, measured, noise_of(measured, intensity))


def saturated_pixels(frame: Frame, intensity: Intensity) -> Mask | None:
    """Return which pixels of a frame (H, W) say nothing of the light: saturated, or taken out beside such; or None."""
    top = frame.max()
    full = frame == top
    lost = full if ends_at(frame, full, float(top)) else np.zeros_like(full)
    found = _at_the_ceiling(frame, intensity)
    if found is not None:
        lost = lost | found[0]
        clipped = take_out_clipped(frame, intensity)[1]
        if clipped is not None:
            lost.ravel()[clipped.at] = True
    return lost if lost.any() else None


def filled_estimate(frames: Frame) -> tuple[Frame, Intensity | None]:
    """Return frames (T, H, W) whose saturated structures are filled, and their noise where it had to be estimated.

    The array itself comes back where there are none.
    """
    saturates = saturated_part(frames) is not None
    if not (saturates or _stands_out(frames)):
        return frames, None
    estimated = estimate_intensity(frames)
    filled = all_without_clipped(frames, estimated)
    # Pixels at one ceiling are left out of an estimate; those that were resampled are not.
    return filled, estimated if filled is frames or saturates else None


def _stands_out(frames: Frame) -> bool:
    """Say whether some pixels of frames (T, H, W) are far brighter than most, by the noise of these."""
    if len(frames) < 2:
        return False
    some = frames[:2, ::4].astype(np.float32)
    noise = float(np.median(np.abs(some[1] - some[0])))
    return float(frames.max()) > float(np.median(some)) + _FAR * max(noise, 1e-12)


def all_without_clipped(frames: Frame, intensity: Intensity) -> Frame:
    """Return frames (T, H, W) whose saturated structures are filled; the array itself where there are none."""
    filled = [take_out_clipped(frame, intensity)[0] for frame in frames]
    if all(np.shares_memory(one, frame) for one, frame in zip(filled, frames, strict=True)):
        return frames
    return np.stack(filled)


def _at_the_ceiling(frame: Frame, intensity: Intensity) -> tuple[Mask, float] | None:
    """Return which pixels are at a ceiling far above the noise, and its counts; None where none are."""
    top = frame.max()
    ceiling = float(top)
    if ceiling <= intensity.offset + _STEP * intensity.scale:
        return None
    full = frame == top
    if np.count_nonzero(full) > _MOST * full.size:
        return None
    if not ends_at(frame, full, ceiling):
        full = np.zeros_like(full)
    level = _plateau(frame, full, intensity)
    if level is not None:
        return frame >= level, level
    return (full, ceiling) if full.any() else None


def _plateau(frame: Frame, full: Mask, intensity: Intensity) -> float | None:
    """Return the count from which on pixels lie on a plateau that is more even than noise allows; None without one.

    Resampling, as by motion correction, spreads a ceiling over some counts and may overshoot it.
    """
    counts = frame[(frame > intensity.offset + _STEP * intensity.scale) & ~full].astype(np.float64)
    counts = counts[np.isfinite(counts)]
    if counts.size < _FEWEST:
        return None
    ordered = np.sort(counts[:: max(1, counts.size // _LOOKED_AT)])
    noise = float(noise_of(ordered[-1:], intensity)[0])
    width = max(_EVEN * noise, 2.0 if frame.dtype.kind in "iu" else 0.0)
    ends = np.searchsorted(ordered, ordered + width, side="right")
    best = int(np.argmax(ends - np.arange(len(ends))))
    level, even = ordered[best], int(ends[best]) - best
    near = int(np.count_nonzero(np.abs(ordered - level) < _SPREAD * noise))
    by_noise = 0.4 * width / noise * near
    if (
        even < max(_FEWEST, by_noise + max(_BEYOND * near, 2 * near**0.5))
        or len(ordered) - ends[best] > even / 2
    ):
        return None
    return float(level)


def _with_flanks(frame: Frame, full: Mask, intensity: Intensity) -> Mask:
    """Return the saturated pixels and the bright ones beside them, which an edge that is not quite sharp makes."""
    far = _BRIGHT * intensity.scale  # resampling leaves pixels far too dark beside an edge, too
    bright = (frame > intensity.offset + far) | (frame < intensity.offset - far)
    wide = full
    for _ in range(_FLANK):
        wide = _grown(wide) & bright
    return wide


def _grown(mask: Mask) -> Mask:
    """Return a mask grown by a pixel in all eight directions."""
    across = mask.copy()
    across[:, 1:] |= mask[:, :-1]
    across[:, :-1] |= mask[:, 1:]
    out = across.copy()
    out[1:] |= across[:-1]
    out[:-1] |= across[1:]
    return out


def _around(frame: Frame, wide: Mask, places: npt.NDArray[np.intp]) -> Floats:
    """Return the mean of the pixels that stay, of 3 x 3 around each place of the flat frame."""
    height, width = frame.shape
    row, column = np.divmod(places, width)
    total, count = np.zeros(len(places), np.float32), np.zeros(len(places), np.float32)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            y, x = np.clip(row + dy, 0, height - 1), np.clip(column + dx, 0, width - 1)
            stays = ~wide[y, x]
            total += np.where(stays, frame[y, x], 0)
            count += stays
    return np.asarray(total / count)
