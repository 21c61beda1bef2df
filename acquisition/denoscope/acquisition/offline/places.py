"""Places of a movie that a picture shows, their traces, and the scale bar."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["COLOURS", "SIDE", "draw_scale_bar", "pick_places", "trace_at"]

SIDE = 5
"""Side of a square whose mean is a trace, in pixels."""

COLOURS = ("#d1495b", "#00798c", "#8a5a00")
_MODEST = 98  # percentile of the changes of dim places
_Movie = npt.NDArray[np.float32]


def _smooth(image: _Movie, width: int) -> _Movie:
    """Return the mean of `image` over squares of `width` pixels (odd), edges replicated."""
    half = width // 2
    total = np.pad(image.astype(np.float64), half + 1, mode="edge").cumsum(0).cumsum(1)
    size = image.shape
    box = total[width:, width:] - total[:-width, width:] - total[width:, :-width] + total[:-width, :-width]
    mean: _Movie = (box[: size[0], : size[1]] / width**2).astype(np.float32)
    return mean


def pick_places(mean: _Movie, std: _Movie) -> list[tuple[int, int]]:
    """Return the centres of up to three squares: a dim one that changes, and two that change most.

    Dim is a place darker than half of the frame: there the noise hides most, and denoising is seen best.
    """
    score, light = _smooth(std, SIDE), _smooth(mean, SIDE)
    margin = SIDE // 2 + 1
    if min(score.shape) <= 2 * margin:
        return [(score.shape[0] // 2, score.shape[1] // 2)]
    score[:margin], score[-margin:], score[:, :margin], score[:, -margin:] = -1, -1, -1, -1
    dim = np.where(light <= np.median(light), score, -1)
    # Not the place that changes most: a cell that flashes is seen without denoising.
    dim[dim > np.percentile(dim[dim >= 0], _MODEST) if (dim >= 0).any() else dim < 0] = -1
    chosen: list[tuple[int, int]] = []
    apart = max(SIDE, min(score.shape) // 8)
    for places in (dim, score, score):
        row, column = (int(value) for value in np.unravel_index(int(places.argmax()), places.shape))
        if places[row, column] < 0:
            continue
        chosen.append((row, column))
        around = slice(max(0, row - apart), row + apart), slice(max(0, column - apart), column + apart)
        score[around] = dim[around] = -1
    return chosen


def trace_at(movie: _Movie, row: int, column: int) -> _Movie:
    """Return the mean (T,) of a square of `SIDE` pixels in a movie (T, H, W)."""
    half = SIDE // 2
    top, left = max(0, row - half), max(0, column - half)
    mean: _Movie = movie[:, top : row + half + 1, left : column + half + 1].mean((1, 2))
    return mean


def draw_scale_bar(axes: Any, shape: tuple[int, ...], pixel_size_m: float | None) -> None:
    """Draw a bar of about a fifth of the width, with its length in micrometres, or in pixels."""
    size = 1.0 if pixel_size_m is None else pixel_size_m * 1e6
    target = shape[1] * size / 5
    power = 10.0 ** np.floor(np.log10(target))
    length = float(max(step for step in (1, 2, 5) if step * power <= target) * power)
    pixels = length / size
    right, row = shape[1] * 0.95, shape[0] * 0.94
    axes.plot([right - pixels, right], [row, row], color="w", lw=3, solid_capstyle="butt")
    label = f"{length:g} {'pixels' if pixel_size_m is None else 'µm'}"
    axes.text(
        right - pixels / 2, row - shape[0] * 0.02, label, color="w", fontsize=8, ha="center", va="bottom"
    )
