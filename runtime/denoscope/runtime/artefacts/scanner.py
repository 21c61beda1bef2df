"""Measure the line offset and fixed pattern of a scanner; remove them before denoising and put them back after."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, FiniteFloat

from denoscope.runtime.movies.arguments import check_movie
from denoscope.runtime.movies.holes import check_magnitude, filled, measurable, measured_part
from denoscope.runtime.noise.saturation import saturated_part

from .line_offset import measure_line_offset

if TYPE_CHECKING:
    from denoscope.runtime.movies import AnyMovie

__all__ = ["Scanner", "ScannerArtefacts", "frames_to_measure", "measure_scanner"]

FloatArray = npt.NDArray[np.float64]

_BANDS = 6  # parts of the picture that a pattern must be found in alike
_BAND_LINES = 6  # at least
_REACH = 4  # pixels to each side, of the mean that a column is compared with
_SIGMAS = 6.0
_SHARE = 0.5  # of what differs between columns, that all bands must have in common
_MOST_CLIPPED = 0.01  # of the pixels
_FEWEST = 4  # frames
_LOOKED_AT, _LOOKED_AT_BYTES = 256, 2**28  # frames of a recorded movie, at most


class ScannerArtefacts(BaseModel):
    """Line offset and fixed pattern that the instrument adds to every frame of a movie.

    Attributes
    ----------
    line_offset
        Pixels by which the lines 1, 3, 5, ... are shifted to the right against the lines 0, 2, 4, ...; negative to
        the left, 0 for none.
    columns, rows
        Counts by which each column and row is brighter than its neighbours; empty for none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    line_offset: FiniteFloat = 0.0
    columns: tuple[FiniteFloat, ...] = ()
    rows: tuple[FiniteFloat, ...] = ()

    def sentences(self, *, fixed: bool = False) -> list[str]:
        """Return one sentence for the user for each of them.

        Parameters
        ----------
        fixed
            Whether the offset between lines is corrected in the denoised movie.
        """
        said = []
        if self.line_offset:
            way = "right" if self.line_offset > 0 else "left"
            done = (
                "this is corrected in the denoised movie"
                if fixed
                else "the denoised movie keeps this, and `fix_line_offset` corrects it there"
            )
            said.append(
                f"odd lines are shifted by {abs(self.line_offset):.1f} pixels to the {way}, as by a scanner that scans "
                f"in both directions; {done}; the raw movie stays untouched"
            )
        for name, values in (("columns", self.columns), ("rows", self.rows)):
            if values:
                said.append(
                    f"{name} differ by {np.std(values):.2g} counts in every frame alike (a fixed pattern of the "
                    "detector); the denoised movie keeps this"
                )
        return said


def measure_scanner(frames: npt.NDArray[Any]) -> ScannerArtefacts:
    """Measure the offset between odd and even lines and the fixed pattern of columns and rows.

    Parameters
    ----------
    frames
        (T, H, W) raw counts, in the order in which they came.

    Returns
    -------
    ScannerArtefacts
        Offset of the lines in pixels and patterns in counts, each only where it stands out of the noise.

    Examples
    --------
    >>> import numpy as np
    >>> white = np.random.default_rng(0).poisson(100, (16, 64, 64)).astype(np.uint16)
    >>> measure_scanner(white).line_offset
    0.0
    """
    check_movie(frames, "frames")
    frames = measurable(frames)
    if not len(frames):
        return ScannerArtefacts()
    check_magnitude(frames)
    saturated = saturated_part(frames)
    if saturated is not None:
        return _measured_beside(frames, saturated)
    pattern = ScannerArtefacts(columns=_pattern(frames, along=1), rows=_pattern(frames, along=2))
    return pattern.model_copy(update={"line_offset": measure_line_offset(frames)})


def _measured_beside(frames: npt.NDArray[Any], saturated: npt.NDArray[np.bool_]) -> ScannerArtefacts:
    """Measure the artefacts of frames of which parts saturate: these show nothing, and their edges are no pattern."""
    part = measured_part(np.where(saturated, np.float32(np.nan), np.float32(0))[None])
    rows, columns = part
    rows = slice(rows.start + rows.start % 2, rows.stop)  # lines 0, 2, 4, ... stay the even ones
    inside = frames[:, rows, columns]
    holes = saturated[rows, columns]
    if holes.all():
        return ScannerArtefacts()
    if holes.any():
        inside = np.stack([filled(frame, holes) for frame in inside])
    of_columns, of_rows = _pattern(inside, along=1), _pattern(inside, along=2)
    if of_columns:
        after = frames.shape[2] - columns.stop
        of_columns = (*(0.0,) * columns.start, *of_columns, *(0.0,) * after)
    if of_rows:
        of_rows = (*(0.0,) * rows.start, *of_rows, *(0.0,) * (frames.shape[1] - rows.stop))
    return ScannerArtefacts(columns=of_columns, rows=of_rows, line_offset=measure_line_offset(inside))


def frames_to_measure(movie: AnyMovie) -> npt.NDArray[Any]:
    """Return frames from all over a recorded movie, in pairs of successive ones, to measure its artefacts from.

    Parameters
    ----------
    movie
        (T, H, W) raw counts.

    Returns
    -------
    array
        (N, H, W) of the movie's dtype, N at most T.

    Examples
    --------
    >>> import numpy as np
    >>> frames_to_measure(np.zeros((1000, 32, 32), np.uint16)).shape[1:]
    (32, 32)
    """
    check_movie(movie)
    frame_bytes = int(movie.shape[1]) * int(movie.shape[2]) * movie.dtype.itemsize
    pairs = max(min(_LOOKED_AT, _LOOKED_AT_BYTES // frame_bytes), 2 * _FEWEST) // 2
    if len(movie) <= 2 * pairs:
        return np.asarray(movie[:])
    first = np.unique(np.linspace(0, len(movie) - 2, pairs).astype(int) // 2 * 2)
    return np.concatenate([np.asarray(movie[int(at) : int(at) + 2]) for at in first])


def _pattern(frames: npt.NDArray[Any], *, along: int) -> tuple[float, ...]:
    """Return by how much each column (`along` rows, 1) or row (2) is brighter than its neighbours; empty for none.

    A pattern of the detector is the same along a whole column, unlike a scene: it is believed where bands of rows, each
    by itself, have most of it in common, far beyond noise and beyond what changes from frame to frame.
    """
    if len(frames) < _FEWEST or frames.shape[along] < _BANDS * _BAND_LINES or frames.shape[3 - along] < 32:
        return ()
    pairs = len(frames) // 2 * 2
    one, two = (_profiles(frames[k:pairs:2], along) for k in (0, 1))
    together, noise = _common((one + two) / 2), _common((one - two) / 2)
    total = float(np.square((one + two) / 2).mean()) - float(np.square((one - two) / 2).mean())
    if not np.isfinite(total) or total <= 0:
        return ()
    # Scatter of the mean product of independent bands.
    pixels = one.shape[1]
    error = float(np.square((one + two) / 2).mean()) / np.sqrt(pixels * _BANDS * (_BANDS - 1) / 2)
    if together < _SIGMAS * error or together - noise < max(_SHARE * total, together / 2):
        return ()
    values = np.median((one + two) / 2, axis=0)
    if np.dtype(frames.dtype).kind != "f":
        values = np.rint(values)
        if not values.any():
            return ()
        low, high = np.iinfo(frames.dtype).min, np.iinfo(frames.dtype).max
        turned = np.expand_dims(values, 1 if along == 2 else 0)
        looked = frames[:: max(1, len(frames) // 4)] - turned
        if np.mean((looked < low) | (looked > high)) > _MOST_CLIPPED:
            return ()
    return tuple(float(value) for value in values)


def _profiles(frames: npt.NDArray[Any], along: int) -> FloatArray:
    """Return by how much each column, or row, is brighter than its neighbours, in each band of the mean picture."""
    mean = np.asarray(np.mean(frames, axis=0, dtype=np.float64))
    if along == 2:
        mean = mean.T
    lines = len(mean) // _BANDS
    bands = mean[: lines * _BANDS].reshape(_BANDS, lines, -1).mean(axis=1)
    wide = np.pad(bands, ((0, 0), (_REACH + 1, _REACH)), mode="reflect")
    sums = np.cumsum(wide, axis=1)
    width = 2 * _REACH + 1
    around = (sums[:, width:] - sums[:, :-width] - bands) / (width - 1)
    # The neighbours' own patterns are in their mean.
    return np.asarray((bands - around) * (width - 1) / width)


def _common(profiles: FloatArray) -> float:
    """Return the mean product of different bands' profiles."""
    total = np.square(profiles.sum(axis=0)) - np.square(profiles).sum(axis=0)
    return float(total.mean()) / (_BANDS * (_BANDS - 1))


class Scanner:
    """Takes artefacts of an instrument off the frames of one size, and puts them back onto what was made of them.

    Lines are moved by whole pixels, on a canvas wide enough for both kinds of them, so that no noise is interpolated.

    Parameters
    ----------
    artefacts
        What there is to take off.
    shape, dtype
        (H, W) of the frames.
    fix
        Leave the offset between lines out of what is put back.
    """

    def __init__(
        self, artefacts: ScannerArtefacts, shape: tuple[int, int], dtype: np.dtype[Any], *, fix: bool
    ) -> None:
        height, width = self._shape = shape
        self._fix = fix
        self._whole = round(artefacts.line_offset)
        self._rest = artefacts.line_offset - self._whole
        # Odd lines that are shifted to the right begin to the left of the others.
        self._even, self._odd = max(self._whole, 0), max(-self._whole, 0)
        self._kind = dtype
        pattern = np.zeros(shape)
        if len(artefacts.columns) == width:
            pattern += np.array(artefacts.columns)
        if len(artefacts.rows) == height:
            pattern += np.array(artefacts.rows)[:, None]
        self._pattern: npt.NDArray[Any] | None = None
        if pattern.any():
            self._pattern = pattern.astype(np.float32 if dtype.kind == "f" else np.int32)
            self._wide_pattern = self.straighten(self._pattern)
        self.idle = self._pattern is None and not artefacts.line_offset

    @property
    def canvas(self) -> tuple[int, int]:
        """Height and width of what `take_off` returns."""
        return self._shape[0], self._shape[1] + abs(self._whole)

    def take_off(self, frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a frame (H, W) without the artefacts, as large as `canvas`."""
        if self._pattern is not None:
            frame = self._fitted(frame - self._pattern)
        return self.straighten(frame)

    def put_back(self, made: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return what was made of a frame that `take_off` gave, as a frame (H, W) with the artefacts."""
        if self._pattern is not None:
            made = self._fitted(made + self._wide_pattern)
        return self.place(made)

    def as_placed(self, frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a measured frame (H, W) with its lines where `put_back` places them."""
        return self.place(self.straighten(frame))

    def place(self, made: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return it as a frame (H, W), the lines where they belong, its values as they are.

        Whole pixels are exact. The denoised odd lines are moved by the rest of a pixel by linear interpolation: the
        network brought them into line with their neighbours.
        """
        width = self._shape[1]
        if self._fix:
            return np.ascontiguousarray(made[:, self._even : self._even + width])
        if not self._whole and not self._rest:
            return made
        placed = np.empty(self._shape, made.dtype)
        placed[::2] = made[::2, self._even : self._even + width]
        lines = made[1::2]
        if not self._rest:
            placed[1::2] = lines[:, self._odd : self._odd + width]
            return placed
        last = made.shape[1] - 1
        at = np.clip(np.arange(width) + self._odd - self._rest, 0, last)
        left = np.floor(at).astype(np.intp)
        share = (at - left).astype(np.float32)
        between = lines[:, left] * (1 - share) + lines[:, np.minimum(left + 1, last)] * share
        placed[1::2] = between if made.dtype.kind == "f" else np.rint(between)
        return placed

    def _fitted(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return values in the frames' dtype, clipped to what it holds."""
        if self._kind.kind == "f":
            return values.astype(self._kind, copy=False)
        limits = np.iinfo(self._kind)
        return np.asarray(np.clip(values, limits.min, limits.max).astype(self._kind))

    def straighten(self, frame: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a frame with the odd lines moved back by whole pixels, edges repeated."""
        if not self._whole:
            return frame
        width = self._shape[1]
        wide = np.empty(self.canvas, frame.dtype)
        for first, at in ((0, self._even), (1, self._odd)):
            lines = slice(first, None, 2)
            wide[lines, at : at + width] = frame[lines]
            wide[lines, :at] = frame[lines, :1]
            wide[lines, at + width :] = frame[lines, -1:]
        return wide
