"""Hot pixels: single ones far brighter than all around them in every frame, whose counts do not follow the light.

They differ from the tissue beside them by more than the networks ever saw, they sway the means that tell the light
of a frame, and where the light changes they would be taken to change with it. So they are filled with what lies
beside them before a frame is denoised, as saturated structures are (`clipped`), and shown as measured afterwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from denoscope.runtime.movies.holes import fill_sources
from denoscope.runtime.noise.noise import Intensity, noise_of

__all__ = ["HotPixels", "hot_pixels"]

Frame = npt.NDArray[Any]
Places = npt.NDArray[np.intp]

_PARTS = 4  # of the frames, in each of which a pixel must be hot: a particle of radiation is so in one
_FEWEST = 2  # frames of a part
_SIGMAS = 6.0  # standard deviations of one frame by which it stands out
_BEYOND = 5.0  # times as far as the second brightest pixel beside it: one of these may be hot, too
_MOST = 0.02  # of the pixels; more are a scene
_BESIDE = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if y or x]


def hot_pixels(frames: Frame, intensity: Intensity) -> Places:
    """Return the places of hot pixels in the flat frame.

    Parameters
    ----------
    frames
        (T, H, W) raw counts.
    intensity
        Noise of the movie.
    """
    none = np.zeros(0, np.intp)
    if len(frames) < _PARTS * _FEWEST or min(frames.shape[1:]) < 3:
        return none
    parts = [np.add.reduce(frames[k::_PARTS], axis=0, dtype=np.float32) for k in range(_PARTS)]
    lengths = [len(frames[k::_PARTS]) for k in range(_PARTS)]
    mean = sum(parts[1:], start=parts[0]) / np.float32(len(frames))
    least = np.minimum.reduce([part / np.float32(n) for part, n in zip(parts, lengths, strict=True)])
    wide = np.pad(mean, 1, mode="reflect")
    around = (wide[:-2, 1:-1] + wide[2:, 1:-1] + wide[1:-1, :-2] + wide[1:-1, 2:]) / 4
    # With one of the four as hot, three quarters are left.
    row, column = np.nonzero(least - around > 0.7 * _SIGMAS * noise_of(around, intensity))
    if not len(row):
        return none
    beside = np.sort([wide[row + 1 + y, column + 1 + x] for y, x in _BESIDE], axis=0)
    middle = (beside[3] + beside[4]) / 2
    excess = least[row, column] - middle
    hot = (excess > _SIGMAS * noise_of(middle, intensity)) & (excess > _BEYOND * (beside[-2] - middle))
    if np.count_nonzero(hot) > _MOST * mean.size:
        return none
    return np.asarray(row[hot] * mean.shape[1] + column[hot], np.intp)


class HotPixels:
    """Hot pixels of a movie, and what fills them.

    Parameters
    ----------
    at
        Places of the pixels in the flat frame.
    shape
        (H, W) of the frames.

    Attributes
    ----------
    at, shape
        As given.
    """

    def __init__(self, at: Places, shape: tuple[int, int]) -> None:
        self.at, self.shape = at, shape
        mask = np.zeros(shape, np.bool_)
        mask.put(at, np.True_)
        self._source = fill_sources(mask)

    @classmethod
    def of(cls, frames: Frame, intensity: Intensity) -> HotPixels | None:
        """Find those of frames (T, H, W), with their noise; None where there are none."""
        at = hot_pixels(frames, intensity)
        return cls(at, (frames.shape[1], frames.shape[2])) if at.size else None

    def filled(self, frame: Frame) -> Frame:
        """Return a copy of a frame (H, W) with what lies beside the pixels in their places."""
        out = frame.copy()
        out.put(self.at, frame.take(self._source))
        return out
