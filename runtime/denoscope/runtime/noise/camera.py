"""A camera's calibration maps: gain, offset and read noise of each pixel, and frames corrected with them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from denoscope.runtime.errors import InvalidInput
from denoscope.runtime.words import counted

if TYPE_CHECKING:
    from denoscope.runtime.movies import AnyMovie, LazyMovie

__all__ = ["CameraCalibration", "Roi", "read_map"]

Float32 = npt.NDArray[np.float32]
FloatArray = npt.NDArray[np.float64]
Roi = tuple[int, int, int, int]

_MOST_PIXELS = 1 << 27
_PATTERN_FRAMES, _FEWEST_PATTERN_FRAMES = 64, 10
_WORSE = 1.2  # times the fixed pattern before
_NAMES = {
    "gain": ("gain", "gainmap", "gain_map", "g"),
    "offset": ("offset", "offsetmap", "offset_map", "o", "dark"),
    "read variance": ("variance", "read_variance", "readvariance", "var", "varmap", "v"),
}


@dataclass(frozen=True, eq=False)
class CameraCalibration:
    """Gain and offset of each pixel of a camera: counts = gain * photo-electrons + offset.

    Parameters
    ----------
    gain
        (H, W) counts per photo-electron, each above 0.
    offset
        (H, W) counts without light.
    read_variance
        (H, W) variance of the read noise in counts squared, or None.
    source
        What the maps came from, for reports.

    Raises
    ------
    InvalidInput
        If the maps differ in size, hold NaN or infinite values, or a gain is not above 0.
    """

    gain: FloatArray
    offset: FloatArray
    read_variance: FloatArray | None = None
    source: str = ""

    def __post_init__(self) -> None:
        for name, values in self._maps():
            if values.ndim != 2 or values.shape != self.gain.shape:
                raise InvalidInput(
                    f"The {name} map is {_size(values.shape)} and the gain map {_size(self.gain.shape)}: "
                    "use maps of one calibration."
                )
            bad = ~np.isfinite(values)
            if name == "gain":
                bad |= ~(values > 0)
            if name == "read variance":
                bad |= values < 0
            if bad.any():
                y, x = np.argwhere(bad)[0]
                raise InvalidInput(
                    f"The {name} map has {counted(int(bad.sum()), 'unusable pixel')}, the first {values[y, x]:g} at "
                    f"row {y}, "
                    f"column {x} (it must be finite{_BOUNDS.get(name, '')}): replace dead pixels by the median "
                    "of their neighbours."
                )

    def _maps(self) -> list[tuple[str, FloatArray]]:
        maps = [("gain", self.gain), ("offset", self.offset)]
        return maps if self.read_variance is None else [*maps, ("read variance", self.read_variance)]

    @classmethod
    def load(
        cls,
        gain: Path | None = None,
        offset: Path | None = None,
        read_variance: Path | None = None,
        *,
        roi: Roi | None = None,
    ) -> Self:
        """Read maps from files (.mat v5 and v7.3, .tif, .npy, .npz).

        Parameters
        ----------
        gain, offset, read_variance
            Files; a missing gain is 1 everywhere, a missing offset 0. One of both must be given.
        roi
            (x, y, width, height) of the camera's pixels that the movie shows, if not all.

        Raises
        ------
        InvalidInput
            If a file cannot be read as one map, or the maps do not fit each other or the region.
        """
        files = {"gain": gain, "offset": offset, "read variance": read_variance}
        maps = {name: read_map(path, name) for name, path in files.items() if path is not None}
        first = maps.get("gain", maps.get("offset"))
        if first is None:
            raise InvalidInput(
                "A calibration needs a gain or an offset map: give `camera_gain`, `camera_offset`."
            )
        calibration = cls(
            maps.get("gain", np.ones(first.shape)),
            maps.get("offset", np.zeros(first.shape)),
            maps.get("read variance"),
            source=", ".join(path.name for path in files.values() if path is not None),
        )
        return calibration if roi is None else calibration.crop(roi)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the maps."""
        return (self.gain.shape[0], self.gain.shape[1])

    def crop(self, roi: Roi) -> Self:
        """Return the calibration of a region (x, y, width, height) of the camera's pixels.

        Raises
        ------
        InvalidInput
            If the region is empty or reaches beyond the maps.
        """
        x, y, width, height = roi
        rows, columns = self.shape
        if min(x, y) < 0 or min(width, height) < 1 or x + width > columns or y + height > rows:
            raise InvalidInput(
                f"The region x={x}, y={y}, {width} wide, {height} high does not lie in maps of {columns} "
                f"columns and {counted(rows, 'row')}: give the region that the camera was set to, as x,y,width,height."
            )
        area = np.s_[y : y + height, x : x + width]
        variance = None if self.read_variance is None else self.read_variance[area]
        return type(self)(self.gain[area], self.offset[area], variance, f"{self.source} at {x},{y}")

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise InvalidInput unless frames of this shape (..., H, W) are what the maps describe."""
        if tuple(shape[-2:]) != self.shape:
            raise InvalidInput(
                f"The frames are {_size(shape[-2:])} and the calibration maps {_size(self.shape)}: name the "
                "camera's region with `camera_roi` x,y,width,height, or use maps of this binning."
            )

    def correct(self, frames: npt.NDArray[Any]) -> Float32:
        """Return photo-electrons (..., H, W), float32, of raw counts: `(frames - offset) / gain`."""
        self.check(frames.shape)
        out: Float32 = np.subtract(frames, self._offset, dtype=np.float32)
        out *= self._inverse_gain
        return out

    def correct_movie(self, movie: AnyMovie) -> LazyMovie:
        """Return a movie (T, H, W) of photo-electrons, float32, corrected where and when it is read."""
        from denoscope.runtime.movies.converted import converted

        self.check(movie.shape)
        return converted(movie, self._corrected_part)

    def _corrected_part(self, counts: npt.NDArray[Any], rows: slice, columns: slice) -> Float32:
        return (counts.astype(np.float32) - self._offset[rows, columns]) * self._inverse_gain[rows, columns]

    def fixed_pattern(self, movie: AnyMovie) -> tuple[float, float]:
        """Return the fixed pattern before and after correction, as a standard deviation in photo-electrons.

        It is what the means of even and of odd frames share in the dark half of the image, after second
        differences in both directions have removed the scene; temporal noise is in neither.

        Parameters
        ----------
        movie
            (T, H, W) raw counts, T >= 2; at most 64 frames are used.
        """
        self.check(movie.shape)
        counts = np.asarray(movie[:_PATTERN_FRAMES], np.float32)
        corrected = self.correct(counts)
        plain = (counts - np.float32(np.median(self.offset))) / np.float32(np.median(self.gain))
        mean = corrected.mean(0)
        dark = (mean <= np.median(mean))[1:-1, 1:-1]
        before, after = (
            float(np.mean(_high_pass(frames[::2].mean(0))[dark] * _high_pass(frames[1::2].mean(0))[dark]))
            for frames in (plain, corrected)
        )
        return math.sqrt(max(before, 0.0)), math.sqrt(max(after, 0.0))

    def warning(self, movie: AnyMovie) -> str | None:
        """Return one sentence if correction adds to the fixed pattern of a movie of counts, else None."""
        if len(movie) < _FEWEST_PATTERN_FRAMES:
            return None
        before, after = self.fixed_pattern(movie)
        if after <= _WORSE * before:
            return None
        return (
            f"the calibration maps ({self.source}) do not fit this movie: its fixed pattern grows from {before:.2g} "
            f"to {after:.2g} photo-electrons; check region, orientation, binning and exposure, or leave them out"
        )

    def noise_variance(self, electrons: npt.NDArray[Any]) -> Float32:
        """Return the variance of corrected frames at expected photo-electrons: shot and read noise."""
        self.check(electrons.shape)
        variance: Float32 = np.maximum(electrons, 0).astype(np.float32)
        if self.read_variance is not None:
            variance += self.read_variance.astype(np.float32) * self._inverse_gain**2
        return variance

    @cached_property
    def sha256(self) -> str:
        """Of the maps' values."""
        digest = hashlib.sha256(repr(self.shape).encode())
        for name, values in self._maps():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(values, "<f8").tobytes())
        return digest.hexdigest()

    def describe(self) -> dict[str, object]:
        """Return what goes into reports: source, sizes, medians and SHA-256."""
        return {
            "source": self.source,
            "height_px": self.shape[0],
            "width_px": self.shape[1],
            "sha256": self.sha256,
            **{f"median_{name.replace(' ', '_')}": float(np.median(values)) for name, values in self._maps()},
        }

    @cached_property
    def _offset(self) -> Float32:
        return self.offset.astype(np.float32)

    @cached_property
    def _inverse_gain(self) -> Float32:
        return (1 / self.gain).astype(np.float32)


def _high_pass(image: Float32) -> Float32:
    """Return second differences in both directions, scaled to keep the variance of white noise."""
    rows = image[:-2] - 2 * image[1:-1] + image[2:]
    both: Float32 = rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]
    return both / np.float32(6)


_BOUNDS = {"gain": " and above 0", "read variance": " and not negative"}


def read_map(path: Path, name: str = "gain") -> FloatArray:
    """Read one map (H, W).

    Parameters
    ----------
    path
        A .mat (v5, v7.3), .tif, .npy or .npz file. Of several arrays in it the one that is called
        like the map is taken.
    name
        ``gain``, ``offset`` or ``read variance``.

    Raises
    ------
    InvalidInput
        If there is no such file, it is none of these formats, damaged or too large, or holds no single map.
    """
    if not path.is_file():
        raise InvalidInput(f"There is no {name} map at {path}: give the path of a file.")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidInput(
            f"{path.name} is no {name} map that can be read: save it as one of {', '.join(_READERS)}."
        )
    try:
        values = reader(path, name)
    except InvalidInput:
        raise
    except Exception as error:
        detail = " ".join(str(error).split())[:200]
        raise InvalidInput(f"{path.name} cannot be read as a {name} map ({detail}): save it anew.") from error
    values = np.squeeze(values)
    if values.ndim != 2 or values.dtype.kind not in "uif":
        raise InvalidInput(
            f"{path.name} holds {values.dtype.name} of the shape {values.shape}; a {name} map is one "
            "two-dimensional image of numbers."
        )
    return values.astype(np.float64)


def _pick(shapes: Mapping[str, tuple[int, ...]], path: Path, name: str) -> str:
    """Return which of several arrays is the map, after a look at its size."""
    images = {key: shape for key, shape in shapes.items() if len([n for n in shape if n != 1]) >= 2}
    named = [key for key in images if key.lower() in _NAMES[name]]
    chosen = named or list(images)
    if len(chosen) != 1:
        listed = ", ".join(f"{key} {_size(shape)}" for key, shape in shapes.items()) or "nothing"
        raise InvalidInput(
            f"{path.name} holds {listed}: it is not clear which is the {name} map; save that alone, or call it "
            f"{_NAMES[name][0]}."
        )
    _check_size(images[chosen[0]], path, name)
    return chosen[0]


def _check_size(shape: tuple[int, ...], path: Path, name: str) -> None:
    if math.prod(shape) > _MOST_PIXELS:
        raise InvalidInput(
            f"{path.name} claims a {name} map of {math.prod(shape) / 1e6:.0f} megapixels (limit "
            f"{_MOST_PIXELS / 1e6:.0f}): it is damaged or no map."
        )


def _library(module: str, extra: str, path: Path) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise InvalidInput(
            f"Reading {path.name} needs {module.partition('.')[0]}, which is not installed: run "
            f'python -m pip install ".[{extra}]" in a copy of the denoscope repository, '
            "or save the map as .npy or .tif."
        ) from error


def _read_mat(path: Path, name: str) -> npt.NDArray[Any]:
    with path.open("rb") as file:
        newer = file.read(128).startswith(b"MATLAB 7.3") or _is_hdf5(path)
    if newer:
        with _library("h5py", "formats", path).File(path, "r") as file:
            # MATLAB stores columns first.
            shapes = {key: item.shape[::-1] for key, item in file.items() if hasattr(item, "shape")}
            return np.asarray(file[_pick(shapes, path, name)][()]).T
    scipy_io = _library("scipy.io", "formats", path)
    key = _pick({key: shape for key, shape, _ in scipy_io.whosmat(path)}, path, name)
    return np.asarray(scipy_io.loadmat(path, variable_names=[key])[key])


def _is_hdf5(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(520)
    return b"\x89HDF" in (start[:4], start[512:516])


def _read_tiff(path: Path, name: str) -> npt.NDArray[Any]:
    import tifffile

    with tifffile.TiffFile(path) as tif:
        shape = tif.series[0].shape
        _check_size(shape, path, name)
        return tif.series[0].asarray()


def _read_npy(path: Path, name: str) -> npt.NDArray[Any]:
    mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    _check_size(mapped.shape, path, name)
    return np.array(mapped)


def _read_npz(path: Path, name: str) -> npt.NDArray[Any]:
    with np.load(path, allow_pickle=False) as file:
        shapes = {}
        for key in file.files:
            with file.zip.open(f"{key}.npy") as member:
                version = np.lib.format.read_magic(member)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
                shapes[key] = (read or np.lib.format.read_array_header_2_0)(member)[0]
        return np.asarray(file[_pick(shapes, path, name)])


_READERS: dict[str, Callable[[Path, str], npt.NDArray[Any]]] = {
    ".mat": _read_mat,
    ".tif": _read_tiff,
    ".tiff": _read_tiff,
    ".npy": _read_npy,
    ".npz": _read_npz,
}


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(str(n) for n in shape) or "a single number"
