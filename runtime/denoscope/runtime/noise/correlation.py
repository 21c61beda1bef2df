"""Is the noise of a movie white? Correlation between neighbouring pixels, along rows and in time (numpy only).

A blind spot of one pixel hides the measurement from the network only while the noise of the pixels
around it says nothing about it. Detectors that bleed into the next pixel, cameras with row noise and
movies that were interpolated (motion-corrected, resized) break that. This module measures it from the
noisy movie alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.movies.arguments import check_movie
from denoscope.runtime.movies.holes import check_magnitude, measurable, measured_part

__all__ = ["NoiseCorrelation", "NoiseKind", "choose_blind_spot", "measure_noise_correlation"]

NoiseKind = Literal["white", "bleed", "row", "neighbours"]
BlindSpot = Literal["cell", "bleed", "row", "neighbours"]
FloatArray = npt.NDArray[np.float64]
Lag = tuple[int, int]

_REACH = 3  # lags -3..3 are reported
# Lags so far apart that only what a row, a column or the whole frame shares is left.
_FAR_ROW: tuple[Lag, ...] = ((0, 5), (0, 6), (0, 7))
_FAR_COLUMN: tuple[Lag, ...] = ((5, 0), (6, 0), (7, 0))
_FAR: tuple[Lag, ...] = ((5, 5), (5, -5), (7, 6), (7, -6))
_MARGIN = 7
_BLOCK = 16
LEAST_EDGE = _BLOCK + 2 * _MARGIN
_BATCH = 8  # residual frames in one block
_MOST_SAMPLES = 1 << 22
_LONGEST_EDGE = 512  # of the middle of a larger frame
FEWEST_FRAMES = 4
_FEWEST_QUIET = 8

_LEAST = 0.015  # correlation below which noise counts as white
_LEAST_MEMORY = 0.15  # slow scenes leave up to 0.1
_SURE = 4.0  # standard errors
_SCENE = 0.05  # rise of the correlation from quiet to busy blocks that only a moving scene makes
_SHARE_OF_QUIET = 8  # one block in so many is a quiet one


@dataclass(frozen=True)
class NoiseCorrelation:
    """Correlation of the noise of neighbouring pixels; 0 for white noise.

    Attributes
    ----------
    lags
        (7, 7) correlation at (dy, dx) in -3..3, without what the whole frame shares; 1 in the middle.
    row
        Share of the variance that all pixels of a row have in common.
    frame
        Share that all pixels of a frame have in common, as a flickering lamp makes it. It is in `lags`
        of no pixel, because no blind spot hides it.
    time
        Correlation of a pixel with itself in the next frame, if the noise has a memory of one frame.
    error
        Standard error of one value of `lags`.
    samples
        Number of pixels times frames that were looked at.
    scene
        Whether the scene moves so much, everywhere, that its own correlation is in `lags`.
    """

    lags: FloatArray
    row: float
    frame: float
    time: float
    error: float
    samples: int
    scene: bool

    @property
    def along_row(self) -> float:
        """Correlation with the next pixel of the row."""
        return float(self.lags[_REACH, _REACH + 1])

    @property
    def across_rows(self) -> float:
        """Correlation with the same pixel of the next row."""
        return float(self.lags[_REACH + 1, _REACH])

    @property
    def bleed(self) -> float:
        """Correlation with the next pixel of the row beyond that with the next row, where scenes show too."""
        below = self.lags[_REACH + 1, _REACH - 1 : _REACH + 2]
        return self.along_row - max(float(below.max()), 0.0)

    @property
    def limit(self) -> float:
        """Correlation that white noise stays below."""
        return max(_LEAST, _SURE * self.error)

    @property
    def kind(self) -> NoiseKind:
        """Kind of the noise.

        ``neighbours`` is correlated in two dimensions, ``row`` shared by whole rows, ``bleed`` shared
        by neighbours along a row only.
        """
        # What a moving scene adds is smooth: it is at least half as strong two pixels away, where
        # interpolated noise has lost its correlation.
        beyond = float(self.lags[_REACH + 2, _REACH])
        if self.across_rows - 2 * max(beyond, 0.0) > self.limit:
            return "neighbours"
        if self.row > self.limit:
            return "row"
        return "bleed" if self.bleed > self.limit else "white"

    def warning(self) -> str | None:
        """Return one sentence for the user where the noise is not white, else None."""
        if self.time > _LEAST_MEMORY and not self.scene and self.kind == "white":
            return (
                f"successive frames share some noise (correlation {self.time:.2f}, independent frames: below "
                f"{_LEAST_MEMORY:g}), as in a camera that averages frames in time, and the model keeps part of it as "
                "signal; record single frames"
            )
        unsure = (
            "the scene moves too much to measure whether neighbouring pixels share noise (correlation at most "
            f"{max(self.along_row, self.across_rows):.2f}); they are taken as independent"
        )
        sentences = {
            "white": unsure if self.scene else None,
            "bleed": (
                f"neighbouring pixels of a row share some noise (correlation {self.bleed:.2f}, independent pixels: "
                f"below {self.limit:.2g}); the model handles it, nothing to do"
            ),
            "row": (
                f"the pixels of a row share {self.row:.0%} of their noise; the model handles it, nothing to do"
            ),
            "neighbours": (
                f"neighbouring pixels share some noise (correlation {self.along_row:.2f} along rows, "
                f"{self.across_rows:.2f} across them), as after motion correction or resizing; the model handles it, "
                "but the recording as it was before gives a better result"
            ),
        }
        return sentences[self.kind]


def choose_blind_spot(correlation: NoiseCorrelation) -> BlindSpot:
    """Return the blind spot that hides every pixel whose noise is correlated with that of the target.

    ``cell`` for white noise, else the name of the noise's kind.

    Parameters
    ----------
    correlation
        As `measure_noise_correlation` returns it.

    Returns
    -------
    str
        ``cell``, ``row``, or another name of a blind spot.

    Examples
    --------
    >>> import numpy as np
    >>> from denoscope.runtime import measure_noise_correlation
    >>> white = np.random.default_rng(0).normal(100, 5, (24, 64, 64)).astype(np.float32)
    >>> choose_blind_spot(measure_noise_correlation(white))
    'cell'
    """
    kind = correlation.kind
    return "cell" if kind == "white" else kind


def measure_noise_correlation(frames: npt.ArrayLike) -> NoiseCorrelation:
    """Measure the correlation of the noise in a movie that may move, flicker and bleach.

    The residual is the second difference of three successive frames, which cancels what is still or
    changes evenly. In blocks of 16 x 16 pixels and eight frames its autocorrelation is taken, that at
    far diagonal lags is subtracted (what the whole frame shares: flicker, bleaching), and the median
    over blocks is robust to cells that fire and to moving edges. Where busy blocks are more correlated
    across rows than quiet ones, the scene itself moves: then only the quietest eighth counts.

    Parameters
    ----------
    frames
        (T, H, W) raw counts, T >= 4, at least 30 x 30; at most about four million values are used. Borders of NaN
        or infinite values are left out, and others are taken from the pixels beside them.

    Returns
    -------
    NoiseCorrelation
        Correlation coefficients, -1 to 1, of pixels that lie beside each other and of successive frames.

    Raises
    ------
    InvalidInput
        If there are too few frames or pixels, or too few of them hold finite values.

    Examples
    --------
    >>> import numpy as np
    >>> white = np.random.default_rng(0).normal(100, 5, (24, 64, 64)).astype(np.float32)
    >>> measure_noise_correlation(white).kind
    'white'
    """
    movie: Any = frames if hasattr(frames, "shape") else np.asarray(frames)
    if len(movie.shape) != 3 or len(movie) < FEWEST_FRAMES or min(movie.shape[1:]) < LEAST_EDGE:
        raise InvalidInput(
            f"The correlation of noise cannot be measured on frames of shape {movie.shape}: give at least "
            f"{FEWEST_FRAMES} frames of {LEAST_EDGE} x {LEAST_EDGE} pixels as (T, H, W)."
        )
    check_movie(movie, "frames")
    lags, far_lags = _half_plane(), [*_FAR_ROW, *_FAR_COLUMN, *_FAR]
    sums, following, samples = _block_sums(movie, [*lags, *far_lags])
    power = sums[0]
    alive = power > 1e-12 * float(power.max())
    if not alive.any():  # a movie that never changes has no noise to correlate
        still = np.zeros((len(lags), 1))
        still[0] = 1
        return NoiseCorrelation(_mirror(lags, still[:, 0]), 0.0, 0.0, 0.0, 0.0, samples, scene=False)
    power = power[alive]
    ratio = sums[:, alive] / power
    in_row, in_column, apart = np.split(ratio[len(lags) :], [len(_FAR_ROW), len(_FAR_ROW) + len(_FAR_COLUMN)])
    frame = apart.mean(0)
    local = ratio[: len(lags)] - frame
    scene, chosen = _without_scene(power, local[lags.index((1, 0))])
    local, frame = local[:, chosen], frame[chosen]
    values = np.median(local, axis=1)
    values[0] = 1.0
    # Scenes, unlike row noise, are as wide as they are tall.
    row = np.median(in_row.mean(0)[chosen]) - max(np.median(in_column.mean(0)[chosen]), np.median(frame))
    r = float(np.median(following[alive][chosen] / power[chosen]))
    return NoiseCorrelation(
        lags=_mirror(lags, values),
        row=float(row),
        frame=float(np.median(frame)),
        # Second differences of noise with correlation c between frames: r = (7 c - 4) / (6 - 8 c).
        time=float(np.clip((4 + 6 * r) / (7 + 8 * r), -1, 1)) if r > -0.87 else -1.0,
        error=_error_of_median(local[1:]),
        samples=samples,
        scene=scene,
    )


def _half_plane() -> list[Lag]:
    """Return the lags (dy, dx) up to the reach, one of each pair of opposite ones, (0, 0) first."""
    reach = range(-_REACH, _REACH + 1)
    return [(dy, dx) for dy in range(_REACH + 1) for dx in reach if dy > 0 or dx >= 0]


def _mirror(lags: list[Lag], values: FloatArray) -> FloatArray:
    table = np.empty((2 * _REACH + 1, 2 * _REACH + 1))
    for (dy, dx), value in zip(lags, values, strict=True):
        table[_REACH + dy, _REACH + dx] = table[_REACH - dy, _REACH - dx] = value
    return table


def _block_sums(movie: Any, lags: list[Lag]) -> tuple[FloatArray, FloatArray, int]:
    """Return the products of residuals at each lag, and of following residuals, summed over each block.

    Returns
    -------
    tuple
        (lags, blocks), (blocks,) and how many residuals were used.
    """
    length = len(movie)
    area = tuple(_middle(side) for side in _without_border(movie))
    height, width = (side.stop - side.start for side in area)
    step = min(_BATCH + 2, length)
    batches = int(np.clip(_MOST_SAMPLES // (_BATCH * height * width), 1, length // step))
    sums, following, samples = [], [], 0
    for start in np.linspace(0, length - step, batches).round().astype(int):
        part = np.asarray(movie[int(start) : int(start) + step])[:, area[0], area[1]]
        whole = measurable(part)
        check_magnitude(whole)
        frames = whole.astype(np.float32)
        if len(frames) < FEWEST_FRAMES:
            continue
        residual = 2 * frames[1:-1] - frames[:-2] - frames[2:]
        inner = residual[:, _MARGIN : height - _MARGIN, _MARGIN : width - _MARGIN]
        for_lags = []
        for dy, dx in lags:
            other = residual[:, _MARGIN + dy : height - _MARGIN + dy, _MARGIN + dx : width - _MARGIN + dx]
            for_lags.append(_in_blocks(np.einsum("tyx,tyx->yx", inner, other)))
        sums.append(for_lags)
        # As many products as in the sums of one frame with itself.
        share = len(inner) / (len(inner) - 1)
        following.append(_in_blocks(np.einsum("tyx,tyx->yx", inner[:-1], inner[1:])) * share)
        samples += inner.size
    if not sums:
        raise InvalidInput(
            "The frames hold hardly anything but NaN and infinite values: choose frames with a picture."
        )
    return np.concatenate(np.asarray(sums, np.float64), axis=1), np.concatenate(following), samples


def _without_border(movie: Any) -> tuple[slice, slice]:
    """Return rows and columns of a movie without a border of NaN, unless too little would be left."""
    height, width = movie.shape[1:]
    whole = slice(0, height), slice(0, width)
    if movie.dtype.kind != "f":
        return whole
    some = np.unique(np.linspace(0, len(movie) - 1, _BATCH).astype(int))
    part = measured_part(np.stack([np.asarray(movie[int(index)]) for index in some]))
    return part if min(side.stop - side.start for side in part) >= LEAST_EDGE else whole


def _middle(side: slice) -> slice:
    length = min(side.stop - side.start, _LONGEST_EDGE)
    first = side.start + (side.stop - side.start - length) // 2
    return slice(first, first + length)


def _in_blocks(image: npt.NDArray[np.float32]) -> FloatArray:
    rows, columns = image.shape[0] // _BLOCK, image.shape[1] // _BLOCK
    whole = image[: rows * _BLOCK, : columns * _BLOCK].astype(np.float64)
    blocks: FloatArray = whole.reshape(rows, _BLOCK, columns, _BLOCK).sum((1, 3)).ravel()
    return blocks


def _without_scene(power: FloatArray, across: FloatArray) -> tuple[bool, npt.NDArray[np.intp]]:
    """Choose the blocks in which the noise outweighs a moving scene.

    Correlated noise is as correlated in quiet blocks as in busy ones, and a scene is not.

    Returns
    -------
    tuple
        Whether even the quiet blocks are ruled by the scene, and which blocks to use.
    """
    order = np.argsort(power, kind="stable")
    quiet, busy = order[: len(order) // _SHARE_OF_QUIET], order[len(order) // 2 :]
    if len(quiet) < _FEWEST_QUIET or not _rises(across[quiet], across[busy]):
        return False, order
    half = len(quiet) // 2
    return _rises(across[quiet[:half]], across[quiet[half:]]), quiet


def _rises(quiet: FloatArray, busy: FloatArray) -> bool:
    return float(np.median(busy) - np.median(quiet)) > _SCENE


def _error_of_median(values: FloatArray) -> float:
    """Return the standard error of the median over blocks, typical of the lags, from their spread."""
    spread = 1.4826 * np.median(np.abs(values - np.median(values, axis=1, keepdims=True)), axis=1)
    return float(1.2533 * np.median(spread) / np.sqrt(values.shape[1]))
