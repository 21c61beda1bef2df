"""Lines of a frame that get other light than their neighbours, and others in each frame."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime import estimate_intensity

from .middle import middle_of

__all__ = ["line_light_note", "measure_line_light"]

Floats = npt.NDArray[np.float64]

_FRAMES, _EDGE = 48, 512  # that are looked at, in the middle of the movie and of the picture
_FEWEST, _FEWEST_LINES, _FEWEST_PIXELS = 12, 16, 4  # frames, lines, pixels of a line in one part
# Of each line, side by side; all quarters must show it: what moves or flashes is in some.
_PARTS, _QUARTERS = 16, 4
_LEAST_QUARTER = 0.25  # of what the quarters have in common on average, that every two of them have
_BETWEEN = 3  # parts of a line, between two that are compared
_FOLLOWS = 0.5  # of a change that grows with the light of a part, at least
_LEAST = 0.025  # of the light: less is not said
_ERRORS = 5.0
_AROUND = 1.5  # variance of a frame less the mean of two others, in that of the frame
# Frames that are compared with the two around them: bands may move by little from one to the next.
_APART = (1, 2, 3)


def line_light_note(frames: Any) -> str | None:
    """Return a sentence where lines of a frame differ by other light in each frame, else None.

    Parameters
    ----------
    frames
        (T, H, W) raw counts; a part of 48 frames is read.
    """
    size = measure_line_light(frames)
    if not size:
        return None
    return (
        f"in each frame other lines are brighter or darker than their neighbours, typically by {size:.0%} of the "
        "light, as by mains light under a rolling shutter or a laser that flickers; "
        "denoising removes half of this or more, and the raw movie keeps it"
    )


def measure_line_light(frames: Any) -> float:
    """Return by which share of the light lines differ from frame to frame (root of the mean square); 0 for none.

    Parameters
    ----------
    frames
        As of `line_light_note`.
    """
    length, height, width = frames.shape
    count, tall, wide = min(length, _FRAMES), min(height, _EDGE), min(width, _EDGE) // _PARTS * _PARTS
    if count < _FEWEST or tall < _FEWEST_LINES or wide < _PARTS * _FEWEST_PIXELS:
        return 0.0
    part = middle_of(frames, count, tall, wide)
    lines = part.reshape(count, tall, _PARTS, -1).mean(axis=3, dtype=np.float64)
    if not np.isfinite(lines).all():
        return 0.0
    change = _without_light_of_frames(lines)
    apart = [_from_around(change, frames) for frames in _APART]
    if not any(_is_of_lines(each) for each in apart):
        return 0.0
    light = lines.mean(axis=0) - _dark(part, float(lines.min()))
    size = _share_of_light(np.concatenate(apart), light)
    return size if size > _LEAST else 0.0


def _from_around(change: Floats, apart: int) -> Floats:
    """Return changes (T, H, parts) less the mean of the two so many frames before and after."""
    around = (change[: -2 * apart] + change[2 * apart :]) / 2
    return np.asarray((change[apart:-apart] - around) / _AROUND**0.5)


def _is_of_lines(change: Floats) -> bool:
    """Say whether lines of changes (T, H, parts) differ in all quarters in the same way."""
    quarters = change.reshape(*change.shape[:2], _QUARTERS, -1).mean(axis=3)
    pairs = [
        np.mean(quarters[:, :, one] * quarters[:, :, other], axis=1)
        for one, other in combinations(range(_QUARTERS), 2)
    ]
    common = np.mean(pairs, axis=0)  # of each frame
    power = float(np.median(common))
    error = 1.86 * float(np.median(np.abs(common - power))) / len(common) ** 0.5
    each = min(float(np.median(pair)) for pair in pairs)
    return power > _ERRORS * error and each > _LEAST_QUARTER * power


def _share_of_light(change: Floats, light: Floats) -> float:
    """Return by which share of the light lines change; 0 where bright and dim parts change by as many counts.

    Noise of a camera's rows is the latter. Products of parts far from each other hold neither noise of pixels nor
    structures that flash.

    Parameters
    ----------
    change
        (T, H, parts) counts.
    light
        (H, parts) counts above the dark ones.
    """
    one, other = np.triu_indices(light.shape[1], _BETWEEN)
    found = (np.swapaxes(change, 0, 1).swapaxes(1, 2) @ np.swapaxes(change, 0, 1) / len(change))[
        :, one, other
    ]
    expected = light[:, one] * light[:, other]
    mean, level = float(found.mean()), float(expected.mean())
    away = expected - level
    slope = float((away * found).sum()) / max(float((away * away).sum()), 1e-30)
    if not level > 0 or not mean > 0 or slope * level < _FOLLOWS * mean:
        return 0.0
    return float((mean / level) ** 0.5)


def _dark(part: npt.NDArray[Any], darkest: float) -> float:
    """Return the counts without light: where the noise of frames (T, H, W) ends, or of the darkest line."""
    intensity = estimate_intensity(part)
    if intensity.noise_slope > 0:
        return min(darkest, intensity.offset - intensity.scale / intensity.noise_slope)
    return darkest


def _without_light_of_frames(lines: Floats) -> Floats:
    """Return lines (T, H, parts) less the light of the frame: a share of the mean picture, and an offset."""
    picture = lines.mean(axis=0)
    away = picture - picture.mean()
    rest = lines - lines.mean(axis=(1, 2), keepdims=True)
    gains = (rest * away).sum(axis=(1, 2)) / max(float((away * away).sum()), 1e-30)
    return np.asarray(rest - gains[:, None, None] * away)
